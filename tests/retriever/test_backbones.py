"""Opening models: what is there, what is missing, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import FAMILIES
from dupmae.nn.head_start import start_head
from dupmae.retriever.backbones import open_backbone, resolve_dtype
from dupmae.shards.tokenizers import load_tokenizer
from tests.reference.tiny import KINDS, VOCABULARY, tiny_folder, tiny_model


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_lm_brings_its_head_and_a_plain_encoder_does_not(kind: str, tmp_path: Path) -> None:
    lm = tiny_model(kind, dtype=torch.float32)
    lm.save_pretrained(tmp_path / "lm")
    lm.base_model.save_pretrained(tmp_path / "encoder")
    opened, brought = open_backbone(str(tmp_path / "lm"))
    assert brought
    for name, value in lm.state_dict().items():
        assert opened.lm.state_dict()[name].equal(value), name
    plain, brought = open_backbone(str(tmp_path / "encoder"))
    assert not brought
    ids, valid = torch.randint(5, VOCABULARY, (2, 8)), torch.ones(2, 8, dtype=torch.bool)
    torch.testing.assert_close(plain.hidden(ids, valid), opened.hidden(ids, valid))


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_started_in_closed_form_is_exported(kind: str, tmp_path: Path) -> None:
    tiny_model(kind, dtype=torch.float32).base_model.save_pretrained(tmp_path / "encoder")
    backbone, _ = open_backbone(str(tmp_path / "encoder"))
    ids = torch.randint(5, VOCABULARY, (2000,))
    hidden = torch.randn(2000, backbone.width)
    start_head(backbone, hidden, ids)
    backbone.lm.save_pretrained(tmp_path / "export")
    again, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    # In float64: the same weights summed in another order must not decide.
    backbone.lm.double(), again.double()
    given = torch.randint(5, VOCABULARY, (2, 8))
    expected = backbone.output(backbone.transform(backbone.hidden(given, torch.ones_like(given, dtype=torch.bool))))
    torch.testing.assert_close(again(input_ids=given).logits, expected, rtol=1e-8, atol=1e-8)


def test_a_configuration_silent_about_the_newer_deberta_head(tmp_path: Path) -> None:
    lm = tiny_model("deberta-v2", dtype=torch.float32)
    lm.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["legacy"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    opened, brought = open_backbone(str(tmp_path))
    assert brought
    assert not opened.config.legacy
    assert opened.output.bias.equal(lm.lm_predictions.lm_head.bias)


@pytest.mark.parametrize("kind", ["gpt2", "nonsense"])
def test_another_family_is_refused_with_the_list(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(DupmaeError, match=f"model family '{kind}' is not supported") as error:
        open_backbone(str(tmp_path))
    assert ", ".join(FAMILIES) in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="no such model folder"):
        open_backbone(str(tmp_path / "absent"))
    with pytest.raises(DupmaeError, match="no model can be loaded"):
        open_backbone(str(tmp_path))


def change(file: Path, **values: object) -> None:
    """Change settings in a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_damaged_configuration_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny_model("bert", dtype=torch.float32).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    whole = file.read_text()
    damaged = ["{", "[]", "3", "null", '"bert"', '{"model_type": []}', '{"model_type": "bert", "vocab_size": "x"}']
    changes: list[dict[str, object]] = [
        {"hidden_act": "unheard"},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"layer_norm_eps": float("nan")},
        {"hidden_dropout_prob": float("inf")},
        {"hidden_size": -16},
        {"num_hidden_layers": None},
        {"pad_token_id": 10**9},
    ]
    for text in [*damaged, *(json.dumps({**json.loads(whole), **change}) for change in changes)]:
        file.write_text(text)
        with pytest.raises(DupmaeError) as error:
            open_backbone(str(tmp_path))
        assert str(tmp_path) in str(error.value) or "model family" in str(error.value), text


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v2"])
@pytest.mark.parametrize("head", [True, False])
def test_weights_of_another_number_of_layers_are_refused(kind: str, head: bool, tmp_path: Path) -> None:
    lm = tiny_model(kind, dtype=torch.float32)
    (lm if head else lm.base_model).save_pretrained(tmp_path)
    name = "n_layers" if kind == "distilbert" else "num_hidden_layers"
    change(tmp_path / "config.json", **{name: 3})
    with pytest.raises(DupmaeError, match=r"its weights lack .*layer\.2\."):
        open_backbone(str(tmp_path))
    change(tmp_path / "config.json", **{name: 1})
    with pytest.raises(DupmaeError, match=r"its weights have .*layer\.1\..*, which config\.json does not"):
        open_backbone(str(tmp_path))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "0.auto_model."])
def test_weights_under_other_names_are_refused(prefix: str, tmp_path: Path) -> None:
    tiny_model("bert", dtype=torch.float32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({prefix + name: value for name, value in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(DupmaeError, match=r"its weights lack bert\.embeddings\.LayerNorm\.bias and \d+ more"):
        open_backbone(str(tmp_path))


def test_every_single_missing_weight_of_the_encoder_is_refused(tmp_path: Path) -> None:
    tiny_model("bert", dtype=torch.float32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name in weights:
        save_file({other: value for other, value in weights.items() if other != name}, tmp_path / "model.safetensors")
        if name.startswith("bert."):
            with pytest.raises(DupmaeError, match=f"its weights lack {name}"):
                open_backbone(str(tmp_path))
        else:
            open_backbone(str(tmp_path))
            with pytest.raises(DupmaeError, match=r"its weights lack cls\.predictions"):
                open_backbone(str(tmp_path), whole=True)


def test_weights_of_other_heads_do_not_matter(tmp_path: Path) -> None:
    tiny_model("bert", dtype=torch.float32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name in ("bert.pooler.dense.weight", "cls.seq_relationship.weight", "bert.embeddings.position_ids"):
        weights[name] = torch.zeros(2, 2)
    save_file(weights, tmp_path / "model.safetensors")
    assert open_backbone(str(tmp_path), whole=True)[1]


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    lm = tiny_model("bert", dtype=torch.float32)
    lm.bert.embeddings.LayerNorm.bias.data[3] = float("nan")
    lm.save_pretrained(tmp_path)
    with pytest.raises(DupmaeError, match=r"LayerNorm\.bias is not finite"):
        open_backbone(str(tmp_path))


def test_code_of_a_model_folder_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither unasked nor on a terminal whose answer is y."""
    tiny_folder(tmp_path)
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\nclass Own:\n    pass\n"
    for name in ("modeling_own", "configuration_own", "tokenization_own"):
        (tmp_path / f"{name}.py").write_text(code)
    auto = {"AutoConfig": "configuration_own.Own", "AutoModelForMaskedLM": "modeling_own.Own"}
    tokenizer = {"AutoTokenizer": ["tokenization_own.Own", "tokenization_own.Own"]}
    change(tmp_path / "config.json", auto_map=auto)
    change(tmp_path / "tokenizer_config.json", auto_map=tokenizer)
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")
    open_backbone(str(tmp_path))
    load_tokenizer(tmp_path)
    change(tmp_path / "config.json", model_type="own")
    change(tmp_path / "tokenizer_config.json", tokenizer_class="Own")
    with pytest.raises(DupmaeError, match="model family 'own' is not supported"):
        open_backbone(str(tmp_path))
    # It may open as a plain tokenizer.json or be refused.
    with suppress(DupmaeError):
        load_tokenizer(tmp_path)
    assert not ran.exists()


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bfloat16_is_none(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says of an A100 and of a V100 or T4."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_dtype("auto") == (torch.bfloat16 if native else torch.float32)
    assert resolve_dtype("bf16") == torch.bfloat16
