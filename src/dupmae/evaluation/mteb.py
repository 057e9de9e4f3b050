"""A retriever in mteb: `mteb.evaluate(MtebRetriever(retriever), tasks)` runs every retrieval and reranking task.

mteb asks a model that is a `SearchProtocol` to index a corpus and to search it, so the hybrid score is the exact one
of `Index`, not that of a single dense vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index

Scores = dict[str, dict[str, float]]


class MtebRetriever:
    """A saved retriever behind mteb's protocol of searching models.

    Args:
        name: OWNER/NAME in mteb's results; None: dupmae/ and the folder's name.

    Raises:
        DupmaeError: when the retriever was never saved, or mteb is not installed.
    """

    def __init__(self, retriever: Retriever, *, name: str | None = None) -> None:
        # mteb keeps results by name and revision: other vectors under the same name must not be taken for these.
        revision = hashlib.sha256(json.dumps(retriever.fingerprint(), sort_keys=True).encode("ascii")).hexdigest()
        assert retriever.folder is not None, "fingerprint() refuses a retriever without a folder"
        self.retriever = retriever
        self.mteb_model_meta = _meta(retriever, name or f"dupmae/{retriever.folder.resolve().name}", revision[:40])
        self._scratch: TemporaryDirectory[str] | None = None
        self._index: Index | None = None

    def index(self, corpus: Iterable[Mapping[str, Any]], **given: Any) -> None:
        """Encode and index a corpus, rows of id, text and perhaps title, in place of the one before.

        Args:
            given: mteb's task, split and encoding arguments, on which nothing here depends.
        """
        passages = [Passage(str(row["id"]), row.get("title") or "", row["text"]) for row in corpus]
        self._index = None
        self._scratch = TemporaryDirectory(prefix="dupmae-")
        self._index = Index.build(self.retriever, passages, path=Path(self._scratch.name) / "index")

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None = None,
        **given: Any,
    ) -> Scores:
        """The `top_k` best passages of each query, rows of id and text: query id -> {passage id -> score}.

        Args:
            top_ranked: passages that alone count for each query, in reranking tasks.
            given: as for `index`.
        """
        if self._index is None:
            raise ValueError("index a corpus before searching")
        rows = [(str(row["id"]), row["text"]) for row in queries]
        depth = top_k if top_ranked is None else len(self._index)
        found = self._index.run(dict(rows), depth)
        if top_ranked is None:
            return found
        return {query: _best(scores, top_ranked.get(query, []), top_k) for query, scores in found.items()}


def _best(scores: Mapping[str, float], allowed: Iterable[str], k: int) -> dict[str, float]:
    """The first `k` of the allowed passages; `scores` are sorted, best first."""
    among = set(allowed)
    return dict([(name, score) for name, score in scores.items() if name in among][:k])


def _meta(retriever: Retriever, name: str, revision: str) -> Any:
    """What mteb writes beside the results: what is known, and None for the rest."""
    try:
        from mteb.models.model_meta import ModelMeta
    except ImportError:
        raise DupmaeError("mteb is not installed", where="mteb", fix='pip install "dupmae[mteb]"') from None
    unknown = dict.fromkeys(field for field, told in ModelMeta.model_fields.items() if told.is_required())
    known = {
        "name": name,
        "revision": revision,
        "n_parameters": sum(parameter.numel() for parameter in retriever.encoder.parameters()),
        "max_tokens": retriever.settings.passage_length,
        "embed_dim": retriever.dimensions,
        "similarity_fn_name": "dot",
        "framework": ["PyTorch"],
    }
    return ModelMeta(**{**unknown, **known})
