"""The adapter agrees with each family's own code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import FAMILIES, Backbone, attention_kernels, pooled, set_dropout
from tests.reference.tiny import KINDS, random_batch, tiny_model

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


def test_padding_changes_nothing(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    lengths = [20, 6, 11]
    batch = random_batch(kind, lengths, 0)
    padded = backbone.hidden(batch["input_ids"], batch["valid"])
    assert padded.isfinite().all()
    for row, length in enumerate(lengths):
        alone = batch["input_ids"][row : row + 1, :length]
        result = backbone.lm(input_ids=alone, output_hidden_states=True)
        torch.testing.assert_close(padded[row, :length], result.hidden_states[-1][0], **CLOSE)


def test_a_padding_id_among_the_tokens_moves_no_position(kind: str) -> None:
    """A random replacement may draw the padding id; the tokens behind it keep their positions."""
    backbone = Backbone(tiny_model(kind))
    batch = random_batch(kind, [12], 0)
    layer = getattr(backbone.lm.base_model.embeddings, "position_embeddings", None)
    if layer is None:
        assert kind in ("deberta-v2", "modernbert")
        assert backbone.positions(12).equal(torch.zeros(12, 16, dtype=torch.float64))
        return
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output[-1]))
    ids = batch["input_ids"].clone()
    ids[0, 4] = backbone.config.pad_token_id
    backbone.hidden(ids, batch["valid"])
    own = seen[0] @ backbone.lm.electra.embeddings_project.weight.T if kind == "electra-narrow" else seen[0]
    torch.testing.assert_close(own, backbone.positions(12), **CLOSE)


def test_head_and_embeddings_are_the_familys_own(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    batch = random_batch(kind, [20], 1)
    hidden = backbone.hidden(batch["input_ids"], batch["valid"])
    logits = backbone.output(backbone.transform(hidden))
    own = backbone.lm(input_ids=batch["input_ids"], output_hidden_states=True)
    torch.testing.assert_close(logits, own.logits, **CLOSE)
    torch.testing.assert_close(backbone.embed(batch["input_ids"]), own.hidden_states[0], **CLOSE)
    assert backbone.output.weight is backbone.lm.get_input_embeddings().weight


def test_longest_input(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    assert backbone.max_length == 24
    batch = random_batch(kind, [24], 0)
    assert backbone.hidden(batch["input_ids"], batch["valid"]).shape == (1, 24, 16)
    assert backbone.positions(24).shape == (24, 16)


def test_head_parameters_are_those_outside_the_encoder(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    inside = {id(parameter) for parameter in backbone.lm.base_model.parameters()}
    outside = {id(parameter) for parameter in backbone.lm.parameters()} - inside
    assert {id(parameter) for parameter in backbone.head_parameters()} == outside


def test_other_families_are_refused() -> None:
    lm = tiny_model("bert")
    lm.config.model_type = "gpt2"
    with pytest.raises(DupmaeError, match="'gpt2' is not supported") as error:
        Backbone(lm)
    assert all(kind in str(error.value) for kind in FAMILIES)


def test_every_family_is_tested() -> None:
    assert {kind.removesuffix("-narrow").removesuffix("-legacy") for kind in KINDS} == set(FAMILIES)


def test_narrow_embeddings_cannot_hold_the_sentence() -> None:
    backbone = Backbone(tiny_model("electra-narrow"))
    with pytest.raises(DupmaeError, match=r"set objective\.decoder_queries=sum"):
        backbone.embed_sentence(torch.zeros(1, 16, dtype=torch.float64), 4)
    with pytest.raises(DupmaeError, match="narrower than its hidden states"):
        Backbone(tiny_model("deberta-v2-legacy", embedding_size=8))


def test_an_output_without_bias_adds_nothing() -> None:
    backbone = Backbone(tiny_model("modernbert", decoder_bias=False))
    assert not backbone.output.bias.any()
    assert len(backbone.head_parameters()) == 2


def test_pooling_and_dropout() -> None:
    hidden = torch.randn(2, 4, 3)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    assert pooled(hidden, valid, "cls").equal(hidden[:, 0])
    torch.testing.assert_close(pooled(hidden, valid, "mean")[1], hidden[1, :2].mean(0))
    module = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.3)))
    set_dropout(module, 0.0)
    assert [part.p for part in module.modules() if isinstance(part, nn.Dropout)] == [0.0, 0.0]


def test_without_dropout_training_is_evaluation(kind: str) -> None:
    backbone = Backbone(tiny_model(kind, dropout=0.5))
    batch = random_batch(kind, [20, 6], 0)
    expected = backbone.hidden(batch["input_ids"], batch["valid"])
    assert not backbone.train().hidden(batch["input_ids"], batch["valid"]).equal(expected)
    set_dropout(backbone, 0.0)
    torch.testing.assert_close(backbone.hidden(batch["input_ids"], batch["valid"]), expected, **CLOSE)


def test_a_gpu_attends_without_cudnn() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with attention_kernels(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
