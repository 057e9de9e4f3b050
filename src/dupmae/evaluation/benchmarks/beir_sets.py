"""BEIR's 18 published data sets by name, and folders in its layout as collections (Thakur et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dupmae.corpus import beir
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import Collection, Documents, Measures, judged
from dupmae.evaluation.benchmarks.official_files import refuse_count
from dupmae.settings.benchmarks import EvaluateSuite

MEASURES = Measures("ndcg@10", ("ndcg@10",), ("recall@100",))
# BEIR's archives have the folder of the set, some copies another one in it.
PLAIN = "beir"
DEEPEST = 4
UNKNOWN, OWNER = "not stated", "its owner's terms"


@dataclass(frozen=True, slots=True)
class Known:
    """A published data set.

    Attributes:
        queries: judged ones of its test split.
        licence: as the BEIR paper states it.
        public: whether BEIR offers it for download; the others must be had from their owners.
    """

    queries: int
    documents: int
    licence: str
    public: bool = True


SETS = {
    "trec-covid": Known(50, 171_332, "Dataset License Agreement"),
    "bioasq": Known(500, 14_914_602, OWNER, public=False),
    "nfcorpus": Known(323, 3_633, UNKNOWN),
    "nq": Known(3_452, 2_681_468, "CC BY-SA 3.0"),
    "hotpotqa": Known(7_405, 5_233_329, "CC BY-SA 4.0"),
    "fiqa": Known(648, 57_638, UNKNOWN),
    "signal1m": Known(97, 2_866_316, "CC BY-SA 3.0", public=False),
    "trec-news": Known(57, 594_977, OWNER, public=False),
    "robust04": Known(249, 528_155, OWNER, public=False),
    "arguana": Known(1_406, 8_674, "CC BY 4.0"),
    "webis-touche2020": Known(49, 382_545, "CC BY 4.0"),
    "cqadupstack": Known(13_145, 457_199, "Apache 2.0"),
    "quora": Known(10_000, 522_931, UNKNOWN),
    "dbpedia-entity": Known(400, 4_635_922, "CC BY-SA 3.0"),
    "scidocs": Known(1_000, 25_657, "GPL 3.0"),
    "fever": Known(6_666, 5_416_568, "CC BY-SA 3.0"),
    "climate-fever": Known(1_535, 5_416_593, UNKNOWN),
    "scifact": Known(300, 5_183, "CC BY-NC 2.0"),
}
FORUMS = {
    "android": Known(699, 22_998, "Apache 2.0"),
    "english": Known(1_570, 40_221, "Apache 2.0"),
    "gaming": Known(1_595, 45_301, "Apache 2.0"),
    "gis": Known(885, 37_637, "Apache 2.0"),
    "mathematica": Known(804, 16_705, "Apache 2.0"),
    "physics": Known(1_039, 38_316, "Apache 2.0"),
    "programmers": Known(876, 32_176, "Apache 2.0"),
    "stats": Known(652, 42_269, "Apache 2.0"),
    "tex": Known(2_906, 68_184, "Apache 2.0"),
    "unix": Known(1_072, 47_382, "Apache 2.0"),
    "webmasters": Known(506, 17_405, "Apache 2.0"),
    "wordpress": Known(541, 48_605, "Apache 2.0"),
}
"""CQADupStack's twelve, whose mean is its number."""
KNOWN = SETS | {f"cqadupstack/{name}": known for name, known in FORUMS.items()}
PUBLIC = [name for name, known in SETS.items() if known.public]
AVERAGES = {
    "all 18": list(SETS),
    "the 14 public": PUBLIC,
    "the 13 public without cqadupstack": [name for name in PUBLIC if name != "cqadupstack"],
}


def find_sets(folder: Path) -> dict[str, Path]:
    """The data sets in a folder, by name: a folder in BEIR's layout itself, or such folders in it.

    Raises:
        DupmaeError: when there is none.
    """
    if not folder.is_dir():
        raise DupmaeError("no such folder", where=folder, fix=f"name a folder with {layout()}")
    found = {_name(folder, path): path for path in sorted(_folders(folder, DEEPEST))}
    if not found:
        raise DupmaeError("holds no data set", where=folder, fix=f"put there {layout()}")
    return found


def open_set(name: str, folder: Path, settings: EvaluateSuite) -> Collection:
    """One data set as a collection.

    A query's own document is left out of its ranking, as BEIR's own evaluation does (ArguAna asks with its documents).

    Raises:
        DupmaeError: when a file is missing or damaged, or has not the official counts although they are asked for.
    """
    corpus, topics = beir.corpus_file(folder), beir.queries_file(folder, settings.split)
    judgements = beir.qrels_file(folder, settings.split)
    qrels = beir.read_qrels(folder, settings.split)
    known = KNOWN.get(name) if settings.split == "test" else None
    queries = judged(beir.read_queries(folder, settings.split), topics, qrels)
    if known is not None and settings.official:
        refuse_count(judgements, "judged queries", len(queries), known.queries)
    return Collection(
        name=name,
        corpus=corpus,
        stream=partial(_stream, corpus),
        queries=queries,
        measures=MEASURES,
        qrels=qrels,
        official=known is not None and len(queries) == known.queries,
        documents=None if known is None else known.documents,
        files=(corpus, topics, judgements),
        unit="documents",
        drops_own=True,
        notes=() if known is not None else (f"{name}, {settings.split}: not one of BEIR's test splits",),
    )


def _stream(file: Path) -> Documents:
    for _, passage in beir.stream_corpus(file):
        yield [passage]


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz")):
        yield folder
    elif depth > 1:
        for path in folder.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                yield from _folders(path, depth - 1)


def _name(folder: Path, path: Path) -> str:
    """The path below the folder, without a last `beir`; the folder's own name when it is the data set itself."""
    parts = list(path.relative_to(folder).parts) or [path.resolve().name]
    if parts[-1] == PLAIN:
        parts = parts[:-1] or [path.resolve().parent.name]
    if parts[-1] in FORUMS and path.resolve().parent.name == "cqadupstack":
        parts = ["cqadupstack", parts[-1]]
    return "/".join(parts)


def layout() -> str:
    """What a folder has to hold."""
    return "folders in the BEIR layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), named as BEIR names them"
