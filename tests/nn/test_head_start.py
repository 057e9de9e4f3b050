"""The closed-form head: the normal equations as numpy solves them, and tokens named from their states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dupmae.nn.backbone import Backbone
from dupmae.nn.head_start import RIDGE, ridge, start_head
from tests.reference.tiny import KINDS, VOCABULARY, tiny_model


def test_ridge_is_least_squares_with_extra_rows() -> None:
    """Ridge on centred data equals lstsq with sqrt(penalty) times the identity appended."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(80, 6)) + 3
    targets = hidden @ rng.normal(size=(6, 4)) + rng.normal(size=(80, 4))
    centred, centred_targets = hidden - hidden.mean(0), targets - targets.mean(0)
    penalty = RIDGE * (centred**2).sum(0).mean()
    rows = np.concatenate([centred, np.sqrt(penalty) * np.eye(6)])
    expected = np.linalg.lstsq(rows, np.concatenate([centred_targets, np.zeros((6, 4))]), rcond=None)[0].T
    weight, bias = ridge(torch.from_numpy(hidden), torch.from_numpy(targets))
    np.testing.assert_allclose(weight.numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(bias.numpy(), targets.mean(0) - expected @ hidden.mean(0), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_head_names_the_token_of_a_state(kind: str) -> None:
    """States are a random linear image of the tokens' embeddings plus noise: the head must invert it."""
    torch.manual_seed(0)
    # Eight dimensions do not hold 50 random tokens apart.
    wider = {"hidden_size": 32, "embedding_size": 24} if kind == "electra-narrow" else {}
    backbone = Backbone(tiny_model(kind, dtype=torch.float32, **wider))
    with torch.no_grad():
        embeddings = backbone.output.weight
        embeddings.copy_(torch.randn_like(embeddings))
    ids = torch.randint(5, VOCABULARY, (4000,))
    hidden = embeddings[ids].detach() @ torch.randn(embeddings.shape[1], backbone.width) + 0.02 * torch.randn(
        4000, backbone.width
    )
    figures = start_head(backbone, hidden, ids)
    fresh = embeddings.detach() @ torch.linalg.lstsq(embeddings[ids].detach(), hidden).solution
    with torch.no_grad():
        logits = backbone.output(backbone.transform(fresh))
    assert float((logits.argmax(1) == torch.arange(VOCABULARY))[5:].float().mean()) > 0.95
    assert figures["accuracy"] > 0.95
    assert figures["cross_entropy"] < 0.5 * np.log(VOCABULARY)
    held_out = torch.nn.functional.cross_entropy(backbone.output(backbone.transform(hidden[:400])), ids[:400])
    assert held_out.item() == pytest.approx(figures["cross_entropy"], rel=1e-3)


def test_the_head_is_judged_on_tokens_that_it_was_not_fitted_to() -> None:
    """The first tenth has a token, and a direction of states, that no other has: a fit without it cannot name it."""
    torch.manual_seed(0)
    backbone = Backbone(tiny_model("bert", dtype=torch.float32))
    with torch.no_grad():
        backbone.output.weight.copy_(torch.randn_like(backbone.output.weight))
    # As many tokens as a state has other directions, each with one of its own.
    width = backbone.width
    own = torch.arange(1000) % (width - 1) + 1
    own[:100] = 0
    figures = start_head(backbone, torch.eye(width)[own], 5 + own)
    assert figures["accuracy"] == 0
