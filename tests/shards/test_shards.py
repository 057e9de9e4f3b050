from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from dupmae.errors import DupmaeError
from dupmae.shards.folder import Manifest, Shards
from dupmae.shards.lengths import LengthIndex
from dupmae.shards.pieces import Cutter, spans
from dupmae.shards.tokenizers import fingerprint, train_wordpiece
from dupmae.shards.writing import write_shards

WORDS = ["tea", "green", "leaves", "water", "boiling", "unbelievable", "pot", "cup", "milk", "sugar"]
TEXTS = [" ".join(WORDS[(row + column) % 10] for column in range(5 + row)) for row in range(60)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece(TEXTS, 110)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    write_shards(tmp_path / "data", TEXTS, tokenizer, max_length=32, shard_records=20, text="passages")
    return tmp_path / "data"


def test_records_are_the_texts_cut_and_wrapped(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    shards = Shards.open(folder)
    manifest = shards.manifest
    assert len(shards) == manifest.records == sum(shard.records for shard in manifest.shards)
    assert [shard.records for shard in manifest.shards[:-1]] == [20] * (len(manifest.shards) - 1)
    assert len(manifest.shards) > 2
    assert manifest.tokens == shards.lengths.sum()
    assert shards.lengths.dtype == np.int32
    assert shards.lengths.max() <= 32
    assert manifest.tokenizer == fingerprint(tokenizer) == fingerprint(shards.tokenizer())
    together: list[int] = []
    for length, (ids, starts) in zip(shards.lengths, shards.get(np.arange(len(shards))), strict=True):
        assert ids.dtype == np.int32
        assert starts.dtype == np.bool_
        assert len(ids) == len(starts) == length
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert starts[[0, 1, -1]].all()
        pieces = tokenizer.convert_ids_to_tokens(ids.tolist())
        assert starts.tolist() == [not piece.startswith("##") for piece in pieces]
        together += ids[1:-1].tolist()
    whole = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert together == [token for ids in whole if len(ids) >= 8 for token in ids]
    assert manifest.dropped == sum(len(ids) < 8 for ids in whole)


def test_get_follows_any_order(folder: Path) -> None:
    shards = Shards.open(folder)
    everything = shards.get(np.arange(len(shards)))
    wanted = np.array([len(shards) - 1, 0, 20, 19, 20])
    for place, (ids, starts) in zip(wanted, shards.get(wanted), strict=True):
        assert (ids == everything[place][0]).all()
        assert (starts == everything[place][1]).all()
    assert shards.get(np.array([], dtype=np.int64)) == []


def test_shards_travel_to_workers_as_a_path(folder: Path) -> None:
    shards = Shards.open(folder)
    packed = pickle.dumps(shards)
    assert len(packed) < 1000
    assert (pickle.loads(packed).lengths == shards.lengths).all()


def test_the_same_texts_give_the_same_bytes(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    again = write_shards(
        folder.with_name("again"), iter(TEXTS), tokenizer, max_length=32, shard_records=20, text="passages", workers=3
    )
    assert again == Shards.open(folder).manifest


def test_the_index_has_all_records_by_length(folder: Path) -> None:
    shards = Shards.open(folder)
    expected = LengthIndex.of(shards.lengths)
    assert shards.index.records.tolist() == expected.records.tolist()
    assert shards.index.records.dtype == expected.records.dtype == np.uint32
    assert shards.index.lengths.tolist() == expected.lengths.tolist()
    assert shards.index.counts.tolist() == expected.counts.tolist()
    assert (np.diff(shards.lengths[shards.index.records]) >= 0).all()
    assert isinstance(shards.index.records, np.memmap)


def test_specials_spelt_in_a_text_are_text(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    before = tokenizer.backend_tokenizer.to_str()
    write_shards(tmp_path / "d", ["[MASK] [SEP] " + TEXTS[5]], tokenizer, max_length=64, shard_records=9)
    ids, _ = Shards.open(tmp_path / "d").get(np.array([0]))[0]
    assert tokenizer.mask_token_id not in ids
    assert (ids == tokenizer.sep_token_id).sum() == 1
    assert tokenizer.backend_tokenizer.to_str() == before


def test_unknown_words_do_not_make_a_record(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["中 " * 20, TEXTS[9], ""]
    manifest = write_shards(tmp_path / "d", texts, tokenizer, max_length=64, shard_records=9)
    assert (manifest.records, manifest.dropped) == (1, 2)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 50))
def test_spans_cover_everything_within_the_room_at_word_starts(flags: list[bool], room: int) -> None:
    starts = np.array([True, *flags])
    cut = list(spans(starts, room))
    assert [place for span in cut for place in span][1:-1:2] == [start for start, _ in cut][1:]
    assert cut[0][0] == 0
    assert cut[-1][1] == len(starts)
    for start, end in cut:
        assert 0 < end - start <= room
        if end < len(starts) and not starts[end]:
            assert not starts[start + 1 : end + 1].any(), "a cut inside a word that could be avoided"
    if starts.all():
        sizes = [end - start for start, end in cut]
        assert max(sizes) - min(sizes) <= 1
        assert len(cut) == -(-len(starts) // room)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), max_size=6), st.integers(8, 40))
def test_no_piece_is_too_long_and_nothing_is_lost(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int
) -> None:
    cutter = Cutter(tokenizer, max_length)
    pieces = cutter(texts)
    assert all(cutter.fewest <= len(ids) - 2 <= max_length - 2 for ids, _ in pieces)
    assert pieces.texts == len(texts)
    total = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    kept = sum(len(ids) - 2 for ids, _ in pieces)
    assert total - kept < 8 * pieces.dropped or total == kept


def test_nothing_long_enough_is_refused_and_nothing_left(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DupmaeError, match=r"no text has 8 tokens or more \(2 dropped\)"):
        write_shards(tmp_path / "d", ["tea", "cup"], tokenizer, max_length=64, shard_records=9)
    assert list(tmp_path.iterdir()) == []


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def scramble(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def change(file: Path, values: dict[str, object]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("manifest.json", Path.unlink, "has no manifest.json"),
        ("manifest.json", lambda file: file.write_text("{"), "not JSON"),
        ("manifest.json", lambda file: file.write_text("[]"), "not a manifest of shards"),
        ("manifest.json", lambda file: file.write_text('{"records": 1, "shards": []}'), "not a manifest of shards"),
        ("manifest.json", lambda file: file.write_text('{"version": 2, "shards": 3}'), "Field required"),
        ("manifest.json", lambda file: change(file, {"lengths": None}), "lengths: Input should be a valid list"),
        ("manifest.json", lambda file: change(file, {"records": 10**12}), "numbers contradict each other"),
        ("manifest.json", lambda file: change(file, {"shards": []}), "names no shards"),
        ("manifest.json", lambda file: change(file, {"version": 1}), "format 1, .*run dupmae prepare again"),
        ("shard-00001.arrow", Path.unlink, "the file is missing"),
        ("shard-00001.arrow", shorten, "the manifest says"),
        ("shard-00001.arrow", scramble, "its bytes are not those that were written"),
        ("by_length.npy", Path.unlink, "the file is missing"),
        ("by_length.npy", scramble, "its bytes are not those that were written"),
    ],
)
def test_damage_is_named_at_opening(folder: Path, name: str, damage: object, problem: str) -> None:
    assert callable(damage)
    damage(folder / name)
    with pytest.raises(DupmaeError, match=problem) as error:
        Shards.open(folder)
    assert "\n" not in str(error.value)


def test_another_format_and_another_tokenizer_are_refused(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    train_wordpiece(["another text"], 100).save_pretrained(folder / "tokenizer")
    with pytest.raises(DupmaeError, match="not the tokenizer that made these shards"):
        Shards.open(folder).tokenizer()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(DupmaeError, match="format 99"):
        Shards.open(folder)
    with pytest.raises(DupmaeError, match="no such folder"):
        Shards.open(folder / "absent")


def test_a_changed_byte_is_found(folder: Path) -> None:
    file = folder / Shards.open(folder).manifest.shards[0].name
    raw = bytearray(file.read_bytes())
    raw[-30] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DupmaeError, match="its bytes are not those that were written"):
        Shards.open(folder)


@pytest.mark.parametrize("name", ["shard-00000.arrow", "by_length.npy"])
def test_unverified_files_must_still_be_of_their_kind(folder: Path, name: str) -> None:
    scramble(folder / name)
    with pytest.raises(DupmaeError, match="run dupmae prepare again") as error:
        Shards.open(folder, verify=False)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_the_manifest_is_plain_json(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == set(Manifest.__slots__)
    assert set(manifest["shards"][0]) == {"name", "records", "bytes", "sha256"}
