from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from dupmae import settings as recipe
from dupmae.errors import DupmaeError
from dupmae.settings.loading import describe, load


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_recipe_overrides_and_flags_are_joined_in_this_order(tmp_path: Path) -> None:
    file = written(tmp_path, "data: shards\nout: a\nsteps: 1\nseed: 1\nobjective:\n  kind: mlm\n  bow: author\n")
    found = load(recipe.Pretrain, file, ["steps=2", "seed=2", "objective.kind=retromae"], seed="3")
    assert (found.data, found.out, found.steps, found.seed) == ([Path("shards")], Path("a"), 2, 3)
    assert (found.objective.kind, found.objective.bow) == ("retromae", "author")


def test_values_are_yaml_scalars() -> None:
    overrides = ["data=d", "out=o", "learning_rate=3e-5", "minutes=0.5", "dropout=null", "masking.corruption=false"]
    found = load(recipe.Pretrain, None, overrides)
    assert (found.learning_rate, found.minutes, found.dropout, found.masking.corruption) == (3e-5, 0.5, None, False)
    assert load(recipe.Prepare, None, ["inputs=[a.txt, b.txt]", "out=o"]).inputs == [Path("a.txt"), Path("b.txt")]


def test_an_optional_group_can_be_switched_on_and_filled() -> None:
    assert load(recipe.Quickstart).from_scratch is None
    assert load(recipe.Quickstart, from_scratch={}).from_scratch == recipe.FromScratch()
    found = load(recipe.Quickstart, None, ["from_scratch.layers=1"])
    assert found.from_scratch == recipe.FromScratch(layers=1)


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    assert load(recipe.Quickstart, written(tmp_path, "# nothing yet\n")) == recipe.Quickstart()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "steps: 3\nobjective:\n  knd: mlm\n",
            r"mine\.yaml, line 3: no setting objective\.knd \(did you mean .*kind\?",
        ),
        ("stps: 3\n", r"mine\.yaml, line 1: no setting stps \(did you mean steps\?\)"),
        ("\nencoder_rate: .2\n", r"line 2: no setting encoder_rate \(did you mean masking\.encoder_rate\?\)"),
        ("zzzzz: 3\n", r"line 1: no setting zzzzz \(--help lists the settings\)"),
        ("seed: 1\nsteps: many\n", r"line 2: steps cannot be 'many' \(give a whole number, at least 1, or null\)"),
        (
            "masking: {encoder_rate: 2}\n",
            r"line 1: masking\.encoder_rate cannot be 2 \(give a number, above 0, below 1",
        ),
        ("objective:\n  kind: bert\n", r"line 2: objective\.kind cannot be 'bert' \(give mlm or retromae or dupmae\)"),
        ("objective: dupmae\n", r"line 1: objective cannot be 'dupmae' \(it holds settings, such as objective\.kind\)"),
        ("resume: perhaps\n", r"line 1: resume cannot be 'perhaps' \(give true or false\)"),
        ("steps: 3\n", r"mine\.yaml: data is not given \(give data=PATH\)"),
        ("from_scratch:\n  heads: 3\n", r"line 2: from_scratch\.hidden must be a multiple of from_scratch\.heads"),
        (
            "objective:\n  decoder_queries: embedded\n  decoder: basic\n",
            r"line 2: objective\.decoder_queries: 'embedded' needs objective\.decoder: enhanced",
        ),
        ("seed: 1\nseed: 2\n", r"line 2: seed is given twice"),
        ("- a\n- b\n", r"mine\.yaml: holds no settings"),
        ("seed: 1\nout: [a\n", r"mine\.yaml, line 3: not YAML"),
        ("out: !!python/object:os.system {}\n", r"mine\.yaml, line 1: not YAML"),
        ("a: &a\n  b: *a\n", r"mine\.yaml.*: not YAML"),
        ("out: !!python/name:os.system\n", r"line 1: not YAML: a value begins with !"),
        ("out: !!timestamp no\n", r"line 1: not YAML"),
        ('seed: 1\nquery: "\\ud800"\n', r"line 2: not YAML: half a surrogate pair"),
        ("learning_rate: .inf\n", r"line 1: learning_rate cannot be inf"),
        ("1: 2\n", r"mine\.yaml"),
    ],
)
def test_a_fault_of_the_recipe_is_told_with_file_line_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DupmaeError, match=message) as caught:
        load(recipe.Pretrain, written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.knd=mlm", r"^objective\.knd=mlm: no setting objective\.knd \(did you mean objective\.kind\?\)$"),
        ("steps=0", r"^steps=0: steps cannot be 0 \(give a whole number, at least 1, or null\)$"),
        ("steps=[1", r"^steps=\[1: the value is not YAML"),
        ("steps", r"^steps: not a setting \(write name=value"),
        ("steps.more=3", r"^steps\.more=3: steps cannot be \{'more': 3\}|^steps cannot be"),
    ],
)
def test_a_fault_of_an_override_names_it(override: str, message: str) -> None:
    with pytest.raises(DupmaeError, match=message):
        load(recipe.Pretrain, None, [override], data="d", out="o")


