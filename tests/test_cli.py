"""Every command as a person runs it: in a process of its own, on real text, one after the other."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dupmae import __version__, cli, commands
from dupmae import settings as recipe
from dupmae.console import logger
from dupmae.corpus.beir import load_split
from dupmae.evaluation.metrics import evaluate
from dupmae.evaluation.runs import read_run
from dupmae.settings.loading import describe, find_recipe
from dupmae.stages import STAGES
from tests import warm
from tests.reference.tiny import sentences, tiny_folder
from tests.tiny import beir_folder, call, stand_in

COMMAND = [sys.executable, "-m", "dupmae"]
SHAPE = ["from_scratch.layers=1", "from_scratch.hidden=32", "from_scratch.heads=2"]
Done = subprocess.CompletedProcess[str]


def run(folder: Path, command: list[str]) -> Done:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DUPMAE_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def settings_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The settings that a command calls its stage with."""
    seen: list[Any] = []

    def keep(settings: Any) -> commands.Outcome:
        seen.append(settings)
        return commands.Outcome({}, "")

    stand_in(monkeypatch, words[0], keep)
    command = cli.COMMANDS[words[0]]
    if command.suite is not None:
        suite = replace(command.suite, outcome=command.outcome)
        monkeypatch.setitem(cli.COMMANDS, words[0], replace(command, suite=suite))
    assert call(*words) == 0
    return seen[0]


def dupmae(folder: Path, *words: str) -> Done:
    """A command in a process that need not load the libraries."""
    done = warm.run(cli.main, words, folder=folder, environment={"DUPMAE_CACHE": str(folder / "cache")})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Done]]:
    """The stages in their order, tiny: the folder of the run and what each command said."""
    folder = tmp_path_factory.mktemp("line")
    beir_folder(folder / "texts", 70)
    (folder / "tiny.yaml").write_text("data: shards\nsteps: 2\nbatch_tokens: 512\nlog_every: 1\n")
    said = {
        "prepare": dupmae(folder, "prepare", "texts", "--out", "shards", "vocabulary=500", "max_length=128"),
        # As it is typed, once.
        "pretrain": run(
            folder,
            [*COMMAND, "pretrain", "--recipe", "tiny.yaml", *SHAPE, "--out", "pretraining", "--json", "steps=4"],
        ),
    }
    small = ["representation.dimensions=16", "representation.top_k=32", "batch_size=4", "steps=3"]
    data = ["--model", "pretraining/encoder", "--data", "texts"]
    said["finetune"] = dupmae(folder, "finetune", *data, *small[:2], "--out", "retriever", *small[2:])
    after = said["finetune"].stdout.splitlines()[-1].removeprefix("next: ")
    said["index"] = dupmae(folder, *shlex.split(after)[1:])
    said["search"] = dupmae(folder, "search", ".", "the", "with statement", "--k", "3", "--quiet")
    search = ["search", "index", "the with statement", "--k", "3", "--json", "--quiet"]
    listed = f"import sys; from dupmae import cli; cli.main({search}); print(*sys.modules, file=sys.stderr)"
    said["search json"] = run(folder, [sys.executable, "-c", listed])
    judged = ["--retriever", "retriever", "--data", "texts", "--out", "measured"]
    said["evaluate"] = dupmae(folder, "evaluate", *judged, "--json", "--quiet")
    return folder, said


def test_prepare_says_what_it_wrote_and_what_comes_next(line: tuple[Path, dict[str, Done]]) -> None:
    folder, said = line
    assert (folder / "shards" / "manifest.json").is_file()
    assert re.search(r"^wrote shards: [\d,]+ records, [\d,]+ tokens; 0 texts", said["prepare"].stdout)
    assert said["prepare"].stdout.splitlines()[-1] == "next: dupmae pretrain --data shards --out pretraining minutes=8"


@pytest.mark.parametrize(("configured", "model"), [(True, "--model encoder "), (False, "")])
def test_pre_training_goes_on_from_the_model_whose_tokenizer_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], configured: bool, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_folder(tmp_path / "encoder")
    if not configured:
        (tmp_path / "encoder" / "config.json").unlink()
    Path("texts.txt").write_text("\n".join(sentences(20)))
    assert call("prepare", "texts.txt", "--out", "shards", "--tokenizer", "encoder", "--quiet") == 0
    following = f"next: dupmae pretrain --data shards {model}--out pretraining minutes=8"
    assert capsys.readouterr().out.splitlines()[-1] == following


