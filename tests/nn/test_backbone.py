"""The adapter agrees with each family's own code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import FAMILIES, Backbone, pooled, set_dropout
from tests.reference.tiny import random_batch, tiny_model

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(params=list(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


def test_padding_changes_nothing(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    lengths = [20, 6, 11]
    batch = random_batch(kind, lengths, 0)
    padded = backbone.hidden(batch["input_ids"], batch["valid"])
    for row, length in enumerate(lengths):
        alone = batch["input_ids"][row : row + 1, :length]
        result = backbone.lm(input_ids=alone, output_hidden_states=True)
        torch.testing.assert_close(padded[row, :length], result.hidden_states[-1][0], **CLOSE)


def test_a_padding_id_among_the_tokens_moves_no_position(kind: str) -> None:
    """A random replacement may draw the padding id; the tokens behind it keep their positions."""
    backbone = Backbone(tiny_model(kind))
    batch = random_batch(kind, [12], 0)
    seen = []
    layer = backbone.lm.base_model.embeddings.position_embeddings
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.reshape(-1, 16)[-12:]))
    ids = batch["input_ids"].clone()
    ids[0, 4] = backbone.config.pad_token_id
    backbone.hidden(ids, batch["valid"])
    torch.testing.assert_close(seen[0], backbone.positions(12), **CLOSE)


def test_head_and_embeddings_are_the_familys_own(kind: str) -> None:
    backbone = Backbone(tiny_model(kind))
    batch = random_batch(kind, [20], 1)
    hidden = backbone.hidden(batch["input_ids"], batch["valid"])
    logits = backbone.output(backbone.transform(hidden))
    torch.testing.assert_close(logits, backbone.lm(input_ids=batch["input_ids"]).logits, **CLOSE)
    embedded = backbone.lm.base_model.embeddings(input_ids=batch["input_ids"])
    torch.testing.assert_close(backbone.embed(batch["input_ids"]), embedded, **CLOSE)
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
    with pytest.raises(DupmaeError, match="'gpt2' is not supported"):
        Backbone(lm)


def test_pooling_and_dropout() -> None:
    hidden = torch.randn(2, 4, 3)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    assert pooled(hidden, valid, "cls").equal(hidden[:, 0])
    torch.testing.assert_close(pooled(hidden, valid, "mean")[1], hidden[1, :2].mean(0))
    module = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.3)))
    set_dropout(module, 0.0)
    assert [part.p for part in module.modules() if isinstance(part, nn.Dropout)] == [0.0, 0.0]
