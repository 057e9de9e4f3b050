"""Settings of a suite for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae.settings import EvaluateSuite


def suite_settings(suite: str, data: Path | None, retriever: Path = Path("retriever"), **given: Any) -> EvaluateSuite:
    return EvaluateSuite.model_validate({"suite": suite, "data": data, "retriever": retriever, **given})
