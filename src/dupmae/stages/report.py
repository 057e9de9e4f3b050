"""`dupmae report`: the curves of a training run."""

from __future__ import annotations

from typing import Any

from dupmae.report.curves import write_curves
from dupmae.settings import Report


def report(settings: Report) -> dict[str, Any]:
    """Draw the curves of a run; errors and what comes back as `write_curves`."""
    return write_curves(settings.run)