def test_pretrain_joins_recipe_and_overrides_and_gives_one_object(line: tuple[Path, dict[str, Done]]) -> None:
    folder, said = line
    result = json.loads(said["pretrain"].stdout)
    assert (result["encoder"], result["steps"], result["last"]["step"]) == ("pretraining/encoder", 4, 4)
    assert json.loads((folder / "pretraining" / "encoder" / "config.json").read_text())["hidden_size"] == 32
    assert len((folder / "pretraining" / "log.jsonl").read_text().splitlines()) == 4


def test_the_next_command_of_finetune_builds_the_index(line: tuple[Path, dict[str, Done]]) -> None:
    folder, said = line
    assert re.search(
        r"^wrote retriever: a retriever, after 3 steps, loss [\d.]+ to [\d.]+$", said["finetune"].stdout, re.M
    )
    assert "wrote index: 70 passages" in said["index"].stdout
    assert (folder / "index" / "manifest-00000001.json").is_file()


def test_search_shows_scores_shares_words_and_text(line: tuple[Path, dict[str, Done]]) -> None:
    _, said = line
    blocks = said["search"].stdout.strip().split("\n\n")
    hits = json.loads(said["search json"].stdout)["hits"]
    assert len(blocks) == len(hits) == 3
    for block, hit in zip(blocks, hits, strict=True):
        assert block.strip().startswith(f"{hit['rank']}. {hit['title']}")
        assert f"{hit['score']:.3f} = dense {hit['dense']:.3f} + sparse {hit['sparse']:.3f}" in block
        assert hit["score"] == pytest.approx(hit["dense"] + hit["sparse"], abs=1e-3)
        for word, value in [(word["token"], word["weight"]) for word in hit["words"][:3]]:
            assert f"{word} {value:.2f}" in block
        assert " ".join(hit["text"].split()[:4]) in block
    assert said["search"].stderr == ""


def test_evaluate_writes_what_it_says(line: tuple[Path, dict[str, Done]]) -> None:
    folder, said = line
    result = json.loads(said["evaluate"].stdout)
    after = result.pop("next")
    assert after.startswith("dupmae index ")
    assert result == json.loads((folder / "measured" / "metrics.json").read_text())
    _, _, qrels = load_split(folder / "texts", "test")
    run = read_run(folder / "measured" / "run.trec")
    assert result["metrics"] == evaluate(qrels, run, list(result["metrics"]))
    assert said["evaluate"].stderr == ""


def test_no_command_speaks_in_the_voice_of_a_library(line: tuple[Path, dict[str, Done]]) -> None:
    _, said = line
    for name in said.keys() - {"search json"}:
        done = said[name]
        for noise in ("LOAD REPORT", "Warning", "it/s", "huggingface", "Traceback"):
            assert noise not in done.stderr + done.stdout, (name, done.stderr)


def test_the_help_comes_without_the_heavy_libraries() -> None:
    program = "import sys; from dupmae import cli\ncli.main(['pretrain', '--help'])\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "transformers", "numpy", "scipy", "pyarrow"}


def test_search_loads_no_training_library(line: tuple[Path, dict[str, Done]]) -> None:
    loaded = set(line[1]["search json"].stderr.split())
    assert "torch" in loaded
    assert not loaded & {"transformers.trainer", "sklearn", "matplotlib", "bm25s"}


def test_results_are_compared_without_torch() -> None:
    program = "import sys; from dupmae.stages import compare\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "matplotlib"}


def test_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"dupmae {__version__}\n"


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in cli.COMMANDS)


def test_the_help_of_evaluate_holds_with_and_without_a_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    without, _, suite = printed.partition("options without --suite:")[2].partition("options with --suite,")
    assert "--out folder for metrics.json and run.trec [a path; required]" in without
    assert "[a path, or null; default: null]" in suite


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_each_help_lists_every_setting_as_an_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(f"--{option} " in printed for option in ("json", "quiet", "recipe"))
    kind = getattr(recipe, STAGES[cli.COMMANDS[name].stage].settings)
    for setting in describe(kind, find_recipe(None, name, kind)):
        default = "required" if setting.default is None else f"default: {setting.default or 'empty'}"
        option = f"--{setting.name.replace('_', '-')}"
        assert " ".join(f"{option} {setting.description} [{setting.allowed}; {default}]".split()) in printed


