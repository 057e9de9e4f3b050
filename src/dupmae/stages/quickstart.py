"""`dupmae quickstart`: nothing but the stages, on the documentation of the installed packages.

Five retrievers are trained or taken as they come, each is measured on the same test queries, and the
report says how they compare.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dupmae.console import logger
from dupmae.corpus.python_docs import documentation
from dupmae.memory import peak_bytes, release
from dupmae.report.run_report import write_picture, write_report
from dupmae.report.systems import Judge
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index as Opened
from dupmae.settings import (
    Finetune,
    Index,
    Prepare,
    Pretrain,
    Quickstart,
    Representation,
    RetrieverSettings,
    Synthesize,
)
from dupmae.settings.models import MINILM
from dupmae.shards.folder import Shards
from dupmae.stages import index as indexing
from dupmae.stages.finetune import Finetuned, finetune
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import Pretrained, pretrain
from dupmae.stages.synthesize import synthesize
from dupmae.training.start import save_untrained

LONGEST_FINETUNE_MINUTES = 1.0
# Encoding the documents four times must not outlast a short run.
SHORT_MINUTES = 4.0
# 8,000 queries tell a difference of .005 in nDCG@10 from chance; pairs are not what is short here.
TEST_SHARE = 0.22
MOST_TEST_QUERIES, FEWEST_TEST_QUERIES = 8000, 3000
VERSIONS = ("dupmae", "torch", "transformers", "tokenizers", "accelerate", "numpy", "scipy", "bm25s")


@dataclass
class Clock:
    """Seconds by stage, and the most memory the process had held by its end."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and announce it."""
        logger.info(f"-- {name}")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)
        release()
        self.peak_bytes[name] = peak_bytes()


def quickstart(settings: Quickstart) -> dict[str, Any]:
    """Run everything, write it under `settings.out`, and return the report.

    Raises:
        DupmaeError: when the starting encoder is not installed or damaged, or too little documentation is found.
    """
    clock = Clock()
    with clock.stage("documentation"):
        data, counts = documentation.build_cached(
            None,
            seed=settings.seed,
            documents=settings.documents,
            test_queries=settings.test_queries or _test_queries(settings.minutes),
            test_share=TEST_SHARE,
            roots=settings.roots,
        )
    start = None if settings.from_scratch else MINILM
    judge = Judge(data / "retrieval", settings.out / "rankings")
    with clock.stage("bm25"):
        judge.bm25()
    with clock.stage("prepare"):
        shards = settings.out / "shards"
        prepare(_prepare(settings, data, shards, start))
        if settings.contrastive is not None:
            # Of the documents alone, which lack the summaries that the queries are.
            synthesize(Synthesize(inputs=[data / "training"], out=settings.out / "pairs", seed=settings.seed))
    if start is None:
        start = str(_untrained(settings, shards))
    with clock.stage("base"):
        base = Retriever.from_encoder(start, _as_it_comes(settings))
        base.save(settings.out / "base")
        judge.retriever("base", settings.out / "base")
    tuned: dict[str, Finetuned] = {}
    with clock.stage("finetune no-pretraining"):
        tuned["no-pretraining"] = finetune(_finetune(settings, data, start, "no-pretraining"))
        judge.retriever("no-pretraining", tuned["no-pretraining"].retriever)
    steps = tuned["no-pretraining"].steps
    with clock.stage("finetune finetuned-dense"):
        tuned["finetuned-dense"] = finetune(_finetune(settings, data, start, "finetuned-dense", steps, "cls"))
        judge.retriever("finetuned-dense", tuned["finetuned-dense"].retriever)
    # A quickstart begins anew: what an earlier one left here is its own.
    shutil.rmtree(settings.out / "pretraining", ignore_errors=True)
    with clock.stage("pretrain"):
        pretrained = pretrain(_pretrain(settings, shards, start))
    with clock.stage("finetune dupmae-hybrid"):
        tuned["dupmae-hybrid"] = finetune(_finetune(settings, data, str(pretrained.encoder), "retriever", steps))
    with clock.stage("index and evaluate"):
        built = Index(retriever=settings.out / "retriever", data=data / "retrieval", out=settings.out / "index")
        judge.hybrid("dupmae", indexing.build(built))
    report = _report(settings, counts, judge, clock, pretrained, tuned)
    examples = judge.examples(Opened.open(settings.out), settings.seed)
    write_report(settings.out, report, _logs(pretrained, tuned), examples)
    write_picture(settings.out / "report.png", report)
    return report


