"""The stage that makes training pairs of unlabelled text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import load_split
from dupmae.errors import DupmaeError
from dupmae.files import sha256
from dupmae.settings import Synthesize
from dupmae.stages.synthesize import synthesize
from dupmae.training.pairs import read_pair_data
from tests.tiny import beir_folder, call, documents

FILES = ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beir_folder(tmp_path_factory.mktemp("synthetic") / "data", 40)


def made(data: Path, out: Path, **options: Any) -> list[str]:
    synthesize(Synthesize.model_validate({"inputs": [data], "out": out, **options}))
    return [sha256(out / name) for name in FILES]


def test_pairs_are_training_data(data: Path, tmp_path: Path) -> None:
    done = synthesize(Synthesize(inputs=[data], out=tmp_path / "pairs"))
    passages, queries, qrels = load_split(tmp_path / "pairs", "train")
    assert sum(done.kinds.values()) + done.without == 40
    assert len(passages) == len(queries) == len(qrels) == sum(done.kinds.values())
    assert all(len(found) == 1 for found in qrels.values())
    for kind, count in done.kinds.items():
        assert sum(name.startswith(f"{kind}-") for name in queries) == count
    pairs = read_pair_data(tmp_path / "pairs")
    texts = {str(n): document for n, document in enumerate(documents(40), 1)}
    for (name, found), query, places in zip(qrels.items(), pairs.queries, pairs.positives, strict=True):
        (number,) = found
        assert name.partition("-")[2] == number
        assert query in texts[number].content
        assert pairs.passages[places[0]] != query


def test_the_seed_alone_decides(data: Path, tmp_path: Path) -> None:
    first = made(data, tmp_path / "a")
    assert made(data, tmp_path / "a") == first
    assert made(data, tmp_path / "b", seed=1) != first


def test_some_pairs_are_drawn_from_all(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "all")
    made(data, tmp_path / "some", pairs=12)
    everything, some = (load_split(tmp_path / name, "train") for name in ("all", "some"))
    assert len(some[1]) == 12
    # The same pairs, and not the first ones.
    assert some[1].items() < everything[1].items()
    assert list(some[1]) != list(everything[1])[:12]
    made(data, tmp_path / "other", pairs=12, seed=1)
    numbers = [{name.partition("-")[2] for name in load_split(tmp_path / out, "train")[1]} for out in ("some", "other")]
    assert numbers[0] != numbers[1]
    made(data, tmp_path / "many", pairs=1000)
    assert load_split(tmp_path / "many", "train")[1] == everything[1]


def test_folders_of_text_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join(document.text for document in documents(5)))
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"title": d.title, "text": d.text}) + "\n" for d in documents(9)[5:])
    done = synthesize(Synthesize(inputs=[folder], out=tmp_path / "pairs"))
    assert sum(done.kinds.values()) + done.without == 9


def test_too_few_pairs_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short\n\nthis one, too\n")
    with pytest.raises(DupmaeError, match=r"short\.txt: 2 texts gave 0 pairs \(give more or longer texts"):
        synthesize(Synthesize(inputs=[tmp_path / "short.txt"], out=tmp_path / "pairs"))
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pairs"
    words = ("synthesize", data, "--out", out, "--pairs", 20, "shares.crop=0", "--quiet")
    assert call(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pairs"], set(told["kinds"])) == (20, {"sentence"})
    assert told["next"].startswith("dupmae finetune")
    assert call(*words) == 0
    assert "20 pairs, " in capsys.readouterr().out
    assert call("synthesize", data, "--out", data) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_texts_without_spaces_give_pairs(tmp_path: Path) -> None:
    text = "北京是中国的首都，也是全国的政治中心。这座城市有三千多年的历史。每年有数千万游客前来参观。"
    lines = [
        json.dumps({"_id": str(n), "title": f"北京的第{n}篇文章", "text": f"这是第{n}号文章。{text * 3}"})
        for n in range(30)
    ]
    (tmp_path / "zh.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = synthesize(Synthesize(inputs=[tmp_path / "zh.jsonl"], out=tmp_path / "pairs", language="zh"))
    assert done.without == 0
    assert set(done.kinds) == {"title", "sentence", "crop"}
