"""Small real things for the tests: a BEIR folder from the language reference, and an untrained retriever."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch

from dupmae import cli, stages
from dupmae.commands import COMMANDS, Outcome
from dupmae.corpus.beir import Passage, write_beir
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import new_backbone
from dupmae.retriever.model import Retriever
from dupmae.settings import FromScratch, Representation, RetrieverSettings
from dupmae.shards.tokenizers import train_wordpiece


def documents(count: int = 60) -> list[Passage]:
    """The first topics of the language reference that the interpreter carries."""
    return [Passage(name, name, " ".join(text.split())[:900]) for name, text in list(topics.items())[:count]]


def beir_folder(folder: Path, count: int = 60) -> Path:
    """Topics as passages; each asks with its first words and is its own answer, in train and test."""
    passages = documents(count)
    queries = {f"q-{passage.id}": " ".join(passage.text.split()[:6]) for passage in passages}
    qrels = {f"q-{passage.id}": {passage.id: 1} for passage in passages}
    write_beir(folder, passages, queries, {"train": qrels, "test": qrels})
    return folder


def tiny_retriever(folder: Path, kind: Any = "hybrid", texts: Sequence[str] = ()) -> Retriever:
    """A one-layer retriever with random weights, saved."""
    torch.manual_seed(0)
    tokenizer = train_wordpiece(texts or [passage.content for passage in documents()], 400)
    backbone = new_backbone(FromScratch(layers=1, hidden=16, heads=2), tokenizer, 128)
    settings = RetrieverSettings(
        representation=Representation(kind=kind, dimensions=8, top_k=32), query_length=16, passage_length=64
    )
    retriever = Retriever(HybridEncoder(backbone, settings.representation), tokenizer, settings)
    retriever.save(folder)
    return retriever


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Undo what a command does to its process: the log, the environment, garbage collection."""
    logger = logging.getLogger("dupmae")
    before, environment = (logger.handlers[:], logger.propagate, logger.level), dict(os.environ)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
        os.environ.clear()
        os.environ.update(environment)
        gc.enable()


def call(*words: object) -> int:
    """Run a command in this process, as `dupmae WORDS` would; gives the exit code."""
    with unchanged_process():
        return cli.main([str(word) for word in words])


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, run: Callable[[Any], Outcome]) -> None:
    """Let a command call `run` with its settings instead of its stage."""
    monkeypatch.setattr(stages, "call", lambda stage, settings, recipe: run(settings))
    monkeypatch.setitem(COMMANDS, name, replace(COMMANDS[name], outcome=lambda settings, outcome, *recipe: outcome))
