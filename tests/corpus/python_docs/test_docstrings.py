from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupmae.corpus.python_docs.docstrings import Docstring, name_in_words, records_of, summary_and_body
from dupmae.corpus.python_docs.sources import Source

BODY = "The rest has a good eight words or even more."


def source(tmp_path: Path, text: str | bytes, module: str = "pkg.mod") -> Source:
    path = tmp_path / "mod.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Source(str(path), module, path.stat().st_size, 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pandas.io.read_csv", "pandas io read csv"),
        ("pkg.HTTPServer.__init__", "pkg http server init"),
        ("nn.Conv2dLayer.toJSON", "nn conv2d layer to json"),
        ("été.Größe", "été größe"),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert name_in_words(name) == words


@pytest.mark.parametrize(
    ("docstring", "summary", "body"),
    [
        (f"Read a csv file.\n\n{BODY}", "Read a csv file.", BODY),
        (f"Read a csv file. {BODY}", "Read a csv file.", BODY),
        (f"Read a csv\n    file in chunks\n\n    {BODY}", "Read a csv file in chunks", BODY),
        (f"Read files, e.g. Excel ones, fast. {BODY}", "Read files, e.g. Excel ones, fast.", BODY),
        (f"Use numpy 2.0 or newer there.\n{BODY}", "Use numpy 2.0 or newer there.", BODY),
        (f"Read a ``csv`` with :class:`~io.Reader`.\n\n{BODY}", "Read a csv with io.Reader.", BODY),
        (f"Reading all the files\n=====================\n\n{BODY}", "Reading all the files", BODY),
        (
            f"read(path) -> str\n\nRead a whole text file.\n\n{BODY}",
            "Read a whole text file.",
            f"read(path) -> str {BODY}",
        ),
        (f"Read a whole text file.\n:param x: it\n{BODY}", "Read a whole text file.", f":param x: it {BODY}"),
    ],
)
def test_the_first_sentence_asks_and_the_rest_answers(docstring: str, summary: str, body: str) -> None:
    assert summary_and_body(docstring) == (summary, body)


@pytest.mark.parametrize(
    "docstring",
    [
        "Read a csv file.",
        "Read a csv file.\n\nToo short a rest.",
        f"Read it.\n\n{BODY}",
        f"Copyright 2020 by the authors of this.\n\n{BODY}",
        f":param path: where the file to be read is.\n\n{BODY}",
        f"input_ids (torch.Tensor): the ids of the tokens.\n{BODY}",
        f"{'word ' * 51}.\n\n{BODY}",
        "",
        "...",
        "\n\n\n",
    ],
)
def test_docstrings_without_both_parts_give_nothing(docstring: str) -> None:
    assert summary_and_body(docstring) is None


def test_the_body_never_repeats_the_summary() -> None:
    parts = summary_and_body(f"Read a csv file.\n\nread  a CSV\nfile! {BODY}")
    assert parts == ("Read a csv file.", BODY)
    assert summary_and_body("Read a csv file.\n\nRead a csv file. Only seven more words follow it.") is None


@given(st.text(st.sampled_from("aB .!?:`\n\t-=()\x00\ud800é"), max_size=200))
def test_any_docstring_gives_clean_one_line_parts_without_a_leak(docstring: str) -> None:
    parts = summary_and_body(docstring)
    if parts is not None:
        summary, body = parts
        assert summary.rstrip(".!?: ").casefold() not in body.casefold()
        for part in parts:
            assert part == " ".join(part.encode().decode().split())
            assert "\x00" not in part


def test_every_definition_is_found_wherever_it_stands(tmp_path: Path) -> None:
    doc = f'"""Summary number {{}} is right here.\n\n{BODY}"""'
    text = f"""{doc.format(0)}
import missing_package
raise SystemExit("must not run")
try:
    class Reader:
        {doc.format(1)}
        async def read(self):
            {doc.format(2)}
            def inner():
                {doc.format(3)}
except ImportError:
    def fallback():
        {doc.format(4)}
if 1: pass
{"".join(f"elif {n}: pass{chr(10)}" for n in range(300))}else:
    match 1:
        case 1:
            def late():
                {doc.format(5)}
"""
    records = records_of(source(tmp_path, text))
    assert records == [
        Docstring(name, f"Summary number {number} is right here.", BODY)
        for number, name in enumerate(
            ["pkg.mod", "pkg.mod.Reader", "pkg.mod.Reader.read", "pkg.mod.Reader.read.inner", "pkg.mod.fallback"]
        )
    ] + [Docstring("pkg.mod.late", "Summary number 5 is right here.", BODY)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def (:\n", "unparsable"),
        ("x = '\x00'\n", "unparsable"),
        ("x = " + "-" * 200_000 + "1", "unparsable"),
        ("x = " + "(" * 5000, "unparsable"),
        (b"# caf\xe9\n", "undecodable"),
        (b"# -*- coding: no-such -*-\n", "undecodable"),
        ("", []),
    ],
)
def test_odd_sources_are_named_not_fatal(tmp_path: Path, text: str | bytes, problem: object) -> None:
    assert records_of(source(tmp_path, text)) == problem


def test_a_declared_encoding_is_followed(tmp_path: Path) -> None:
    text = f'# coding: latin-1\n"""Go to the café now.\n\n{BODY}"""\n'.encode("latin-1")
    assert records_of(source(tmp_path, text, "m")) == [Docstring("m", "Go to the café now.", BODY)]


def test_a_vanished_source_is_unreadable(tmp_path: Path) -> None:
    assert records_of(Source(str(tmp_path / "gone.py"), "gone", 1, 0)) == "unreadable"


def test_warnings_of_other_peoples_code_stay_silent(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert records_of(source(tmp_path, "x = '\\d'\ny = 1 is 1\n")) == []
