from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from dupmae.corpus.beir import load_split, read_corpus, read_queries
from dupmae.corpus.python_docs import documentation
from dupmae.corpus.python_docs.documentation import build, build_cached
from dupmae.corpus.python_docs.sources import SIZE_LIMIT, default_roots, find_sources
from dupmae.errors import DupmaeError

VERBS = ["Open", "Close", "Merge", "Sort", "Count", "Print", "Parse", "Store"]
NOUNS = ["file", "table", "graph", "queue", "image", "letter", "cookie", "matrix"]


def module(number: int) -> str:
    """A module of eight functions with words of their own."""
    functions = []
    for verb in VERBS:
        words = " ".join(f"{verb.lower()}{number}{letter}" for letter in "abcdefghijkl")
        noun = NOUNS[number % len(NOUNS)]
        functions.append(f'def {verb}_{noun}():\n    """{verb} the {noun} number {number}.\n\n    {words}\n    """\n')
    return "\n".join(functions)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty sound modules and every oddity that a site-packages folder may hold."""
    root = tmp_path_factory.mktemp("site-packages")
    for number in range(40):
        (root / f"pkg{number}").mkdir()
        (root / f"pkg{number}" / "__init__.py").write_text(module(number))
    (root / "pkg0" / "_vendor").mkdir()
    (root / "pkg0" / "_vendor" / "pkg1.py").write_text(module(1))
    (root / "pkg0" / "copied.py").write_text(module(2).replace("Open the", "Quickly open some"))
    (root / "syntax.py").write_text("def (:\n")
    (root / "latin.py").write_bytes(b"x = 'caf\xe9'\n")
    (root / "null.py").write_bytes(b"x = 1\x00\n")
    (root / "empty.py").write_bytes(b"")
    (root / "broken.py").symlink_to(root / "nowhere.py")
    (root / "self.py").symlink_to(root / "self.py")
    (root / "pkg3" / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.py")
    with (root / "huge.py").open("wb") as handle:
        handle.truncate(SIZE_LIMIT)
    nested = root / "lib" / "site-packages"
    nested.mkdir(parents=True)
    (nested / "unseen.py").write_text(module(99))
    return root


def test_sources_are_found_once_and_oddities_counted(tree: Path) -> None:
    sources, skipped = find_sources([tree, tree / "pkg3"])
    assert len(sources) == len({source.path for source in sources}) == 40 + 2 + 4
    assert skipped == {"broken_links": 2, "too_large": 1}
    assert {"pkg7", "pkg0._vendor.pkg1", "empty"} <= {source.module for source in sources}


def test_the_roots_are_those_of_this_interpreter() -> None:
    roots = default_roots()
    assert Path(os.__file__).parent in roots
    assert any(Path(pytest.__file__).is_relative_to(root) for root in roots)


def test_a_build_has_whole_disjoint_splits(tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="dupmae"):
        counts = build(tmp_path / "set", seed=1, documents=150, test_share=0.2, dev_share=0.1, roots=[tree])
    assert "test queries, under 1500" in caplog.text
    passages, test, qrels = load_split(tmp_path / "set" / "retrieval", "test")
    _, dev, _ = load_split(tmp_path / "set" / "retrieval", "dev")
    everything, train, train_qrels = load_split(tmp_path / "set" / "training", "train")
    assert read_queries(tmp_path / "set" / "training") == train
    assert set(test).isdisjoint(dev)
    assert set(train).isdisjoint({*test, *dev})
    assert {*train, *test, *dev} == {passage.id for passage in everything}
    assert {*test, *dev} <= {passage.id for passage in passages}
    assert all(grades == {query: 1} for query, grades in {**qrels, **train_qrels}.items())
    assert [passage.id for passage in passages] == sorted(passage.id for passage in passages)
    assert (counts.documents, counts.corpus_documents) == (320, 150) == (len(everything), len(passages))
    assert (counts.train_queries, counts.dev_queries, counts.test_queries) == (len(train), len(dev), len(test))
    assert 30 < len(test) < 100
    # The vendored module repeats every query; in the copied one the changed query has the same body.
    assert counts.skipped["same_query"] == 8 + 7
    assert counts.skipped["near_duplicates"] == 1
    assert (counts.skipped["unparsable"], counts.skipped["undecodable"]) == (2, 1)
    assert counts.skipped["broken_links"] == 2
    assert not any("_vendor" in passage.id for passage in everything)
    assert json.loads((tmp_path / "set" / "counts.json").read_text())["documents"] == 320


def test_a_record_is_name_and_body_without_the_summary(tree: Path, tmp_path: Path) -> None:
    build(tmp_path / "set", seed=0, documents=320, roots=[tree])
    folder = tmp_path / "set" / "training"
    passage = next(passage for passage in read_corpus(folder) if passage.id == "pkg5.Sort_letter")
    assert passage.title == "pkg5 sort letter"
    assert passage.text == " ".join(f"sort5{letter}" for letter in "abcdefghijkl")


def test_test_documents_beyond_the_cap_are_in_no_pair(tree: Path, tmp_path: Path) -> None:
    settings = {"seed": 1, "documents": 320, "test_share": 0.2, "dev_share": 0.1, "roots": [tree]}
    full = build(tmp_path / "full", **settings)  # type: ignore[arg-type]
    counts = build(tmp_path / "set", test_queries=10, **settings)  # type: ignore[arg-type]
    assert (counts.test_queries, counts.corpus_documents) == (10, 320)
    _, few, _ = load_split(tmp_path / "set" / "retrieval", "test")
    _, many, _ = load_split(tmp_path / "full" / "retrieval", "test")
    train = read_queries(tmp_path / "set" / "training")
    assert few.keys() < many.keys()
    assert train.keys().isdisjoint(many)
    assert counts.train_queries == full.train_queries


def test_test_documents_can_be_kept_out_of_training(tree: Path, tmp_path: Path) -> None:
    settings = {"seed": 1, "documents": 150, "test_share": 0.2, "dev_share": 0.1, "roots": [tree]}
    build(tmp_path / "with", **settings)  # type: ignore[arg-type]
    build(tmp_path / "without", test_documents_in_training=False, **settings)  # type: ignore[arg-type]
    everything, train, _ = load_split(tmp_path / "with" / "training", "train")
    kept, same, _ = load_split(tmp_path / "without" / "training", "train")
    judged = {query for split in ("test", "dev") for query in load_split(tmp_path / "with" / "retrieval", split)[1]}
    assert same == train
    assert {passage.id for passage in kept} == {passage.id for passage in everything} - judged
    for file in ("corpus.jsonl", "queries.jsonl"):
        assert (tmp_path / "with/retrieval" / file).read_bytes() == (tmp_path / "without/retrieval" / file).read_bytes()


def test_seeds_split_and_processes_do_not(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["retrieval/corpus.jsonl", "retrieval/queries.jsonl", "training/queries.jsonl"]

    def written(name: str, seed: int) -> list[bytes]:
        build(tmp_path / name, seed=seed, documents=100, roots=[tree])
        return [(tmp_path / name / file).read_bytes() for file in files]

    first = written("a", 0)
    assert written("b", 1) != first
    monkeypatch.setattr(documentation, "_processors", lambda: 1)
    assert written("c", 0) == first


def test_the_cache_is_used_until_a_source_or_a_setting_changes(tmp_path: Path) -> None:
    root = tmp_path / "lib"
    root.mkdir()
    (root / "one.py").write_text(module(1))
    (root / "two.py").write_text(module(2))
    cache = tmp_path / "cache"
    folder, counts = build_cached(cache, seed=0, documents=10, roots=[root])
    marker = folder / "marker"
    marker.touch()
    assert build_cached(cache, seed=0, documents=10, roots=[root]) == (folder, counts)
    assert marker.exists()
    other, _ = build_cached(cache, seed=0, documents=11, roots=[root])
    os.utime(root / "one.py", (1, 1))
    touched, _ = build_cached(cache, seed=0, documents=10, roots=[root])
    assert len({folder, other, touched}) == 3


def test_nothing_to_read_is_refused_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    with pytest.raises(DupmaeError, match="no usable docstrings in 0 Python files"):
        build(tmp_path / "set", seed=0, documents=10, roots=[tmp_path / "lib"])
    assert not (tmp_path / "set").exists()


def test_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    trap = "raise SystemExit('imported')\n" + module(1)
    (tmp_path / "lib" / "trap_module.py").write_text(trap)
    build(tmp_path / "set", seed=0, documents=10, roots=[tmp_path / "lib"])
    assert "trap_module" not in sys.modules


def test_a_root_that_is_a_package_names_its_modules(tmp_path: Path) -> None:
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text('"""Parcel."""\n')
    (package / "post.py").write_text('"""Post."""\n')
    sources, _ = find_sources([package])
    assert [source.module for source in sources] == ["parcel", "parcel.post"]
