"""`from-encoder`: an encoder as it comes, saved as a retriever: the baseline that needs no training."""

from __future__ import annotations

from pathlib import Path

from dupmae.retriever.backbones import open_backbone
from dupmae.retriever.model import Retriever
from dupmae.settings import FromEncoder, RetrieverSettings


def from_encoder(settings: FromEncoder) -> Path:
    """Save an encoder as a retriever folder; its vectors are as wide as it is unless the settings say otherwise.

    Raises:
        DupmaeError: for a model that cannot be read, or when the file system refuses.
    """
    representation = settings.representation
    if "dimensions" not in representation.model_fields_set:
        width = open_backbone(settings.model)[0].width
        representation = representation.model_copy(update={"dimensions": width})
    kept = settings.model_dump(include=set(RetrieverSettings.model_fields)) | {"representation": representation}
    return Retriever.from_encoder(settings.model, RetrieverSettings.model_validate(kept)).save(settings.out)
