"""Activation checkpointing: layers whose inner states are computed again in the backward pass, not kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from dupmae.nn.backbone import Backbone


def transformer_layers(backbone: Backbone) -> list[nn.Module]:
    """The backbone's layers, from the embeddings up."""
    count = getattr(backbone.config, "num_hidden_layers", None) or backbone.config.n_layers
    lists = (module for module in backbone.lm.base_model.modules() if isinstance(module, nn.ModuleList))
    return list(next(layers for layers in lists if len(layers) == count))


def recompute_activations(layers: list[nn.Module]) -> None:
    """Make layers keep nothing but their inputs for the backward pass (Chen et al. 2016, section 3)."""
    for layer in layers:
        _Recomputed(layer)


class _Recomputed:
    """Stands in for a layer's forward; the same parameters, random numbers and inputs are used both times."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer, self._forward, self._inside = layer, layer.forward, False
        layer.forward = self.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._inside or not self._layer.training:
            return self._forward(*args, **kwargs)
        present: dict[str, Tensor] = dict(self._layer.named_parameters())
        if all(isinstance(parameter, nn.Parameter) for parameter in present.values()):
            return checkpoint(self._forward, *args, use_reentrant=False, **kwargs)

        def with_present(*args: Any, **kwargs: Any) -> Any:
            # The low-precision copies are gone from the layer when backward comes.
            self._inside = True
            try:
                return functional_call(self._layer, present, args, kwargs)
            finally:
                self._inside = False

        return checkpoint(with_present, *args, use_reentrant=False, **kwargs)
