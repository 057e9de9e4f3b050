"""An encoder for ONNX Runtime, checked against torch before it is written under its name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dupmae.errors import DupmaeError
from dupmae.files import write_json
from dupmae.nn.representation import HybridEncoder
from dupmae.shards.tokenise import Tokenisation

if TYPE_CHECKING:
    from dupmae.retriever.model import Retriever

MODEL_FILE, SETTINGS_FILE = "model.onnx", "settings.json"
# Largest difference from torch that float32 products in another order explain.
TOLERANCE = 1e-4
OPSET = 18
# Texts of several lengths, one of them without an ordinary token: padding and the reading at [CLS] are in the check.
CHECKED = ("", "a", "how are objects compared", "Comparison of objects of different types is refused. " * 6)


class _Graph(nn.Module):
    """Ids and attention mask [B, L] to the parts of a passage's vector: [B, d'] and, before the top-k, [B, |V|]."""

    def __init__(self, encoder: HybridEncoder, special: Sequence[int]) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).float().cpu().eval()
        # The exporter knows torch's attention, not one that has its own backward pass.
        self.encoder.backbone.lm.set_attn_implementation("eager")
        self.special = nn.Buffer(torch.tensor(list(special)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        encoder, valid = self.encoder, attention_mask.bool()
        hidden = encoder.backbone.hidden(input_ids, valid)
        parts = []
        if encoder.has_dense:
            parts.append(encoder._dense(hidden, valid))
        if encoder.has_sparse:
            kept = valid & ~torch.eq(input_ids[..., None], self.special).any(-1)
            first = torch.arange(input_ids.shape[1]) == 0
            kept = kept | (first & ~kept.any(1, keepdim=True))
            logits = encoder.backbone.output(encoder.backbone.transform(hidden))
            lowest = torch.finfo(logits.dtype).min
            parts.append(encoder.activate(logits.masked_fill(~kept[..., None], lowest).amax(1), encoder.term_weights))
        return tuple(parts)


def write_onnx(folder: Path, retriever: Retriever) -> float:
    """Write `model.onnx`, its settings and the tokenizer into a folder.

    Returns:
        The largest difference from torch over a few texts, in float32.

    Raises:
        DupmaeError: when the extra is not installed, or the graph's vectors are not torch's.
    """
    _check_installed()
    folder.mkdir(parents=True, exist_ok=True)
    encoder = retriever.encoder
    graph = _Graph(encoder, retriever.tokenizer.all_special_ids).eval()
    outputs = [name for name, there in (("dense", encoder.has_dense), ("sparse", encoder.has_sparse)) if there]
    ids, valid, _ = Tokenisation(retriever.tokenizer).batch(CHECKED, limit=64)
    inputs = (ids, valid.long())
    axes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=encoder.backbone.max_length)}
    with torch.inference_mode():
        torch.onnx.export(
            graph,
            inputs,
            folder / MODEL_FILE,
            input_names=["input_ids", "attention_mask"],
            output_names=outputs,
            dynamic_shapes=(axes, axes),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        difference = _difference(folder / MODEL_FILE, graph, inputs)
    if not difference <= TOLERANCE:
        problem = f"the ONNX vectors differ from torch's by {difference:.2g}, more than {TOLERANCE:g}"
        raise DupmaeError(problem, where=folder / MODEL_FILE, fix="export without onnx, or with another torch version")
    retriever.tokenizer.save_pretrained(folder)
    a, b = encoder.log_scales.detach().exp().tolist()
    settings = {
        "inputs": {"input_ids": "int64 [B, L]", "attention_mask": "int64 [B, L]"},
        "outputs": outputs,
        "query_weights": {"dense": a, "sparse": b},
        **retriever.settings.model_dump(mode="json"),
        "largest_difference_from_torch": difference,
    }
    write_json(folder / SETTINGS_FILE, settings)
    return difference


def _check_installed() -> None:
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DupmaeError(f"{error.name} is not installed", where="onnx", fix='pip install "dupmae[onnx]"') from None


def _difference(model: Path, graph: nn.Module, inputs: tuple[Tensor, Tensor]) -> float:
    """The largest difference of any number, over the whole batch and over each text by itself without padding."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ids, mask = inputs
    batches = [inputs]
    for row, length in enumerate(mask.sum(1).tolist()):
        batches.append((ids[row : row + 1, :length], mask[row : row + 1, :length]))
    worst = 0.0
    for batch_ids, batch_mask in batches:
        expected = graph(batch_ids, batch_mask)
        found = session.run(None, {"input_ids": batch_ids.numpy(), "attention_mask": batch_mask.numpy()})
        for there, here in zip(expected, found, strict=True):
            worst = max(worst, float(np.abs(there.numpy() - here).max()))
    return worst
