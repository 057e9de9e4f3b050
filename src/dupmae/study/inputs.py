"""What all cells share: the start, the shards of each corpus, the pairs. Made once, kept by what they are made of."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dupmae.corpus.pair_sources import gather
from dupmae.errors import DupmaeError
from dupmae.files import sha256
from dupmae.settings import Study
from dupmae.shards.folder import Shards
from dupmae.stages.prepare import prepare
from dupmae.stages.quickstart import starting_encoder
from dupmae.study.grid import prepare_settings
from dupmae.training.start import save_untrained

# Positions of a random start, whatever the lengths of its texts.
FEWEST_POSITIONS = 512
# Raised when the same settings give other figures than before: what was measured until then is no longer current.
# 2: gradients of LayerNorm, embeddings and confident predictions summed in float32 where the network is bfloat16.
NUMERICS = 2
WEIGHTS = ("config.json", "model.safetensors", "tokenizer.json")


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def digest(path: Path) -> str:
    """16 hexadecimal digits that stand for the contents of a file, or of the files in a folder.

    Raises:
        DupmaeError: when there is nothing.
    """
    files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
    if not files:
        raise DupmaeError("no such file or folder", where=path, fix="give the folder of the collections as data=DIR")
    return fingerprint([[file.relative_to(path).as_posix(), sha256(file)] for file in files])


class Inputs:
    """The inputs of a study's cells, under `study.work`."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def start_key(self) -> Any:
        """What the start is, wherever it lies."""
        start = self.study.start
        if start.from_scratch is not None:
            first = next(iter(self.study.corpora))
            return [start.from_scratch.model_dump(), start.vocabulary, self._raw_key(first)]
        model = self._model()
        there = [Path(model) / name for name in WEIGHTS]
        return [digest(file) for file in there if file.exists()] or model

    def network_key(self) -> Any:
        """What the networks compute before any training: the start, and how it is computed."""
        return [self.start_key(), NUMERICS]

    def _model(self) -> str:
        return self.study.start.model or starting_encoder()

    def start(self, seed: int) -> str:
        """The encoder's folder or hub name; a random start is one for each seed."""
        start = self.study.start
        if start.from_scratch is None:
            return self._model()
        shards = Shards.open(self.shards(next(iter(self.study.corpora))))
        out = self.study.work / f"start-{fingerprint([self.start_key(), seed])}"
        if not out.exists():
            torch.manual_seed(seed)
            save_untrained(start.from_scratch, shards, max(shards.manifest.max_length, FEWEST_POSITIONS), out)
        return str(out)

    def _raw_key(self, name: str) -> Any:
        """What a corpus is made of: its settings less the place, and the contents of its files."""
        settings = prepare_settings(self.study, name, self.study.corpora[name])
        told = settings.model_dump(mode="json", exclude_unset=True, exclude={"inputs", "out", "workers"})
        return [told, [digest(path) for path in settings.inputs]]

    def corpus_key(self, name: str) -> Any:
        """What the shards of a corpus are made of."""
        return [self._raw_key(name), self.start_key()]

    def shards(self, name: str) -> Path:
        """The shards of a corpus."""
        out = self.study.work / f"shards-{fingerprint(self.corpus_key(name))}"
        if not out.exists():
            settings = prepare_settings(self.study, name, self.study.corpora[name])
            prepare(settings.model_copy(update={"out": out} | self._tokenizer(name)))
        return out

    def _tokenizer(self, name: str) -> dict[str, Any]:
        """A random start has the tokenizer that the first corpus trains, all others that of the model."""
        first = next(iter(self.study.corpora))
        if self.study.start.from_scratch is None:
            return {"tokenizer": self._model()}
        if name == first:
            return {"vocabulary": self.study.start.vocabulary}
        return {"tokenizer": str(self.shards(first) / "tokenizer")}

    def pairs_key(self) -> Any:
        """What the pairs are made of."""
        return [
            [name, source.model_dump(mode="json", exclude={"path"}), digest(self.study.data / source.path)]
            for name, source in self.study.pairs.items()
        ]

    def pairs(self) -> Path:
        """The BEIR folder of all pairs."""
        out = self.study.work / f"pairs-{fingerprint(self.pairs_key())}"
        if not out.exists():
            gather(self.study.pairs, self.study.data, out)
        return out

    def tests_key(self) -> Any:
        """What retrievers are measured on."""
        return [
            [name, test.split, digest(self.study.data / test.path)] for name, test in sorted(self.study.tests.items())
        ]
