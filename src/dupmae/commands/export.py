"""The command `export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, written

if TYPE_CHECKING:
    from dupmae.settings import Export
    from dupmae.stages.export import Exported


def export(settings: Export, done: Exported) -> Outcome:
    """A retriever as a folder for other people and tools."""
    files = {"": "opens in dupmae and in sentence-transformers", "README.md": "the model card"}
    if done.onnx_difference is not None:
        files["onnx"] = f"at most {done.onnx_difference:.1e} from torch"
    result = {"folder": str(done.folder), "onnx_difference": done.onnx_difference, "address": done.address}
    after = command_line("export", "--retriever", settings.retriever, "--out", settings.out, "--push", "OWNER/NAME")
    if done.address is not None:
        files[""] += f"; pushed to {done.address}"
        after = command_line("index", "--retriever", settings.out, "--data", "CORPUS", "--out", "INDEX")
    return written(result, settings.out, files, after)


EXPORT = Command("export", "a retriever with a model card for other tools, to ONNX, to a hub", "export", export)
