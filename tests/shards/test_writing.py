"""Memory of preparing and of reading shards does not follow the size of the input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from dupmae.shards import writing
from dupmae.shards.batches import PretrainingSteps
from dupmae.shards.folder import Shards
from dupmae.shards.tokenizers import train_wordpiece
from dupmae.shards.writing import write_shards
from tests.reference.tiny import sentences

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(sentences(100), 120)


def article(number: int) -> str:
    return ". ".join(sentences(12)[number % 6 :]) + "."


def articles(count: int) -> Iterator[str]:
    return map(article, range(count))


def held(field: str) -> int:
    """Bytes of this process: VmHWM, the most since it was reset; RssAnon, what is not a file's."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def grown(folder: Path, tokenizer: PreTrainedTokenizerFast, count: int) -> int:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak cannot be reset here")
    before = held("VmHWM")
    write_shards(folder, articles(count), tokenizer, max_length=64, shard_records=5000)
    return held("VmHWM") - before


def test_a_memory_ceiling(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BLOCK_RECORDS", 512)
    grown(tmp_path / "warm-up", tokenizer, 2000)
    small = grown(tmp_path / "small", tokenizer, 2000)
    large = grown(tmp_path / "large", tokenizer, 16_000)
    tokens = Shards.open(tmp_path / "large").manifest.tokens
    assert tokens > 1_200_000, "held as a whole, these would take 6 MB, and their texts as much"
    assert large < small + 3e6


def test_batches_are_read_without_loading_the_shards(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    write_shards(tmp_path / "data", articles(16_000), tokenizer, max_length=64, shard_records=5000)
    before = held("RssAnon")
    shards = Shards.open(tmp_path / "data")
    steps = PretrainingSteps([shards], steps=9, batch_tokens=1024, seed=0, pad_id=0, special_ids=[0, 2, 3])
    for step in range(50):
        steps[step]
    size = sum(file.bytes for file in shards.manifest.shards)
    assert size > 6e6
    assert held("RssAnon") - before < size / 3
    assert "lengths" not in vars(shards), "the lengths of all records were read"


def test_the_manifest_counts(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [article(3), "tea", article(4), ""]
    manifest = write_shards(tmp_path / "data", texts, tokenizer, max_length=64, shard_records=3)
    shards = Shards.open(tmp_path / "data")
    assert (manifest.texts, manifest.dropped, manifest.text) == (4, 2, "articles")
    assert manifest.tokens == shards.lengths.sum() == sum(length * count for length, count in manifest.lengths)
    assert manifest.records == len(shards.lengths) == sum(count for _, count in manifest.lengths)
    assert np.bincount(shards.lengths).max() == max(count for _, count in manifest.lengths)