@pytest.mark.parametrize(("kind", "given", "fix"), [("Study", {}, "flops=NUMBER"), ("Plan", {"out": "x"}, "data=PATH")])
def test_what_is_missing_is_asked_for_by_its_kind(kind: str, given: dict[str, str], fix: str) -> None:
    with pytest.raises(DupmaeError, match=rf" is not given \(give {fix}\)$"):
        load(getattr(recipe, kind), None, [], **given)


def test_a_fault_of_a_keyword_names_it(tmp_path: Path) -> None:
    file = written(tmp_path, "steps: 3\n")
    with pytest.raises(DupmaeError, match=r"^no setting stps \(did you mean steps\?\)$"):
        load(recipe.Pretrain, file, data="d", out="o", stps=3)
    with pytest.raises(DupmaeError, match=r"^objective.kind cannot be 'bert'"):
        load(recipe.Pretrain, file, data="d", out="o", objective={"kind": "bert"})
    with pytest.raises(DupmaeError, match=r"^steps cannot be 'x' \(give a whole number"):
        load(recipe.Pretrain, None, [], data="d", out="o", steps="x")


def test_a_fault_inside_a_group_names_the_nested_setting(tmp_path: Path) -> None:
    file = written(tmp_path, "out: o\nobjective:\n  decoder: basic\n  decoder_queries: embedded\n")
    with pytest.raises(DupmaeError, match=r"mine\.yaml, line 4: objective\.decoder_queries"):
        load(recipe.Pretrain, file, ["data=d"])


@pytest.mark.parametrize(("name", "reason"), [("nope.yaml", "no such recipe"), (".", "cannot read")])
def test_a_recipe_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(DupmaeError, match=reason):
        load(recipe.Pretrain, tmp_path / name)


def test_a_recipe_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("out: gr\xf6\xdfe\n".encode("latin-1"))
    with pytest.raises(DupmaeError, match=r"latin\.yaml: not UTF-8"):
        load(recipe.Pretrain, file)


