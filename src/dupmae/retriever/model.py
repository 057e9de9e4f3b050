"""A trained retriever: load, encode, score, save.

A retriever folder is a plain Hugging Face masked LM with two files more: `representation.json`
(settings of the vectors) and `representation.safetensors` (their parameters). Files for sentence-transformers
(`dupmae.retriever.sentence_transformers`) and a model card stand beside them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array

from dupmae import console
from dupmae.errors import DupmaeError
from dupmae.files import check_files, new_folder, read_json, sha256, write_json
from dupmae.nn.backbone import Backbone
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import open_backbone, resolve_dtype, silent_library
from dupmae.retriever.card import CARD_FILE, model_card
from dupmae.retriever.encoding import Worker, devices, encode
from dupmae.retriever.pooling import as_tuned
from dupmae.retriever.sentence_transformers import write_modules
from dupmae.retriever.vectors import Encoded, Sparse
from dupmae.settings import Representation, RetrieverSettings
from dupmae.settings.models import could_be_of_the_hub, model_folder
from dupmae.shards.tokenise import Tokenisation, without_token
from dupmae.shards.tokenizers import load_tokenizer

SETTINGS_FILE = "representation.json"
PARAMETERS_FILE = "representation.safetensors"
# Where the queries' tower stands when it is not the passages'.
QUERY_FOLDER = "query"
# Files in which a flipped bit shows nowhere but in the vectors.
CHECKED = ("model.safetensors", "tokenizer.json", PARAMETERS_FILE, f"{QUERY_FOLDER}/model.safetensors")


class Retriever:
    """An encoder with its tokenizer and the settings it was trained with.

    Args:
        dtype: what the encoder runs in; auto: bfloat16 where the hardware multiplies it natively.

    Raises:
        DupmaeError: when tokenizer, lengths and model do not go together.
    """

    def __init__(
        self,
        encoder: HybridEncoder,
        tokenizer: Any,
        settings: RetrieverSettings,
        *,
        dtype: Literal["auto", "bf16", "fp32"] = "auto",
    ) -> None:
        self.encoder, self.tokenizer = encoder.eval(), tokenizer
        self.settings = settings.model_copy(update={"representation": encoder.settings})
        self.dtype = dtype
        self.folder: Path | None = None
        self._workers: list[Worker] | None = None
        refuse_misfit(encoder, tokenizer, settings)

    @classmethod
    def from_encoder(
        cls, model: str, settings: RetrieverSettings | None = None, *, dtype: Literal["auto", "bf16", "fp32"] = "auto"
    ) -> Retriever:
        """A plain encoder or masked LM as it comes, seen as a retriever.

        Args:
            model: a folder, a name of the hub, or `minilm`.
            settings: None: the encoder's own vectors, at their own width; pooling and scaling that are left open are
                those that the encoder was tuned with.

        Raises:
            DupmaeError: for a model that cannot be opened, and settings that do not fit it.
        """
        backbone, _ = open_backbone(model)
        if settings is None:
            settings = RetrieverSettings(representation=Representation(kind="cls", dimensions=backbone.width))
        settings = settings.model_copy(update={"representation": as_tuned(settings.representation, model)})
        queries = copy.deepcopy(backbone) if settings.representation.tied is False else None
        encoder = HybridEncoder(backbone, settings.representation, queries)
        return cls(encoder, load_tokenizer(model), settings, dtype=dtype)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        settings: RetrieverSettings | None = None,
        dtype: Literal["auto", "bf16", "fp32"] = "auto",
    ) -> Retriever:
        """Open a retriever folder.

        Args:
            path: the folder, or OWNER/NAME of one on the hub.
            settings: other than those it was trained with; a warning names what differs.

        Raises:
            DupmaeError: when a file is missing, damaged or of another version, or the settings do not fit it.
        """
        path = Path(path)
        if could_be_of_the_hub(path) and len(path.parts) == 2:
            path = Path(model_folder(str(path)))
        kept = read_settings(path)
        check_files(path)
        if settings is not None:
            _warn_of_differences(path, kept, settings)
        used = settings or kept
        backbone, _ = open_backbone(str(path), whole=True)
        untied = used.representation.tied is False
        queries = open_backbone(str(path / QUERY_FOLDER), whole=True)[0] if untied else None
        encoder = HybridEncoder(backbone, used.representation, queries)
        _load_parameters(encoder, path / PARAMETERS_FILE)
        retriever = cls(encoder, load_tokenizer(path), used, dtype=dtype)
        retriever.folder = path
        return retriever

    def save(self, path: str | Path) -> Path:
        """Write the retriever folder whole, with what sentence-transformers needs to open it and a model card.

        The threshold goes into the bias of the vocabulary head, which changes neither the vectors nor what the
        head predicts.
        """
        path = Path(path)
        with new_folder(path, "a retriever", checked=CHECKED) as folder, silent_library():
            encoder = _threshold_in_bias(self.encoder)
            for tower, place in ((encoder.backbone, folder), (encoder.query_backbone, folder / QUERY_FOLDER)):
                if tower is not None:
                    tower.lm.save_pretrained(place)
                    self.tokenizer.save_pretrained(place)
                    write_modules(place, tower, encoder, self.tokenizer, self.settings)
            state = {name: value.contiguous() for name, value in encoder.own_state().items()}
            save_file(state, folder / PARAMETERS_FILE)
            write_json(folder / SETTINGS_FILE, self.settings.model_dump(mode="json"))
            (folder / CARD_FILE).write_text(model_card(encoder, self.settings, name=path.name), encoding="utf-8")
        self.folder = path
        return path

    def __repr__(self) -> str:
        parts = f"{self.representation.kind}, {self.dimensions} dimensions"
        if self.representation.kind in ("bow", "hybrid"):
            parts += f", {self.vocabulary:,} terms"
        return f"Retriever({str(self.folder) if self.folder else 'not saved'}, {parts})"

    @property
    def representation(self) -> Representation:
        """Settings of the vectors."""
        return self.settings.representation

    @property
    def vocabulary(self) -> int:
        """Width |V| of the sparse part."""
        return int(self.encoder.term_weights.shape[0])

    @property
    def dimensions(self) -> int:
        """Width of the dense vectors; 0 when there are none."""
        return self.encoder.searched_width

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of the files that make the vectors.

        Raises:
            DupmaeError: when the retriever was never saved.
        """
        if self.folder is None:
            raise DupmaeError("a retriever has no fingerprint before it is saved", fix="call save first")
        names = ["config.json", "model.safetensors", "tokenizer.json", PARAMETERS_FILE, SETTINGS_FILE]
        if self.encoder.query_backbone is not None:
            names.append(f"{QUERY_FOLDER}/model.safetensors")
        return {name: sha256(self.folder / name) for name in names}

    def encode_queries(self, texts: str | Sequence[str], *, batch_tokens: int | None = None) -> Encoded:
        """Encode queries; part weights are folded in here, and all of mu is kept (DupMAE, section 3.3).

        Args:
            texts: [n]; a string is one query.
            batch_tokens: tokens of a batch, padding included; None: what suits the device.
        """
        return self._joined(self._encoded([texts] if isinstance(texts, str) else texts, batch_tokens, queries=True))

    def encode_passages(self, texts: str | Sequence[str], *, batch_tokens: int | None = None) -> Encoded:
        """Encode passages; each keeps the top-k of its vocabulary part. A string is one passage."""
        texts = [texts] if isinstance(texts, str) else texts
        return self._joined(self.passage_batches(texts, batch_tokens=batch_tokens))

    def passage_batches(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> Iterator[Encoded]:
        """Encoded passages in the order of `texts`, block by block, in memory that does not grow with them."""
        yield from self._encoded(texts, batch_tokens, queries=False)

    def score(self, queries: Encoded, passages: Encoded) -> np.ndarray:
        """Every score, [Q, P] float32 (DupMAE, equation 12)."""
        dense = queries.dense @ passages.dense.T
        scores: np.ndarray = dense + (queries.sparse @ passages.sparse.T).toarray()
        return scores

    def _joined(self, batches: Iterator[Encoded]) -> Encoded:
        found = list(batches)
        if found:
            return Encoded.concatenate(found)
        nothing: Sparse = csr_array(np.zeros((0, self.vocabulary), dtype=np.float32))
        return Encoded(np.zeros((0, self.dimensions), dtype=np.float32), nothing)

    def _encoded(self, texts: Sequence[str], batch_tokens: int | None, *, queries: bool) -> Iterator[Encoded]:
        told = self.settings
        with console.progress("encoding", len(texts), "queries" if queries else "passages") as bar:
            yield from encode(
                self._prepared(),
                self._tokenise,
                texts,
                prefix=told.query_prefix if queries else told.passage_prefix,
                limit=told.query_length if queries else told.passage_length,
                vocabulary=self.vocabulary,
                keep=None if queries else self.representation.top_k,
                queries=queries,
                counts=not queries and self.encoder.has_counts,
                batch_tokens=batch_tokens,
                bar=bar,
            )

    @cached_property
    def _tokenise(self) -> Tokenisation:
        return Tokenisation(self.tokenizer)

    def _prepared(self) -> list[Worker]:
        """An encoder for inference on each device, made at the first call."""
        if self._workers is None:
            dtype, tokenise = resolve_dtype(self.dtype), self._tokenise
            self._workers = [Worker(self.encoder, where, dtype, tokenise.special, tokenise.pad) for where in devices()]
        return self._workers


def refuse_misfit(encoder: HybridEncoder, tokenizer: Any, settings: RetrieverSettings) -> None:
    """Refuse texts longer than the model takes, and a tokenizer with entries that the model does not know.

    Entries of the model without a token get a weight below 0, so that they are no terms.
    """
    longest = encoder.backbone.max_length
    for name in ("query_length", "passage_length"):
        if getattr(settings, name) > longest:
            raise DupmaeError(f"the model takes {longest} tokens", where=name, fix=f"set {name}={longest} or less")
    missing = torch.from_numpy(without_token(tokenizer, len(encoder.term_weights)))
    encoder.term_weights.data[missing.to(encoder.term_weights.device)] = -1.0


def read_settings(path: Path) -> RetrieverSettings:
    """What a retriever folder was trained with.

    Raises:
        DupmaeError: when it is none, or of another version.
    """
    if not (path / SETTINGS_FILE).exists():
        raise DupmaeError("not a retriever folder", where=path, fix=f"{SETTINGS_FILE} is missing; run finetune")
    try:
        return RetrieverSettings.model_validate(read_json(path / SETTINGS_FILE))
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise DupmaeError(message, where=path / SETTINGS_FILE, fix="use the version that wrote it") from None


def _warn_of_differences(path: Path, kept: RetrieverSettings, used: RetrieverSettings) -> None:
    """Name every setting that is not the one the retriever was trained with."""
    trained = kept.model_dump() | kept.representation.model_dump()
    given = used.model_dump() | used.representation.model_dump()
    for name, value in given.items():
        if name != "representation" and value != trained[name]:
            console.logger.warning("%s: trained with %s=%s, loaded with %s", path, name, trained[name], value)


def _load_parameters(encoder: HybridEncoder, file: Path) -> None:
    try:
        state = load_file(file)
        if "projection.weight" in state:
            # The first dimensions of a dense vector are a shorter one, trained as such with matryoshka.
            state["projection.weight"] = state["projection.weight"][: encoder.settings.dimensions]
        result = encoder.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise DupmaeError(f"damaged or of other settings: {reason}", where=file, fix="run finetune again") from None
    missing = [name for name in result.missing_keys if name in encoder.own_state()]
    if missing:
        raise DupmaeError(f"lacks {missing[0]}", where=file, fix="run finetune again")


@torch.no_grad()
def _threshold_in_bias(encoder: HybridEncoder) -> HybridEncoder:
    """A copy that takes the threshold from the vocabulary head's biases; where the head has none, as it is."""
    encoder = copy.deepcopy(encoder)
    towers: list[Backbone] = [tower for tower in (encoder.backbone, encoder.query_backbone) if tower is not None]
    biases = [tower.output.bias for tower in towers]
    if all(isinstance(bias, torch.nn.Parameter) for bias in biases):
        for bias in biases:
            bias.sub_(encoder.threshold)
        encoder.threshold.zero_()
    return encoder
