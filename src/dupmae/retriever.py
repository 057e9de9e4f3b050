"""A trained retriever: load, encode, score, save.

A retriever folder is a plain Hugging Face masked LM with two files more: `representation.json`
(settings of the hybrid vector) and `representation.safetensors` (its parameters).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor

from dupmae import console
from dupmae.batches import budget_batches
from dupmae.corpus.tokenizers import load_tokenizer
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, read_json, sha256, write_json
from dupmae.models import device, open_backbone, resolve_dtype, silent_library
from dupmae.nn.representation import HybridEncoder
from dupmae.recipe import Representation, RetrieverSettings
from dupmae.vectors import Encoded, Sparse

SETTINGS_FILE = "representation.json"
PARAMETERS_FILE = "representation.safetensors"


class Retriever:
    """An encoder with its tokenizer and the settings it was trained with."""

    def __init__(self, encoder: HybridEncoder, tokenizer: Any, settings: RetrieverSettings) -> None:
        self.encoder, self.tokenizer, self.settings = encoder.eval(), tokenizer, settings
        self.folder: Path | None = None
        self._fast: HybridEncoder | None = None

    @classmethod
    def from_encoder(cls, model: str, settings: RetrieverSettings) -> Retriever:
        """A plain encoder or masked LM as it comes, seen as a retriever."""
        backbone, _ = open_backbone(model)
        return cls(HybridEncoder(backbone, settings.representation), load_tokenizer(model), settings)

    @classmethod
    def load(cls, path: str | Path) -> Retriever:
        """Open a retriever folder.

        Raises:
            DupmaeError: when a file is missing, damaged or of another version.
        """
        path = Path(path)
        if not (path / SETTINGS_FILE).exists():
            raise DupmaeError("not a retriever folder", where=path, fix=f"{SETTINGS_FILE} is missing; run finetune")
        try:
            settings = RetrieverSettings.model_validate(read_json(path / SETTINGS_FILE))
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise DupmaeError(message, where=path / SETTINGS_FILE, fix="use the version that wrote it") from None
        retriever = cls.from_encoder(str(path), settings)
        try:
            result = retriever.encoder.load_state_dict(load_file(path / PARAMETERS_FILE), strict=False)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise DupmaeError(f"damaged: {reason}", where=path / PARAMETERS_FILE, fix="run finetune again") from None
        missing = [name for name in result.missing_keys if not name.startswith("backbone.")]
        if missing:
            raise DupmaeError(f"lacks {missing[0]}", where=path / PARAMETERS_FILE, fix="run finetune again")
        retriever.folder = path
        return retriever

    def save(self, path: str | Path) -> Path:
        """Write the retriever folder whole."""
        path = Path(path)
        with new_folder(path) as folder, silent_library():
            self.encoder.backbone.lm.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            state = {n: p.contiguous() for n, p in self.encoder.state_dict().items() if not n.startswith("backbone.")}
            save_file(state, folder / PARAMETERS_FILE)
            write_json(folder / SETTINGS_FILE, self.settings.model_dump(mode="json"))
        self.folder = path
        return path

    @property
    def representation(self) -> Representation:
        """Settings of the hybrid vector."""
        return self.settings.representation

    @property
    def vocabulary(self) -> int:
        """Width |V| of the sparse part."""
        return int(self.encoder.term_weights.shape[0])

    @property
    def dimensions(self) -> int:
        """Width d' of the dense part; 0 when there is none."""
        return self.representation.dimensions if self.encoder.has_dense else 0

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of the files that make the vectors.

        Raises:
            DupmaeError: when the retriever was never saved.
        """
        if self.folder is None:
            raise DupmaeError("a retriever has no fingerprint before it is saved", fix="call save first")
        names = ("config.json", "model.safetensors", "tokenizer.json", PARAMETERS_FILE, SETTINGS_FILE)
        return {name: sha256(self.folder / name) for name in names}

    def encode_queries(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Encoded:
        """Encode queries; part weights are folded in here, and all of mu is kept (DupMAE, section 3.3)."""
        limit = self.settings.query_length
        return Encoded.concatenate(list(self._batches(texts, limit, batch_tokens, queries=True, ordered=True)))

    def encode_passages(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Encoded:
        """Encode passages; each keeps the top-k of its vocabulary part."""
        return Encoded.concatenate(list(self.passage_batches(texts, batch_tokens=batch_tokens)))

    def passage_batches(self, texts: Sequence[str], *, batch_tokens: int = 8192) -> Iterator[Encoded]:
        """Encoded passages in the order of `texts`, block by block, in memory that does not grow with them."""
        block = 20_000
        with console.progress("encoding", len(texts), "passages") as bar:
            for start in range(0, len(texts), block):
                part = texts[start : start + block]
                limit = self.settings.passage_length
                yield from self._batches(part, limit, batch_tokens, queries=False, ordered=True, bar=bar)

    def score(self, queries: Encoded, passages: Encoded) -> np.ndarray:
        """Every score, [Q, P] float32 (DupMAE, equation 12)."""
        dense = queries.dense @ passages.dense.T
        scores: np.ndarray = dense + (queries.sparse @ passages.sparse.T).toarray()
        return scores

    def _batches(
        self,
        texts: Sequence[str],
        limit: int,
        batch_tokens: int,
        *,
        queries: bool,
        ordered: bool,
        bar: console.Bar | None = None,
    ) -> Iterator[Encoded]:
        ids = self.tokenizer(list(texts), truncation=True, max_length=limit, add_special_tokens=True)["input_ids"]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        done = []
        for rows in budget_batches(lengths, batch_tokens, order):
            done.append(self._encode([ids[row] for row in rows], queries=queries))
            if bar is not None:
                bar.advance(len(rows))
        if done:
            joined = Encoded.concatenate(done)
            back = np.argsort(order)
            yield Encoded(joined.dense[back], joined.sparse[back])

    @torch.inference_mode()
    def _encode(self, rows: list[list[int]], *, queries: bool) -> Encoded:
        encoder = self._inference_encoder()
        input_ids = torch.full((len(rows), max(map(len, rows))), int(self.tokenizer.pad_token_id))
        for place, row in enumerate(rows):
            input_ids[place, : len(row)] = torch.tensor(row)
        valid = torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        special = torch.isin(input_ids, torch.tensor(self.tokenizer.all_special_ids))
        where = device()
        vectors = encoder(input_ids.to(where), valid.to(where), special.to(where))
        scales = self.encoder.log_scales.exp().cpu()
        dense = np.zeros((len(rows), 0), dtype=np.float32)
        if vectors.dense is not None:
            dense = (vectors.dense.float().cpu() * (scales[0] if queries else 1.0)).numpy()
        values = torch.zeros(len(rows), self.vocabulary) if vectors.sparse is None else vectors.sparse.float().cpu()
        keep = None if queries else self.representation.top_k
        return Encoded(dense, _rows(values * (scales[1] if queries else 1.0), keep))

    def _inference_encoder(self) -> HybridEncoder:
        """A copy in bfloat16 where the hardware multiplies it natively, made at the first call."""
        if self._fast is None:
            self._fast = copy.deepcopy(self.encoder).to(device=device(), dtype=resolve_dtype("auto")).eval()
        return self._fast


def _rows(values: Tensor, keep: int | None) -> Sparse:
    """The positive entries of [B, |V|] as sparse rows, at most the `keep` largest of each."""
    if keep is not None and keep < values.shape[1]:
        best, columns = values.topk(keep, dim=1)
        kept = best > 0
        indices, data = columns[kept].numpy(), best[kept].numpy()
        counts = kept.sum(1).numpy()
    else:
        kept = values > 0
        indices, data = kept.nonzero()[:, 1].numpy(), values[kept].numpy()
        counts = kept.sum(1).numpy()
    bounds = np.concatenate([[0], np.cumsum(counts)])
    shape = (values.shape[0], values.shape[1])
    matrix = csr_array((data, indices.astype(np.int32), bounds.astype(np.int32)), shape=shape)
    matrix.sort_indices()
    return matrix
