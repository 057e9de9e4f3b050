"""`dupmae export`: a retriever as a folder for other people and tools, and to the hub."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import MARKER, new_folder
from dupmae.retriever.card import CARD_FILE, Measured, model_card
from dupmae.retriever.hub_upload import push
from dupmae.retriever.model import CHECKED, Retriever
from dupmae.retriever.onnx import write_onnx
from dupmae.settings import Export

ONNX_FOLDER = "onnx"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        onnx_difference: largest difference of the ONNX vectors from torch's; None without them.
        address: of the model on the hub; None when nothing was pushed.
    """

    folder: Path
    onnx_difference: float | None
    address: str | None


def export(settings: Export) -> Exported:
    """Write the folder: the retriever, its model card and, where wanted, ONNX; then push it.

    Raises:
        DupmaeError: for a retriever that cannot be read, metrics that are none or another retriever's, ONNX vectors
            that are not torch's, a file system or a hub that refuses.
    """
    retriever = Retriever.load(settings.retriever)
    measured = [_measured(path, retriever) for path in settings.metrics]
    difference = None
    with new_folder(settings.out, "a retriever", checked=CHECKED) as folder:
        ignored = shutil.ignore_patterns(MARKER, CARD_FILE)
        shutil.copytree(settings.retriever, folder, ignore=ignored, dirs_exist_ok=True)
        if settings.onnx:
            logger.info("writing ONNX and comparing it with torch")
            difference = write_onnx(folder / ONNX_FOLDER, retriever)
        card = model_card(
            retriever.encoder,
            retriever.settings,
            name=settings.name or settings.out.name,
            license=settings.license,
            languages=settings.languages,
            data=settings.data,
            base_model=settings.base_model,
            measured=measured,
            onnx=settings.onnx,
        )
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    address = None
    if settings.push is not None:
        logger.info(f"pushing to {settings.push}")
        address = push(settings.out, settings.push, private=settings.private)
    return Exported(settings.out, difference, address)


def _measured(path: Path, retriever: Retriever) -> Measured:
    """Metrics that are this retriever's."""
    measured = Measured.read(path)
    if measured.retriever != retriever.fingerprint():
        problem = "the metrics are another retriever's"
        raise DupmaeError(problem, where=path, fix=f"evaluate {retriever.folder} and give its metrics.json")
    return measured
