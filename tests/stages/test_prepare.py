from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupmae.errors import DupmaeError
from dupmae.settings import Prepare
from dupmae.shards.folder import Shards
from dupmae.shards.tokenizers import fingerprint, train_wordpiece
from dupmae.stages.prepare import prepare

TEXTS = [f"record {number} tells about tea and water and how long a pot of leaves stands" for number in range(30)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return file


def test_a_tokenizer_is_trained_when_none_is_named(texts: Path, tmp_path: Path) -> None:
    manifest = prepare(Prepare(inputs=[texts], out=tmp_path / "data", vocabulary=120, max_length=64))
    shards = Shards.open(tmp_path / "data")
    assert shards.manifest == manifest
    assert len(shards) == 30
    assert len(shards.tokenizer()) <= 120
    ids, _ = shards.get(np.array([7]))[0]
    assert shards.tokenizer().decode(ids, skip_special_tokens=True) == TEXTS[7]


def test_a_named_tokenizer_is_kept(texts: Path, tmp_path: Path) -> None:
    tokenizer = train_wordpiece(TEXTS, 100)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    settings = Prepare(
        inputs=[texts], out=tmp_path / "data", tokenizer=str(tmp_path / "tokenizer"), max_length=16, shard_records=7
    )
    manifest = prepare(settings)
    assert manifest.tokenizer == fingerprint(tokenizer)
    assert manifest.max_length == 16
    assert max(shard.records for shard in manifest.shards) == 7


def test_a_bad_record_leaves_nothing_behind(texts: Path, tmp_path: Path) -> None:
    texts.write_text(texts.read_text() + "\noops\n")
    before = set(tmp_path.iterdir())
    with pytest.raises(DupmaeError, match=r"texts\.jsonl, line 31: not JSON"):
        prepare(Prepare(inputs=[texts], out=tmp_path / "data", vocabulary=120))
    assert set(tmp_path.iterdir()) == before


def test_an_older_folder_survives_a_failed_run(texts: Path, tmp_path: Path) -> None:
    settings = Prepare(inputs=[texts], out=tmp_path / "data", vocabulary=120)
    manifest = prepare(settings)
    texts.write_text('{"text": "short"}\n')
    with pytest.raises(DupmaeError, match="no text has 8 tokens"):
        prepare(settings)
    assert Shards.open(tmp_path / "data").manifest == manifest
