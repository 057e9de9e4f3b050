"""A closed-form start for the vocabulary head of an encoder that comes without one.

Ridge regression from final hidden states onto the input embeddings of the same tokens; the head of every
family (dense, GELU, LayerNorm, tied output) can represent the result, so the start needs no special module.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dupmae.nn.backbone import Backbone

# GELU(x) equals x to 4 digits above 4: the head's dense output is kept inside [5, 15] for most inputs.
GELU_SHIFT = 10.0
GELU_SPREAD = 1.5
RIDGE = 1e-3
# Tokens kept from the regression to choose the logit scale: their logits are held whole.
HELD_OUT = 500


def ridge(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Solve min ||hidden W^T + b - targets||^2 + ridge; hidden [N, d], targets [N, e] -> W [e, d], b [e]."""
    hidden, targets = hidden.double(), targets.double()
    mean_hidden, mean_target = hidden.mean(0), targets.mean(0)
    centred = hidden - mean_hidden
    gram = centred.T @ centred
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, centred.T @ (targets - mean_target)).T
    return weight, mean_target - weight @ mean_hidden


@torch.no_grad()
def start_head(backbone: Backbone, hidden: Tensor, ids: Tensor) -> dict[str, float]:
    """Set the head so that its logits name the token a hidden state belongs to.

    Args:
        hidden: [N, d] final hidden states of ordinary tokens.
        ids: [N] their token ids.

    Returns:
        `accuracy` and `cross_entropy` over tokens that the regression did not see, and the logit `scale` that they
        choose.
    """
    held_out = max(1, min(HELD_OUT, len(ids) // 10))
    embeddings = backbone.output.weight
    # A direction shared by all embeddings says nothing about the token and LayerNorm removes it anyway.
    weight, bias = ridge(hidden[held_out:], embeddings[ids[held_out:]] - embeddings.mean(0))
    spread = (hidden[:held_out].double() @ weight.T + bias).std()
    backbone.give_head_bias()
    dense, norm = backbone.head_parts()
    dense.weight.copy_(weight * (GELU_SPREAD / spread))
    dense.bias.copy_(bias * (GELU_SPREAD / spread) + GELU_SHIFT)
    norm.weight.fill_(1.0)
    if norm.bias is not None:
        norm.bias.zero_()
    backbone.output.bias.zero_()
    outputs = backbone.transform(hidden[:held_out].to(dense.weight.dtype))
    logits = outputs @ embeddings.T
    unit = 1.0 / logits.gather(1, ids[:held_out, None]).mean()
    losses = {scale: F.cross_entropy(logits * unit * scale, ids[:held_out]).item() for scale in range(4, 41, 2)}
    best = min(losses, key=lambda scale: losses[scale])
    norm.weight.fill_(float(unit * best))
    accuracy = (logits.argmax(1) == ids[:held_out]).float().mean().item()
    return {"accuracy": accuracy, "cross_entropy": losses[best], "scale": float(best)}
