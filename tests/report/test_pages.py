"""What reaches a report from documents, logs and names stays text: in pages, charts, Markdown and the terminal."""

from __future__ import annotations

import base64
import json
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from dupmae.files import write_json
from dupmae.report import charts
from dupmae.report.comparison import Comparison, System, compare
from dupmae.report.context import Context, read_context
from dupmae.report.differences import differences
from dupmae.report.moving import Found, Moved
from dupmae.report.pages import comparison_page
from dupmae.report.tables import Cell, Table, markdown, terminal
from dupmae.report.text import bytes_text, p_relation, p_text, plain, rate_text, seconds_text, snippet
from dupmae.report.wording import outcome, systems_table
from dupmae.search.index import Index
from dupmae.settings import Compare
from dupmae.stages.compare import compare as stage
from dupmae.training.log import curves
from tests.report.compared import TOPICS, data_folder, ranked_at, write_result
from tests.tiny import tiny_retriever

SCRIPT = "</script></style><script>alert(1)</script><img src=\"http://x.test/a.png\" onerror='x'> {{ 7 * 7 }} & $x_1$"
HOSTILE = f"{SCRIPT} \x00\x07\x1b[31m\x9b1m\r \u202egnp.exe \ud800"
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Collects tags, addresses and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "srcset")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_context() -> Context:
    result = {"id": HOSTILE, "title": HOSTILE, "text": HOSTILE, "right": True, "words": [[HOSTILE, 1.0]]}
    search = {
        "query": HOSTILE,
        "expected": [{"id": HOSTILE, "title": HOSTILE}],
        "rank": 1,
        "results": [result | {"score": 3.0, "dense": 4.0, "sparse": -1.0}],
    }
    stage = {"seconds": 1.0, "settings": {HOSTILE: {HOSTILE: HOSTILE}}, "peak_memory_bytes": 1e9}
    drawn = {HOSTILE: curves([{"step": 1, "loss": 1.0, HOSTILE: 2.0}])}
    return Context([search], drawn, {HOSTILE: stage}, {"inputs": [HOSTILE]})


def hostile_comparison() -> Comparison:
    values = {HOSTILE: {HOSTILE: 1.0, "r": 0.5}, "other": {HOSTILE: 0.5, "r": 0.25}}
    found = {name: Found(0.5, 2, HOSTILE) for name in values}
    moves = [Moved(HOSTILE, "other", HOSTILE, HOSTILE, 0.5, [HOSTILE], found)]
    systems = [System(name, name, letter, {HOSTILE: 0.5}, HOSTILE) for name, letter in zip(values, "ab", strict=True)]
    pairs = differences(values, baseline="other")
    given = {"systems": systems, "differences": pairs, "moved": moves, "values": values, "passages": {}}
    return Comparison(HOSTILE, HOSTILE, 2, 2, HOSTILE, [HOSTILE], "a test", 1, "other", **given)  # type: ignore[arg-type]


