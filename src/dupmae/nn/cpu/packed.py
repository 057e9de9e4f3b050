"""Linear layers for inference on a CPU: weights put once into oneDNN's own order, bias and GELU part of the product.

A plain layer copies its bias into the output, reorders its weights at every call, and leaves GELU a pass of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

# Rows of a product that the order of the weights is chosen for; it serves any number.
ROWS = 2048
# What BERT, its kin, ELECTRA, MPNet and DeBERTa call the activation after a layer named `dense`.
FOLLOWING = "intermediate_act_fn"


class PackedLinear(nn.Module):
    """The same as a bfloat16 linear layer, with GELU after it if asked for; without gradients."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, states: Tensor) -> Tensor:
        """States [.., d] to [.., e], both bfloat16."""
        done: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, *self._after)
        return done


def can_pack() -> bool:
    """Whether torch has oneDNN's bfloat16 products here."""
    found: bool = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # type: ignore[no-untyped-call]
    return found


def pack(body: nn.Module) -> None:
    """Replace every bfloat16 linear layer inside a module; where that cannot be done, nothing happens."""
    if not can_pack():
        return
    for module in list(body.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear) and layer.weight.dtype == torch.bfloat16:
                gelu = name == "dense" and isinstance(getattr(module, FOLLOWING, None), GELUActivation)
                setattr(module, name, PackedLinear(layer, gelu))
                if gelu:
                    setattr(module, FOLLOWING, nn.Identity())
