"""Opening models: what is there, what is missing, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import FAMILIES
from dupmae.nn.head_start import start_head
from dupmae.retriever.backbones import open_backbone, resolve_dtype
from tests.reference.tiny import KINDS, VOCABULARY, tiny_model


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
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DupmaeError, match="no model can be loaded"):
        open_backbone(str(tmp_path))


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bfloat16_is_none(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says of an A100 and of a V100 or T4."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_dtype("auto") == (torch.bfloat16 if native else torch.float32)
    assert resolve_dtype("bf16") == torch.bfloat16