def test_the_help_of_a_command_with_a_recipe_of_its_own_shows_what_that_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("study", "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "defaults are those of the recipe study: " in printed
    assert "default: 50000000000000.0]" in printed
    assert "[name: value pairs; default: see the recipe]" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretain"], "dupmae: no command pretain (did you mean pretrain?)"),
        (["--quite"], "dupmae: no option --quite (`dupmae --help` lists the commands)"),
        (["pretrain", "--stps", "3"], "dupmae: pretrain: no option --stps (did you mean --steps?)"),
        (["pretrain", "--zzz"], "dupmae: pretrain: no option --zzz (`dupmae pretrain --help` lists the options)"),
        (["pretrain", "--learning-rate"], "dupmae: pretrain: --learning-rate needs a value"),
        (
            ["pretrain", "--objective.knd", "mlm"],
            "dupmae: --objective.knd=mlm: no setting objective.knd (did you mean objective.kind?)",
        ),
        (["run", "adapt", "valus.data=x"], "dupmae: valus.data=x: no setting valus (did you mean values?)"),
        (["run", "adpt"], "dupmae: adpt: no such recipe (did you mean adapt?)"),
        (["pretrain", "shards"], "dupmae: shards: not a setting (write NAME=VALUE; see `dupmae pretrain --help`)"),
        (["search", "index"], "dupmae: query is not given (give query=TEXT)"),
        (["search", "index", "words", "--k", "many"], "dupmae: --k=many: k cannot be 'many' (give a whole number"),
        (["prepare", "--out", "x"], "dupmae: inputs is not given"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["objective.kind=mlm", "learning_rate=3e-5", "resume=true", "masking.corruption=false"],
        ["--objective.kind", "mlm", "--learning-rate", "3e-5", "--resume", "--masking.corruption", "false"],
        ["--objective.kind=mlm", "--learning_rate=3e-5", "--resume", "true", "--masking.corruption=false"],
    ],
)
def test_every_setting_is_an_option(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = settings_of(monkeypatch, "pretrain", "--data", "d", *words, "--out", "2024-11-28")
    assert (seen.objective.kind, seen.learning_rate, seen.resume, seen.masking.corruption) == ("mlm", 3e-5, True, False)
    assert (seen.data, seen.out) == ([Path("d")], Path("2024-11-28"))


def test_words_without_an_option_are_what_the_command_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, "compare", "a", "--bm25", "b", "test=t-test").inputs == [Path("a"), Path("b")]
    found = settings_of(monkeypatch, "search", "index", "what", "--k", "3", "does", "x=1", "mean", "--", "--k")
    assert (found.index, found.query, found.k) == (Path("index"), "what does x=1 mean --k", 3)
    assert settings_of(monkeypatch, "evaluate", "r", "--suite", "beir").split == "test"
    assert settings_of(monkeypatch, "evaluate", "r", "data=d", "out=o").depth == 100


