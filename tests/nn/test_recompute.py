"""Recomputed layers give the same losses and gradients, dropout and low precision included, and keep less."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from dupmae.nn.backbone import Backbone
from dupmae.nn.precision import LowPrecision
from dupmae.nn.recompute import recompute_activations, transformer_layers


class Sum(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, ids: Tensor, valid: Tensor) -> Tensor:
        return self.backbone.hidden(ids, valid).float().square().mean()


def bert() -> Backbone:
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    return Backbone(BertForMaskedLM(BertConfig(vocab_size=40, **shape)))


def distilbert() -> Backbone:
    config = DistilBertConfig(vocab_size=40, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
    return Backbone(DistilBertForMaskedLM(config))


@pytest.mark.parametrize("make", [bert, distilbert])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_loss_and_gradients_from_less_memory(make: type[Backbone], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = LowPrecision(Sum(make()), dtype).train()
    again = copy.deepcopy(plain)
    recompute_activations(transformer_layers(again.inner.backbone))
    again = copy.deepcopy(again)
    ids, valid = torch.randint(5, 40, (4, 12)), torch.ones(4, 12, dtype=torch.bool)
    losses, kept = [], []
    for model in (plain, again):
        torch.manual_seed(1)
        sizes: list[int] = []
        with saved_tensors_hooks(lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda held: held):
            loss = model(ids, valid)
        loss.backward()
        losses.append(loss.item())
        kept.append(sum(sizes))
    assert losses[0] == losses[1]
    for (name, parameter), (_, other) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        assert parameter.grad is None or parameter.grad.equal(other.grad), name
    assert kept[1] < 0.5 * kept[0]


def test_layers_are_the_whole_stack() -> None:
    backbone = bert()
    assert transformer_layers(backbone) == list(backbone.lm.bert.encoder.layer)
