"""`dupmae prepare`: raw text to tokenised shards."""

from __future__ import annotations

from dupmae.console import logger
from dupmae.corpus.readers import read_texts
from dupmae.settings import Prepare
from dupmae.shards.folder import Manifest
from dupmae.shards.tokenizers import load_tokenizer, train_wordpiece
from dupmae.shards.workers import usable_cores
from dupmae.shards.writing import write_shards


def prepare(settings: Prepare) -> Manifest:
    """Tokenise the texts of `settings.inputs` into a shard folder at `settings.out`.

    Without `settings.tokenizer` a WordPiece tokenizer is trained on the texts first, which reads them twice.

    Raises:
        DupmaeError: for inputs or a tokenizer that cannot be read, or when the file system refuses or a worker dies.
    """
    texts = read_texts(settings.inputs)
    if settings.tokenizer is None:
        logger.info("training a WordPiece tokenizer of %s entries", f"{settings.vocabulary:,}")
        tokenizer = train_wordpiece(texts, settings.vocabulary)
        texts = read_texts(settings.inputs)
    else:
        tokenizer = load_tokenizer(settings.tokenizer)
    manifest = write_shards(
        settings.out,
        texts,
        tokenizer,
        max_length=settings.max_length,
        shard_records=settings.shard_records,
        text=settings.text,
        language=settings.language,
        workers=settings.workers or usable_cores(),
    )
    logger.info(
        "%s records, %s tokens in %d shards; %s too short",
        f"{manifest.records:,}",
        f"{manifest.tokens:,}",
        len(manifest.shards),
        f"{manifest.dropped:,}",
    )
    return manifest
