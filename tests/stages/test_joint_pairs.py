"""Two processes fine-tune as one does on the joint batch: same losses and gradients, one set of files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.settings import Finetune
from dupmae.stages import finetune as stage
from tests.reference.tiny import sentences, tiny_folder
from tests.stages.test_joint import launch
from tests.training import joint_pairs
from tests.training.joint_pairs import run

STEPS = 3
TEXTS = sentences(40)
# Seven queries a step: one process has more of them than the other.
COMMON = {"batch_size": 7, "negatives": 2, "steps": STEPS, "dtype": "fp32", "dropout": 0.0, "log_every": 1}
KINDS: dict[str, dict[str, Any]] = {
    # With seed 0 two choices of the parts' weights are .0004 of nDCG apart, which rounding can turn round.
    "hybrid": {"seed": 2, "representation": {"dimensions": 16, "query_terms": "input", "matryoshka": [4]}},
    "flops": {
        "representation": {"kind": "bow", "top_k": 20, "query_flops": 0.5, "passage_flops": 0.25},
        "chunk_size": 4,
    },
    # Words that are counted solve these pairs, and leave next to no gradient.
    "untied": {
        "representation": {"kind": "aggregated", "dimensions": 16, "tied": False, "lexical": "none"},
        "chunk_size": 5,
    },
}


def settings(folder: Path, name: str, kind: str, **changes: Any) -> dict[str, Any]:
    places = {"model": str(folder / "model"), "data": str(folder / "pairs.jsonl"), "out": str(folder / name)}
    return {**COMMON, **places, "save_every": 2, **KINDS[kind], **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process and of two, by name; `mixed` was begun by the one and is ended by the others."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("joint")
    tiny_folder(folder / "model")
    pairs = [{"query": " ".join(text.split()[1:6]), "positive": [text, TEXTS[n - 1]]} for n, text in enumerate(TEXTS)]
    write_text(folder / "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    for kind in KINDS:
        run(settings(folder, f"one-{kind}", kind))
    shutil.copytree(folder / "one-hybrid-training", folder / "mixed-training")
    shutil.rmtree(folder / "mixed-training" / f"checkpoint-{STEPS}")
    jobs = [settings(folder, f"two-{kind}", kind) for kind in KINDS]
    launch(folder, [*jobs, settings(folder, "mixed", "hybrid", resume=True)], main=joint_pairs.main)
    return folder


def log(folder: Path, name: str) -> list[dict[str, float]]:
    lines = (folder / f"{name}-training" / "log.jsonl").read_text().splitlines()
    apart = {"tokens_per_second"}
    return [{key: value for key, value in json.loads(line).items() if key not in apart} for line in lines]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_the_joint_batch(folder: Path, kind: str) -> None:
    found, wanted = log(folder, f"two-{kind}"), log(folder, f"one-{kind}")
    assert len(found) == len(wanted) == STEPS
    for line, other in zip(found, wanted, strict=True):
        assert line == pytest.approx(other, rel=1e-5)
    gradients, expected = (load_file(folder / f"{name}-{kind}.safetensors") for name in ("two", "one"))
    assert gradients.keys() >= expected.keys()
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 0.01
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_run_goes_on_with_another_number_of_processes(folder: Path) -> None:
    for line, other in zip(log(folder, "mixed"), log(folder, "one-hybrid"), strict=True):
        assert line == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_retriever_is_written(folder: Path, kind: str) -> None:
    names = [
        sorted(str(path.relative_to(folder / run)) for path in (folder / run).rglob("*"))
        for run in (f"two-{kind}", f"one-{kind}")
    ]
    assert names[0] == names[1]
    found, wanted = (load_file(folder / f"{run}-{kind}" / "representation.safetensors") for run in ("two", "one"))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)


def test_fewer_queries_than_processes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.processes, "count", lambda: 9)
    with pytest.raises(DupmaeError, match="7 queries a step cannot be dealt out to 9 processes"):
        stage.finetune(Finetune.model_validate(settings(folder, "none", "hybrid")))
