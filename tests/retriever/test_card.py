"""The model card says what is known and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from dupmae.errors import DupmaeError
from dupmae.retriever.card import Measured, model_card
from dupmae.retriever.model import Retriever
from tests.tiny import tiny_retriever


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return tiny_retriever(tmp_path_factory.mktemp("card") / "retriever")


def front(card: str) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return loaded


def test_a_bare_card_claims_nothing(retriever: Retriever) -> None:
    card = model_card(retriever.encoder, retriever.settings)
    assert "## Licence\n\nNone was given." in card
    assert "## Data\n\nNot stated." in card
    assert "## Metrics\n\nNone given." in card
    assert not {"license", "language", "base_model", "model-index"} & set(front(card))


def test_what_is_given_stands_in_the_card(retriever: Retriever, tmp_path: Path) -> None:
    metrics = {"ndcg@10": 0.51234, "recall@100": 0.9}
    found = {
        "metrics": metrics,
        "counts": {"queries": 1200, "passages": 34000},
        "retriever": {},
        "settings": {"data": "sets/cranfield", "split": "test"},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    card = model_card(
        retriever.encoder,
        retriever.settings,
        name="harvest",
        license="mit",
        languages=["en"],
        data=["the documentation of 34,000 Python functions"],
        base_model="owner/encoder",
        measured=[Measured.read(tmp_path / "metrics.json")],
        onnx=True,
    )
    told = front(card)
    assert (told["license"], told["language"], told["base_model"]) == ("mit", ["en"], "owner/encoder")
    (index,) = told["model-index"]  # type: ignore[misc, attr-defined]
    assert index["results"][0]["metrics"][0] == {"type": "ndcg@10", "value": 0.51234}
    assert "cranfield, test: 1,200 queries in 34,000 passages" in card
    assert "| ndcg@10 | 0.5123 |" in card
    assert "- the documentation of 34,000 Python functions" in card
    assert "onnx/settings.json" in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings == retriever.settings.model_dump(mode="json")


def test_the_code_of_the_card_runs(retriever: Retriever, capsys: pytest.CaptureFixture[str]) -> None:
    assert retriever.folder is not None
    card = (retriever.folder / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, {"FOLDER": str(retriever.folder)})
    assert capsys.readouterr().out


@pytest.mark.parametrize("text", ["[]", '{"metrics": {}}', '{"settings": {"data": 1, "split": "a"}}'])
def test_other_files_than_metrics_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DupmaeError, match=r"metrics\.json: holds no metrics"):
        Measured.read(tmp_path / "metrics.json")