@pytest.mark.parametrize(
    "name",
    [
        "Quickstart",
        "Prepare",
        "Pretrain",
        "Finetune",
        "Index",
        "Evaluate",
        "Plan",
        "Report",
        "Mine",
        "Rerank",
        "Distill",
    ],
)
def test_every_setting_is_described_and_its_default_can_be_written(name: str) -> None:
    kind = getattr(recipe, name)
    found = list(describe(kind))
    assert {setting.name.partition(".")[0] for setting in found} == set(kind.model_fields)
    # Each its own path: an output that is also an input is refused.
    required = {
        setting.name: f"at-{setting.name}" for setting in found if setting.default is None and "." not in setting.name
    }
    given = {name: ["text"] if name == "inputs" else value for name, value in required.items()}
    if name == "Evaluate":
        given["retriever"] = "at-retriever"
    off = tuple(f"{setting.name}." for setting in found if setting.group)
    overrides = [
        f"{s.name}={s.default}"
        for s in found
        if s.default is not None and s.name not in given and not s.name.startswith(off)
    ]
    assert load(kind, None, overrides, **given) == load(kind, None, [], **given)


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("query_prefix=query: ", "query_prefix", "query: "),
        ("query_prefix=Query ", "query_prefix", "Query "),
        ("query_prefix=", "query_prefix", ""),
        ("query_prefix=[Q] a, b", "query_prefix", "[Q] a, b"),
        ("query_prefix='q'", "query_prefix", "'q'"),
        ("query_prefix=null", "query_prefix", "null"),
        ("model=1e5", "model", "1e5"),
        ("model=yes", "model", "yes"),
        ("out=2024-11-28", "out", Path("2024-11-28")),
        ("out=0123", "out", Path("0123")),
        ("mined=null", "mined", None),
        ("--query-length=40", "query_length", 40),
        ("dropout=null", "dropout", None),
        ("part_loss_weight=1e-3", "part_loss_weight", 1e-3),
    ],
)
def test_texts_and_paths_are_as_typed(word: str, name: str, value: object) -> None:
    given = {"model": "m", "data": "d", "out": "o"}
    given.pop(name, None)
    assert getattr(load(recipe.Finetune, None, [word], **given), name) == value


def test_lists_and_groups_of_texts_are_as_typed() -> None:
    assert load(recipe.Prepare, None, ["inputs=a: b.txt", "out=o"]).inputs == [Path("a: b.txt")]
    assert load(recipe.Prepare, None, ["inputs=[2024-11-28, 7]", "out=o"]).inputs == [Path("2024-11-28"), Path("7")]
    words = ["values.data=2024-11-28", "values.n=7", "stages.finetune.query_prefix=query: ", "stages.finetune.steps=3"]
    found = load(recipe.Chain, None, words, out="o")
    assert found.values == {"data": "2024-11-28", "n": "7"}
    assert found.stages == {"finetune": {"query_prefix": "query: ", "steps": 3}}


def test_aliases_are_followed_and_their_bombs_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "stages:\n  a: &a {steps: 1}\n  b: *a\n  c: {<<: *a, seed: 2}\nout: o\n")
    stages = {"a": {"steps": 1}, "b": {"steps": 1}, "c": {"steps": 1, "seed": 2}}
    assert load(recipe.Chain, file).stages == stages
    bomb = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{{', '.join(f'x{m}: *a{n - 1}' for m in range(9))}}}\n" for n in range(1, 10)
    )
    tracemalloc.start()
    with pytest.raises(DupmaeError, match=r"mine\.yaml, line \d+: not YAML: above 20,000 values"):
        load(recipe.Chain, written(tmp_path, bomb))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    merged = bomb.replace("{x0:", "{<<: [*a0, *a0], x0:")
    with pytest.raises(DupmaeError, match="above 20,000 values"):
        load(recipe.Chain, written(tmp_path, merged))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("Search", "k=1000000000000"),
        ("Mine", f"depth={10**400}"),
        ("Prepare", "workers=100000"),
        ("Prepare", "vocabulary=1000000000000"),
        ("Finetune", "representation.dimensions=1000000000"),
        ("Pretrain", "steps=10000000000000000"),
        ("Pretrain", "seed=4294967296"),
    ],
)
def test_numbers_that_would_take_all_memory_are_refused(kind: str, word: str) -> None:
    given = {name: "x" for name, info in getattr(recipe, kind).model_fields.items() if info.is_required()}
    if "out" in given:
        given["out"] = "o"
    if "inputs" in given:
        given["inputs"] = ["x"]
    name = word.partition("=")[0].rpartition(".")[2]
    with pytest.raises(DupmaeError, match=rf"^{word}: {name}: at most [\d,]+"):
        load(getattr(recipe, kind), None, [word], **given)
