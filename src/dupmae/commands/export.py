"""The command `export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, written
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.settings import Export


def export(settings: Export) -> Outcome:
    """A retriever as a folder for other people and tools."""
    check_folder(settings.out, "a retriever")
    from dupmae.stages.export import ONNX_FOLDER
    from dupmae.stages.export import export as run

    done = run(settings)
    told = {"": "opens in dupmae and in sentence-transformers", "README.md": "the model card"}
    if done.onnx_difference is not None:
        told[ONNX_FOLDER] = f"at most {done.onnx_difference:.1e} from torch"
    result = {"folder": str(done.folder), "onnx_difference": done.onnx_difference, "address": done.address}
    after = command_line("export", "--retriever", settings.retriever, "--out", settings.out, "--push", "OWNER/NAME")
    if done.address is not None:
        told[""] += f"; pushed to {done.address}"
        after = command_line("index", "--retriever", settings.out, "--data", "CORPUS", "--out", "INDEX")
    return written(result, settings.out, told, after)


COMMANDS = (
    Command(
        "export",
        "a retriever with a model card for other tools, to ONNX, to a hub",
        export,
        "Export",
        ("retriever", "out", "license", "push"),
        {"onnx": True},
    ),
)
