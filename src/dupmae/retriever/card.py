"""The README of a retriever folder: a model card for people and the hub, made from what is known and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dupmae.errors import DupmaeError
from dupmae.files import read_json
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.sentence_transformers import SPARSE_FOLDER, differences
from dupmae.settings import RetrieverSettings

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Measured:
    """One `metrics.json`: the data's name, how many queries and passages, the metrics, the files they are of."""

    data: str
    counts: Mapping[str, int]
    metrics: Mapping[str, float]
    retriever: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Read what `dupmae evaluate` wrote.

        Raises:
            DupmaeError: when it is missing or something else.
        """
        found = read_json(path)
        try:
            settings = found["settings"]
            name = f"{Path(settings['data']).name}, {settings['split']}"
            metrics = {key: float(value) for key, value in found["metrics"].items()}
            return cls(name, dict(found["counts"]), metrics, dict(found["retriever"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            fix = "give a metrics.json that `dupmae evaluate` wrote"
            raise DupmaeError("holds no metrics", where=path, fix=fix) from None


def model_card(
    encoder: HybridEncoder,
    settings: RetrieverSettings,
    *,
    name: str = "retriever",
    license: str | None = None,
    languages: Sequence[str] = (),
    data: Sequence[str] = (),
    base_model: str | None = None,
    measured: Sequence[Measured] = (),
    onnx: bool = False,
) -> str:
    """The card's text, with the front matter that the hub reads.

    Args:
        license: its identifier, such as apache-2.0; None: the card says that none was given.
        data: what it was trained on, in the words of the person who publishes it.
    """
    sections = [
        f"# {name}",
        _what_it_is(encoder, settings),
        "## Use\n\n" + _usage(encoder, settings),
        "## What the modules of sentence-transformers leave to you\n\n"
        + _bullets(differences(encoder, settings) or ["Nothing."]),
        "## Data\n\n" + (_bullets(data) if data else "Not stated."),
        "## Metrics\n\n" + ("\n\n".join(_table(one) for one in measured) if measured else "None given."),
        "## Settings\n\n```yaml\n" + yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False) + "```",
        "## Licence\n\n" + (license or "None was given."),
    ]
    if onnx:
        sections.insert(3, "`onnx/` holds the same encoder for ONNX Runtime; `onnx/settings.json` describes it.")
    front = _front_matter(encoder, name, license, languages, base_model, measured)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(
    encoder: HybridEncoder,
    name: str,
    license: str | None,
    languages: Sequence[str],
    base_model: str | None,
    measured: Sequence[Measured],
) -> str:
    front: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity" if encoder.has_dense else "feature-extraction",
        "tags": ["sentence-transformers", "dupmae", "retrieval"] + (["sparse-encoder"] if encoder.has_sparse else []),
    }
    given = {"license": license, "language": list(languages), "base_model": base_model}
    front |= {key: value for key, value in given.items() if value}
    if measured:
        results = [
            {
                "task": {"type": "information-retrieval"},
                "dataset": {"name": one.data, "type": one.data.partition(",")[0]},
                "metrics": [{"type": metric, "value": round(value, 6)} for metric, value in one.metrics.items()],
            }
            for one in measured
        ]
        front["model-index"] = [{"name": name, "results": results}]
    text: str = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return text


def _what_it_is(encoder: HybridEncoder, settings: RetrieverSettings) -> str:
    shape = settings.representation
    parts = []
    if encoder.has_dense:
        length = " of unit length" if shape.normalize else ""
        parts.append(f"a dense vector of {shape.dimensions} numbers{length} from the {_POOLED[shape.pooling]}")
    if encoder.has_sparse:
        parts.append(f"a sparse vector over {len(encoder.term_weights):,} vocabulary entries")
    return (
        f"A retriever that turns a text into {' and '.join(parts)}; the score of a query and a passage is the inner "
        f"product. Queries are cut to {settings.query_length} tokens, passages to {settings.passage_length}. "
        "Trained with dupmae."
    )


_POOLED = {"cls": "first token", "mean": "mean of the tokens"}


def _usage(encoder: HybridEncoder, settings: RetrieverSettings) -> str:
    blocks = [
        "import dupmae\n\n"
        "retriever = dupmae.Retriever.load(FOLDER)\n"
        'queries = retriever.encode_queries(["how are objects compared"])\n'
        'passages = retriever.encode_passages(["Comparison of objects of different types"])\n'
        "print(retriever.score(queries, passages))"
    ]
    if encoder.has_dense:
        blocks.append(
            "from sentence_transformers import SentenceTransformer\n\n"
            "dense = SentenceTransformer(FOLDER)\n"
            'print(dense.encode_query("how are objects compared"))'
        )
    if encoder.has_sparse:
        blocks.append(
            "from sentence_transformers import SparseEncoder\n\n"
            f'sparse = SparseEncoder(f"{{FOLDER}}/{SPARSE_FOLDER}")\n'
            'print(sparse.encode_query("how are objects compared"))'
        )
    return "\n\n".join(f"```python\n{block}\n```" for block in blocks)


def _table(measured: Measured) -> str:
    rows = "\n".join(f"| {metric} | {value:.4f} |" for metric, value in measured.metrics.items())
    counts = measured.counts
    asked = f"{measured.data}: {counts.get('queries', 0):,} queries in {counts.get('passages', 0):,} passages"
    return f"{asked}\n\n| metric | value |\n|---|---|\n{rows}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
