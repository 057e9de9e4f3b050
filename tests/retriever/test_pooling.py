"""What an encoder's vectors are read from, as its folder tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.retriever.pooling import as_tuned, keep_modules
from dupmae.settings import Representation
from tests.reference.tiny import tiny_folder


def described(folder: Path, pooling: dict[str, Any], *, scaled: bool = True) -> Path:
    """A folder with the modules of a tuned encoder."""
    (folder / "1_Pooling").mkdir(parents=True)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * scaled
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


OLD = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
NEW = {"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True}


@pytest.mark.parametrize("config", [OLD, NEW])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_tuned_encoder_is_read_as_it_was_tuned(config: dict[str, Any], scaled: bool, tmp_path: Path) -> None:
    folder = described(tmp_path / "encoder", config, scaled=scaled)
    found = as_tuned(Representation(), str(folder))
    assert (found.pooling, found.normalize) == ("mean", scaled)
    given = as_tuned(Representation(pooling="cls", normalize=False), str(folder))
    assert (given.pooling, given.normalize) == ("cls", False)
    keep_modules(str(folder), tmp_path)
    again = as_tuned(Representation(), str(tmp_path))
    assert (again.pooling, again.normalize) == ("mean", scaled)


def test_a_start_that_says_nothing_is_read_from_cls(tmp_path: Path) -> None:
    found = as_tuned(Representation(), str(tmp_path))
    assert (found.pooling, found.normalize) == ("cls", False)


def test_another_pooling_is_refused_unless_the_settings_say_what_to_read(tmp_path: Path) -> None:
    folder = described(tmp_path / "encoder", {"pooling_mode_max_tokens": True})
    with pytest.raises(DupmaeError, match=r"read from 'max'.*set representation\.pooling"):
        as_tuned(Representation(), str(folder))
    assert as_tuned(Representation(pooling="mean"), str(folder)).normalize


@pytest.mark.parametrize("text", ["{}", "[1]", "[", '[{"path": "../..", "type": "x.Pooling"}]'])
def test_a_damaged_description_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(text, encoding="utf-8")
    if text == "{}":
        assert as_tuned(Representation(), str(tmp_path)).pooling == "cls"
        return
    with pytest.raises(DupmaeError, match=r"modules\.json: is no description"):
        as_tuned(Representation(), str(tmp_path))


def test_an_encoder_as_it_comes(tmp_path: Path) -> None:
    folder = described(tiny_folder(tmp_path / "model"), NEW)
    retriever = Retriever.from_encoder(str(folder))
    assert retriever.representation.pooling == "mean"
    dense = retriever.encode_queries(["read a file"]).dense
    assert dense.shape == (1, retriever.encoder.backbone.width)
    assert abs(float((dense**2).sum()) - 1) < 1e-2