def _test_queries(minutes: float) -> int:
    """1,000 a minute: encoding them for every system must not outlast the training."""
    return int(min(MOST_TEST_QUERIES, max(FEWEST_TEST_QUERIES, 1000 * minutes)))


def _passage_length(settings: Quickstart) -> int:
    length = settings.finetune.passage_length
    return length if settings.minutes >= SHORT_MINUTES else min(length, settings.short_passages)


def _prepare(settings: Quickstart, data: Path, shards: Path, start: str | None) -> Prepare:
    return Prepare(
        inputs=[data / "training"],
        out=shards,
        tokenizer=start,
        max_length=settings.max_length,
        vocabulary=settings.vocabulary,
    )


def _untrained(settings: Quickstart, shards: Path) -> Path:
    """A randomly started encoder saved as a folder, so that every system starts from the same weights."""
    assert settings.from_scratch is not None
    logger.warning(
        "starting from nothing: expect every row to stay below BM25; minutes are too few to learn a language, "
        "hours or a GPU are another matter"
    )
    torch.manual_seed(settings.seed)
    longest = max(settings.max_length, 512)
    return save_untrained(settings.from_scratch, Shards.open(shards), longest, settings.out / "untrained")


def _width(settings: Quickstart) -> int:
    """Hidden size of the starting encoder."""
    return settings.from_scratch.hidden if settings.from_scratch else 384


def _as_it_comes(settings: Quickstart) -> RetrieverSettings:
    """How the starting encoder was meant to be read: mean pooling, unit length."""
    return RetrieverSettings(
        representation=Representation(kind="cls", pooling="mean", normalize=True, dimensions=_width(settings)),
        query_length=settings.finetune.query_length,
        passage_length=_passage_length(settings),
    )


def _finetune(
    settings: Quickstart, data: Path, model: str, name: str, steps: int | None = None, kind: str = "hybrid"
) -> Finetune:
    options = settings.finetune.model_dump()
    options["representation"] |= {
        "kind": kind,
        "dimensions": min(options["representation"]["dimensions"], _width(settings)),
    }
    options["passage_length"] = _passage_length(settings)
    options["steps"] = steps or options["steps"]
    if options["steps"] is None:
        budget = settings.finetune_minutes or min(LONGEST_FINETUNE_MINUTES, 0.1 + settings.minutes / 8)
        options["minutes"] = budget
    options |= {"model": model, "data": data / "training", "out": settings.out / name, "seed": settings.seed}
    # A quickstart begins anew each time, and its minutes are for training.
    options["save_every"] = 0
    return Finetune.model_validate(options)


def _pretrain(settings: Quickstart, shards: Path, start: str) -> Pretrain:
    options = settings.pretrain.model_dump()
    if options["steps"] is None:
        options["minutes"] = settings.minutes
    if settings.contrastive is not None:
        options["contrastive"] = settings.contrastive.model_dump() | {"data": settings.out / "pairs"}
    options |= {"data": shards, "model": start, "out": settings.out / "pretraining", "seed": settings.seed}
    return Pretrain.model_validate(options)


def _report(
    settings: Quickstart,
    counts: documentation.Counts,
    judge: Judge,
    clock: Clock,
    pretrained: Pretrained,
    tuned: dict[str, Finetuned],
) -> dict[str, Any]:
    return {
        "dataset": {key: value for key, value in asdict(counts).items() if isinstance(value, int)},
        "skipped": counts.skipped,
        "systems": judge.table(),
        "p_values": judge.p_values(),
        "fine_tuning": {
            "steps": tuned["no-pretraining"].steps,
            "batch_size": settings.finetune.batch_size,
            "passage_length": _passage_length(settings),
        },
        "pretraining": {"steps": pretrained.steps},
        "seconds": clock.seconds | {"total": round(sum(clock.seconds.values()), 1)},
        "peak_memory_bytes": peak_bytes(),
        "peak_memory_bytes_after": clock.peak_bytes,
        "settings": settings.model_dump(mode="json"),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
    }


def _logs(pretrained: Pretrained, tuned: dict[str, Finetuned]) -> dict[str, list[dict[str, float]]]:
    return {"pretraining": pretrained.log} | {f"finetuning {name}": done.log for name, done in tuned.items()}