def test_run_alone_lists_the_recipes_of_chains(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run") == 0
    printed = capsys.readouterr().out
    assert "  adapt\n      From an encoder" in printed
    assert "retromae-msmarco" not in printed


def test_no_control_character_reaches_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    title = "\x1b[31m\x9b2J\u202etitle\n\t"

    def index(settings: recipe.Index) -> commands.Outcome:
        logger.warning("about %s", title)
        return commands.Outcome({"title": title}, title)

    stand_in(monkeypatch, "index", index)
    words = ["index", "--retriever", "r", "--data", "d", "--out", "o"]
    assert call(*words) == 0
    assert call(*words, "--json") == 0
    assert call("index", "--retriever", title) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["title"] == title
    assert not set(printed.out + printed.err) & set("\x1b\x9b\u202e")
    assert "\\u001b[31m\\u009b2J\\u202etitle" in printed.out
    assert "about \\u001b[31m" in printed.err


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_a_terminal_cannot_encode_is_escaped(words: list[str]) -> None:
    program = (
        "import sys; from dupmae import cli, commands, stages; from dataclasses import replace\n"
        "text = 'na\\u00efve \\u2192 \\U0001f600 \\ud800'\n"
        "stages.call = lambda stage, settings, recipe: commands.Outcome({'text': text}, text)\n"
        "told = replace(commands.COMMANDS['search'], outcome=lambda settings, outcome: outcome)\n"
        "commands.COMMANDS['search'] = told\n"
        f"sys.exit(cli.main(['search', 'index', 'words', *{words}]))"
    )
    for encoding in ("ascii", "latin-1", "utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = done.stdout.decode(encoding)
        if words:
            assert json.loads(printed) == {"text": "na\u00efve \u2192 \U0001f600 \ud800"}
        else:
            assert printed.startswith("na" + ("\\xef" if encoding == "ascii" else "\u00ef"))


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "--data", "nope", "--out", "o"],
        ["finetune", "--model", "./nope", "--data", ".", "--out", "o"],
        ["search", "nope", "words"],
        ["export", "--retriever", "here", "--out", "o", "metrics=[nope]"],
        ["prepare", "nope", "--out", "o"],
    ],
)
def test_a_missing_file_is_told_before_the_heavy_libraries_are_loaded(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    program = f"import sys; from dupmae import cli; code = cli.main({words}); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    code, *loaded = done.stdout.split()
    assert code == "2"
    assert "nope: no such" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not set(loaded) & {"torch", "transformers", "numpy", "pyarrow"}


def test_a_terminated_command_leaves_nothing_half_written(tmp_path: Path) -> None:
    program = (
        "import sys, time; from dupmae import cli, stages; from dupmae.files import new_folder\n"
        "def call(stage, settings, recipe):\n"
        "    with new_folder(settings.out, 'shards') as folder:\n"
        "        (folder / 'half').touch(); print('ready', flush=True); time.sleep(60)\n"
        "stages.call = call\n"
        "sys.exit(cli.main(['prepare', 'texts', '--out', 'shards']))"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []


def test_the_quickstart_takes_values_and_no_recipe_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[recipe.Quickstart] = []

    def quickstart(settings: recipe.Quickstart) -> commands.Outcome:
        seen.append(settings)
        return commands.Outcome({"done": True}, "done")

    stand_in(monkeypatch, "quickstart", quickstart)
    assert call("quickstart") == 0
    assert call("quickstart", "--minutes", "1", "--from-scratch", "--out", "x", "from_scratch.layers=1", "--json") == 0
    plain, scratch = seen
    assert (plain.out, plain.minutes, plain.seed, plain.from_scratch) == (Path("runs/quickstart"), 8, 0, None)
    assert plain == recipe.Quickstart()
    assert (scratch.minutes, scratch.out) == (1, Path("x"))
    assert scratch.from_scratch is not None
    assert scratch.from_scratch.layers == 1
    assert capsys.readouterr().out == 'done\n{"done": true}\n'
    empty = tmp_path / "empty.yaml"
    empty.write_text("minutes: 2\n")
    assert call("quickstart", "--recipe", empty) == 0
    assert seen[2] == recipe.Quickstart(minutes=2)


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def prepare(settings: recipe.Prepare) -> commands.Outcome:
        raise KeyboardInterrupt

    stand_in(monkeypatch, "prepare", prepare)
    assert call("prepare", "a.txt", "--out", "b") == 130
    assert capsys.readouterr().err == "dupmae: interrupted\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "/x/model"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_whoever_reports_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(settings: recipe.Prepare) -> commands.Outcome:
        raise error

    stand_in(monkeypatch, "prepare", prepare)
    assert call("prepare", "a.txt", "--out", "b") == 2
    printed = capsys.readouterr().err
    assert "No space left on device (free some space or choose another place)" in printed
    assert printed.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(settings: recipe.Prepare) -> commands.Outcome:
        raise RuntimeError("shapes differ")

    stand_in(monkeypatch, "prepare", prepare)
    with pytest.raises(RuntimeError, match="shapes differ"):
        call("prepare", "a.txt", "--out", "b")


def test_a_reader_that_goes_away_is_no_fault() -> None:
    program = (
        "import sys; from dataclasses import replace; from dupmae import cli, commands, stages\n"
        "stages.call = lambda stage, settings, recipe: []\n"
        "told = lambda settings, hits: commands.Outcome({}, 'x' * 1_000_000)\n"
        "commands.COMMANDS['search'] = replace(commands.COMMANDS['search'], outcome=told)\n"
        "sys.exit(cli.main(['search', 'index', 'words']))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == cli.PIPE_EXIT_CODE
        assert process.stderr.read() == b""
