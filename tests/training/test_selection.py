"""Fine-tuning that keeps the weights with the best correlation on scored pairs, also when it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from dupmae.corpus.sts_pairs import Alike, read_sts_pairs
from dupmae.files import write_text
from dupmae.retriever.model import Retriever
from dupmae.settings import Finetune
from dupmae.stages.finetune import Finetuned, finetune
from dupmae.training import selection
from tests.reference.tiny import tiny_folder
from tests.tiny import call
from tests.training.checkpointed import at_step
from tests.training.tuning import TEXTS, query_of, settings, write_pairs

CLS = {"kind": "cls", "dimensions": 32, "normalize": True, "part_weights": [20, 1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("selection")
    tiny_folder(folder / "model")
    write_pairs(folder / "pairs.jsonl")
    # Texts of one pattern are alike, more so when their numbers are close.
    rows = [f"g\tf\ty\t{n}\t{5 - n % 6}\t{query_of(text)}\t{TEXTS[n - n % 6]}" for n, text in enumerate(TEXTS[:30])]
    write_text(folder / "dev.csv", "\n".join(rows))
    return folder


def chosen(folder: Path, out: str, **changes: Any) -> Finetune:
    values = {"dev": folder / "dev.csv", "dev_every": 2, "steps": 7, "representation": CLS, "learning_rate": 1e-2}
    values |= {"warmup": 0.0, "save_every": 3, "log_every": 5}
    return settings(folder / "model", folder / "pairs.jsonl", folder / out, **{**values, **changes})


@pytest.fixture(scope="module")
def whole(folder: Path) -> Finetuned:
    return finetune(chosen(folder, "whole"))


def measured(done: Finetuned) -> dict[int, float]:
    return {int(line["step"]): line["probe_spearman"] for line in done.log if "probe_spearman" in line}


def test_the_correlation_is_that_of_cosines(folder: Path, whole: Finetuned) -> None:
    found = measured(whole)
    assert list(found) == [2, 4, 6, 7]
    pairs = read_sts_pairs(folder / "dev.csv")
    retriever = Retriever.load(whole.retriever, dtype="fp32")
    left, right = (
        torch.from_numpy(retriever.encode_queries(texts).dense).double()
        for texts in ([pair.left for pair in pairs], [pair.right for pair in pairs])
    )
    cosines = torch.nn.functional.cosine_similarity(left, right).numpy()
    expected = spearmanr([pair.gold for pair in pairs], cosines).statistic
    assert selection.correlation(pairs, retriever) == pytest.approx(expected, abs=1e-3)
    assert max(found.values()) == pytest.approx(expected, abs=1e-3)
    same = [Alike(text, text, 2.0) for text in ("a thread", "a file")]
    assert selection.correlation(same, retriever) == 0


def test_the_best_weights_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, seen = iter([0.3, 0.9, 0.9, 0.5]), []

    def scripted(pairs: list[Alike], retriever: Retriever) -> float:
        seen.append(retriever.encoder.backbone.lm.bert.embeddings.word_embeddings.weight.detach().clone())
        return next(said)

    monkeypatch.setattr(selection, "correlation", scripted)
    done = finetune(chosen(folder, "scripted", save_every=0))
    assert list(measured(done).values()) == [0.3, 0.9, 0.9, 0.5]
    kept = load_file(done.retriever / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    assert [weight.equal(kept) for weight in seen] == [False, True, False, False]


def test_a_stopped_run_keeps_the_same(folder: Path, whole: Finetuned, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped after its best weights were written and before the checkpoint that would have known of them."""

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        at_step(patched, 5, stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(chosen(folder, "stopped"))
    resumed = finetune(chosen(folder, "stopped", resume=True))
    assert measured(resumed) == measured(whole)
    ours, theirs = (load_file(folder / run / "model.safetensors") for run in ("stopped", "whole"))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_measuring_changes_no_weights(folder: Path, whole: Finetuned) -> None:
    finetune(chosen(folder, "unmeasured", dev=None))
    ours, theirs = (
        load_file(folder / f"{run}-training" / "checkpoint-7" / "model.safetensors") for run in ("unmeasured", "whole")
    )
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_the_benchmark_of_sentence_pairs_comes_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["--model", "model", "--data", "pairs.jsonl", "--out", "said", "--steps", "1", "--quiet", "save_every=0"]
    lengths = ["query_length=8", "passage_length=8", "batch_size=2"]
    assert call("finetune", *words, *lengths, "dev=dev.csv", "representation.kind=cls") == 0
    written, log, after = capsys.readouterr().out.splitlines()
    assert written.startswith("wrote said: a retriever, after 1 steps")
    assert log == "wrote said-training/log.jsonl: every loss term"
    assert Path("said-training/log.jsonl").is_file()
    assert after == "next: dupmae evaluate said --suite sts --data DIR"


def test_a_kind_without_dense_vectors_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", folder / "model", "--data", folder / "pairs.jsonl", "--out", folder / "no", "--quiet"]
    assert call("finetune", *words, f"dev={folder / 'dev.csv'}", "representation.kind=bow") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "dev: there are no dense vectors to take the cosine of" in line
    assert json.loads((folder / "whole-training" / "log.jsonl").read_text().splitlines()[0])["step"] == 1