def acts(text: str) -> set[str]:
    """The characters of a text that a terminal or a browser acts on; line ends and tabs are what files are made of."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cs") or c == "\u202e"} - set("\n\t")


@pytest.mark.filterwarnings("ignore:constrained_layout not applied", "ignore:Glyph")
def test_nothing_of_a_document_becomes_part_of_the_page() -> None:
    page = comparison_page(hostile_comparison(), hostile_context())
    reader = Reader(page)
    assert not {"script", "iframe", "object"} & set(reader.tags)
    assert all(address.startswith("data:") for address in reader.addresses)
    assert reader.text.count("<script>alert(1)</script>") > 20
    # No template was made of it either.
    assert "49" not in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert acts(page) == set()
    page.encode("utf-8")


@pytest.mark.filterwarnings("ignore:constrained_layout not applied", "ignore:Glyph")
def test_a_chart_is_well_formed_whatever_its_names_are() -> None:
    drawn = [
        charts.bars({HOSTILE: {HOSTILE: 0.5}}),
        charts.curve(charts.Line(HOSTILE, [1], [2.0])),
        charts.query_gaps(HOSTILE, HOSTILE, [0.5, -0.5]),
        charts.sets({HOSTILE: {"a": 0.5}}, HOSTILE),
        charts.gaps([charts.Gap(HOSTILE, 0.1, 0.0, 0.2, True, "p", (1, 2, 3))], HOSTILE),
    ]
    for chart in drawn:
        image = base64.b64decode(chart.address.partition(",")[2])
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(image).iter()}
        assert not {"script", "image", "foreignObject"} & tags


def test_nothing_of_a_document_acts_on_a_terminal_or_on_markdown() -> None:
    table = Table([HOSTILE, HOSTILE], [[HOSTILE, Cell(HOSTILE, best=True)]], HOSTILE)
    assert acts(terminal([table], [HOSTILE], [HOSTILE])) == set()
    text = markdown(table)
    assert acts(text) == set()
    assert "<script" not in text.replace("\\<", "")
    assert len(text.splitlines()) == 5


def test_the_page_is_drawn_for_every_part_of_a_chain(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    speed: dict[str, Any] = {"queries_per_second": 1234.5, "index_bytes": 15_763_424}
    write_result(tmp_path / "a", data, ranked_at([1, 1, 2, 4]), **speed)
    write_result(tmp_path / "b", data, ranked_at([1, 2, 2, 1]))
    log = [{"step": step, "loss": 9 / step, "mlm_accuracy": 0.5, "learning_rate": 1e-4} for step in (1, 2, 3)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    done = {"finished": True, "seconds": 63.4, "settings": {"seed": 7}, "peak_memory_bytes": 2_913_000_000}
    write_json(tmp_path / "chain.json", {"stages": {"pretrain": done, "report": {"finished": False}}})
    retriever = tiny_retriever(tmp_path / "retriever")
    Index.build(retriever, open_passages(data), path=tmp_path / "index")
    settings = Compare(
        inputs={"first": tmp_path / "a", "second": tmp_path / "b"},
        labels={"first": "The first"},
        baseline="first",
        logs={"pre-training": tmp_path / "run" / "log.jsonl"},
        index=tmp_path / "index",
        examples=2,
        chain=tmp_path,
        out=tmp_path / "out",
    )
    report = stage(settings)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["systems"]["first"].items() >= speed.items()
    assert report["systems"]["second"]["index_bytes"] is None
    assert report["seconds"] == {"pretrain": 63.4, "total": 63.4}
    assert report["peak_memory_bytes"] == 2_913_000_000
    assert report["settings"]["pretrain"] == {"seed": 7}
    assert len(report["searches"]) == 2
    for search in report["searches"]:
        assert search["query"] in TOPICS
        assert search["results"][0]["score"] == pytest.approx(
            search["results"][0]["dense"] + search["results"][0]["sparse"], abs=1e-3
        )
    page = Reader((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    for shown in ("The first", "15.8 MB", "1,234", "pre-training", "1 min 03 s", "2.9 GB", "seed", "right answer"):
        assert shown in page
    with Image.open(tmp_path / "out" / "report.png") as picture:
        assert picture.format == "PNG"


def open_passages(data: Path) -> list[Any]:
    from dupmae.corpus.beir import load_split

    return load_split(data, "test")[0]


def test_examples_need_the_data(tmp_path: Path) -> None:
    from dupmae.errors import DupmaeError

    with pytest.raises(DupmaeError, match="index: needs the data of the results"):
        read_context(Compare(inputs=[tmp_path], index=tmp_path), None)
    write_json(tmp_path / "chain.json", {"stages": 3})
    with pytest.raises(DupmaeError, match=r"chain\.json: not the record of a chain"):
        read_context(Compare(inputs=[tmp_path], chain=tmp_path), None)


def test_outcome_and_table_against_a_baseline(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    for name, ranks in (("ours", [1, 1, 1, 1]), ("other", [1, 2, 2, 1])):
        write_result(tmp_path / name, data, ranked_at(ranks))
    inputs = [tmp_path / "ours", tmp_path / "other"]
    comparison, *_ = compare(Compare(inputs=inputs, baseline="ours", labels={"other": "Theirs"}))
    assert outcome(comparison) == [
        "ours reaches MRR@10 1.000, Recall@2 1.000 on 4 queries among 8 passages.",
        f"Not to be told apart from it by MRR@10: Theirs (0.750, p = {comparison.differences[0].corrected:.3f}).",
        "Highest MRR@10 of all systems: ours, 1.000.",
    ]
    table = systems_table(comparison)
    assert list(table.head) == ["System", "MRR@10", "Recall@2", "p"]
    assert [row[-1].text for row in table.cells] == ["–", p_text(comparison.differences[0].corrected)]
    assert table.strong == {0}


def test_a_markdown_table() -> None:
    table = Table(["", "x"], [["a|b", Cell("0.5", best=True, marks="ab")]])
    assert markdown(table).splitlines() == ["|  | x |", "| --- | ---: |", "| a\\|b | **0.5** <sup>ab</sup> |"]


def test_the_terminal_keeps_digits_below_each_other() -> None:
    rows = [["a", Cell("0.5000", best=True, marks="b"), "1"], ["b", "0.2500", "22"]]
    lines = terminal([Table(["", "x", "n"], rows)], [], []).splitlines()
    first, second = (next(line for line in lines if value in line) for value in ("0.5000", "0.2500"))
    assert first.index("0.5000") == second.index("0.2500")
    assert first.rstrip().endswith(" 1")
    assert first.index("0.5000* b") > 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (250e6, "250 MB"), (5.4e12, "5400 GB")]
)
def test_bytes_text(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (63.4, "1 min 03 s")])
def test_seconds_text(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_numbers_and_texts() -> None:
    assert (p_text(0.0004), p_text(0.034)) == ("< 0.001", "0.034")
    assert (p_relation(0.0004), p_relation(0.034)) == ("p < 0.001", "p = 0.034")
    assert (rate_text(3.21), rate_text(1234.5)) == ("3.2", "1,234")
    assert plain("a\x1bb\nc") == "a\N{REPLACEMENT CHARACTER}b\nc"
    assert snippet("word " * 200) == "word " * 51 + "word …"
