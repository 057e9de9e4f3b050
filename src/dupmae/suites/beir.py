"""BEIR: any folders in its layout, the 18 published data sets by name, and the averages over them.

Thakur et al. 2021, table 1 and appendix D. `find_sets` finds the folders below one, `evaluate_beir` measures them all.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.corpus import beir
from dupmae.errors import DupmaeError
from dupmae.evaluation.retrieval import METRICS_FILE
from dupmae.files import write_json
from dupmae.recipe.suites import EvaluateSuite
from dupmae.retriever import Retriever
from dupmae.suites.collections import Collection, Documents, Measures, judged
from dupmae.suites.places import refuse_count
from dupmae.suites.retrieval import evaluate_collection

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


def evaluate_beir(settings: EvaluateSuite, retriever: Retriever, out: Path) -> dict[str, Any]:
    """Measure every data set in a folder, and average over those that are whole.

    Returns:
        metrics (averages), sets (metrics, counts, licence of each), missing (published sets that are not there).

    Raises:
        DupmaeError: when there is no data set, one that was asked for is missing, or one is damaged.
    """
    if settings.data is None:
        raise DupmaeError("data is not given", where="beir", fix=f"name a folder with {_layout()}")
    found = _chosen(find_sets(settings.data), settings)
    sets: dict[str, dict[str, Any]] = {}
    for name, folder in found.items():
        logger.info(f"-- {name}")
        collection = open_set(name, folder, settings)
        result = evaluate_collection(settings, collection, retriever, out / name)
        shown = {"metrics": result["metrics"], "counts": result["counts"], "official": result["official"]}
        sets[name] = shown | ({"licence": KNOWN[name].licence} if name in KNOWN else {})
    table = {name: told["metrics"] for name, told in sets.items()}
    result = {
        "suite": "beir",
        "metrics": averages(table, {name for name, told in sets.items() if told["official"]}),
        "main": MEASURES.main,
        "sets": sets,
        "missing": _missing(table),
        "retriever": retriever.fingerprint(),
        "settings": settings.model_dump(mode="json"),
    }
    write_json(out / METRICS_FILE, result)
    return result


def averages(table: dict[str, dict[str, float]], official: Container[str]) -> dict[str, float]:
    """Means over data sets: over those that are there, and each published average that they are enough for.

    Args:
        table: data set -> metric -> value; the forums of CQADupStack one by one.
        official: the data sets that have the official counts; a published average is over these alone.
    """
    whole = _with_forums(table) or table
    published = _with_forums({name: values for name, values in table.items() if name in official})
    here = f"{len(whole)} of {len(SETS)}" if set(whole) < set(SETS) else "all here"
    wanted = {here: list(whole)} | {title: names for title, names in AVERAGES.items() if set(names) <= set(published)}
    return {
        f"{metric}, mean of {title}": math.fsum(whole[name][metric] for name in names) / len(names)
        for title, names in wanted.items()
        for metric in (*MEASURES.graded, *MEASURES.binary)
    }


def _missing(table: dict[str, dict[str, float]]) -> list[str]:
    """The published data sets that are not there; none of them is missed where there are only others."""
    there = _with_forums(table)
    return [name for name in SETS if name not in there] if set(there) & set(SETS) else []


def find_sets(folder: Path) -> dict[str, Path]:
    """The data sets in a folder, by name: a folder in BEIR's layout itself, or such folders in it.

    Raises:
        DupmaeError: when there is none.
    """
    if not folder.is_dir():
        raise DupmaeError("no such folder", where=folder, fix=f"name a folder with {_layout()}")
    found = {_name(folder, path): path for path in sorted(_folders(folder, DEEPEST))}
    if not found:
        raise DupmaeError("holds no data set", where=folder, fix=f"put there {_layout()}")
    return found


def open_set(name: str, folder: Path, settings: EvaluateSuite) -> Collection:
    """One data set as a collection.

    The document that has a query's own id is left out of its ranking, as BEIR's own evaluation does (ArguAna asks with
    its documents).

    Raises:
        DupmaeError: when a file is missing or damaged, or has not the official counts although they are asked for.
    """
    corpus = beir.find_file(folder, "corpus.jsonl")
    topics = beir.find_file(folder, "queries.jsonl")
    judgements = beir.qrels_file(folder, settings.split)
    qrels = beir.read_qrels(folder, settings.split)
    known = KNOWN.get(name) if settings.split == "test" else None
    queries = judged(beir.read_queries(folder), topics, qrels)
    if known is not None and settings.official:
        refuse_count(judgements, "judged queries", len(queries), known.queries)
    return Collection(
        name=name,
        corpus=corpus,
        stream=partial(_stream, corpus),
        queries=queries,
        measures=MEASURES,
        qrels=qrels,
        documents=None if known is None else known.documents,
        files=(corpus, topics, judgements),
        unit="documents",
        drops_own=True,
        notes=() if known is not None else (f"{name}, {settings.split}: not one of BEIR's test splits",),
    )


def _stream(file: Path) -> Documents:
    for _, passage in beir.stream_corpus(file):
        yield [passage]


def _chosen(found: dict[str, Path], settings: EvaluateSuite) -> dict[str, Path]:
    """The data sets that were asked for; `cqadupstack` stands for its forums."""
    if not settings.sets:
        return found
    for name in settings.sets:
        if not any(there == name or there.startswith(f"{name}/") for there in found):
            problem, fix = f"has no data set {name}", f"there are: {', '.join(found)}"
            raise DupmaeError(problem, where=settings.data, fix=fix)
    asked = {name for name in found for wanted in settings.sets if name == wanted or name.startswith(f"{wanted}/")}
    return {name: path for name, path in found.items() if name in asked}


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


def _with_forums(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The table with CQADupStack as the mean of its forums, when all of them are there."""
    forums = {name: values for name, values in table.items() if name.startswith("cqadupstack/")}
    whole = {name: values for name, values in table.items() if name not in forums}
    if len(forums) == len(FORUMS):
        metrics = next(iter(forums.values()))
        whole["cqadupstack"] = {
            metric: math.fsum(values[metric] for values in forums.values()) / len(forums) for metric in metrics
        }
    return whole


def _layout() -> str:
    return "folders in the BEIR layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), named as BEIR names them"
