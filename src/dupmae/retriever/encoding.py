"""Texts to vectors: tokenised in parallel, sorted by length, in batches of a token budget, on every device.

`Worker` is an inference copy of an encoder on one device, `encode` feeds tokenised texts to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from dupmae import console
from dupmae.memory import trim
from dupmae.nn.representation import Counts, HybridEncoder, Texts
from dupmae.retriever.vectors import Encoded, Sparse
from dupmae.shards.batches import Indices, budget_batches
from dupmae.shards.tokenise import Tokenisation, Tokens, portions

# Texts that are sorted together. Sorting more of them saves no padding, and their vectors wait in memory. Fewer of long
# ones: an Arrow column of a block then stays below 2 GiB.
BLOCK, BLOCK_CHARACTERS = 20_000, 1 << 27
# Batches of ever other shapes leave holes in the heap.
BATCHES_BETWEEN_TRIMS = 50
# Tokens of a batch by kind of device: on a CPU what its caches hold, on a GPU what keeps it busy.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536}


@dataclass(frozen=True, slots=True)
class _Batch:
    """Vectors of some texts, still on their device.

    Attributes:
        dense: [B, d'], None without a dense part.
        counts: stored entries of each row of the sparse part, [B].
        columns, values: entry and value; those that are not above 0 do not count. Rows in order, columns rising.
    """

    dense: Tensor | None
    counts: Tensor
    columns: Tensor
    values: Tensor


class Worker:
    """An encoder for inference on one device: a copy in `dtype` that keeps the parameters it is made of.

    Args:
        special: ids of the tokens that the vocabulary part leaves out, int64 [S].
        pad: id of padding.
    """

    def __init__(
        self, encoder: HybridEncoder, device: torch.device, dtype: torch.dtype, special: Tensor, pad: int
    ) -> None:
        self.device, self._pad = device, pad
        self._encoder = encoder.lowered(dtype).to(device)
        self._special = torch.zeros(len(encoder.term_weights), dtype=torch.bool)
        self._special[special] = True
        self._special = self._special.to(device)
        # In full precision, and for queries alone.
        a, b = encoder.log_scales.detach().exp().tolist()
        self._scales = (a, b)

    @torch.inference_mode()
    def run(
        self, tokens: Tokens, batches: Sequence[Indices], keep: int | None, queries: bool, bar: console.Bar | None
    ) -> list[_Batch]:
        """Encode the texts of each batch; `keep` is the top-k of the vocabulary part."""
        done = []
        for number, rows in enumerate(batches, 1):
            if number % BATCHES_BETWEEN_TRIMS == 0:
                trim()
            ids, valid = (part.to(self.device, non_blocking=True) for part in tokens.padded(rows, self._pad))
            counts = None
            if tokens.counts is not None:
                counts = Counts(*(torch.from_numpy(part).to(self.device) for part in tokens.counts.rows(rows)))
            texts = Texts(ids, valid, self._special[ids], counts)
            found = self._encoder(texts, queries)
            vectors = self._encoder.searched(found, self._scales if queries else (1.0, 1.0))
            sparse = torch.zeros(len(rows), 0, device=self.device) if vectors.sparse is None else vectors.sparse
            done.append(_Batch(vectors.dense, *_entries(sparse, keep)))
            if bar is not None:
                bar.advance(len(rows))
        return done


def _entries(values: Tensor, keep: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, columns and values of the positive entries of [B, |V|], at most the `keep` largest of each row."""
    if keep is None or keep >= values.shape[1]:
        kept = values > 0
        return kept.sum(1), kept.nonzero()[:, 1].int(), values[kept]
    best, columns = values.topk(keep, dim=1)
    columns, order = columns.sort(dim=1)
    best = best.gather(1, order)
    # Without looking at the counts, which would wait for the device.
    return (best > 0).sum(1), columns.int(), best


def encode(
    workers: Sequence[Worker],
    tokenise: Tokenisation,
    texts: Sequence[str],
    *,
    prefix: str,
    limit: int,
    vocabulary: int,
    keep: int | None,
    queries: bool,
    counts: bool = False,
    batch_tokens: int | None = None,
    bar: console.Bar | None = None,
) -> Iterator[Encoded]:
    """Vectors of the texts in their order, block by block, in memory that does not grow with their number.

    Args:
        workers: one for each device; they share the batches of a block.
        prefix: put before each text.
        limit: tokens of a text, specials included; what is longer is cut.
        vocabulary: |V|.
        keep: entries of the vocabulary part that a text keeps; None: all.
        queries: whether the part weights are multiplied in.
        counts: whether the tokens of the whole texts are counted.
        batch_tokens: tokens of a batch, padding included; None: `BATCH_TOKENS` of the device.
    """
    size = batch_tokens or BATCH_TOKENS[workers[0].device.type]
    blocks = portions(texts, BLOCK_CHARACTERS, BLOCK)
    tokenised = partial(tokenise, limit=limit, prefix=prefix, counts=counts)
    for tokens in _mapped(tokenised, blocks, ahead=workers[0].device.type != "cpu"):
        order = np.argsort(tokens.lengths, kind="stable")
        batches = budget_batches(tokens.lengths, size, order)
        shares = [batches[place :: len(workers)] for place in range(len(workers))]
        if len(workers) == 1:
            done = [workers[0].run(tokens, batches, keep, queries, bar)]
        else:
            with ThreadPoolExecutor(len(workers)) as pool:
                runs = [
                    pool.submit(worker.run, tokens, share, keep, queries, bar)
                    for worker, share in zip(workers, shares, strict=True)
                ]
                done = [run.result() for run in runs]
        rows = np.concatenate([part for share in shares for part in share])
        yield _in_order(list(chain.from_iterable(done)), rows, vocabulary)


def _mapped(
    tokenise: Callable[[Sequence[str]], Tokens], blocks: Iterator[Sequence[str]], *, ahead: bool
) -> Iterator[Tokens]:
    """Tokens of each block; `ahead`: while the block before it is encoded.

    On a CPU both would fight for the same cores, and the products wait for the slowest of them.
    """
    if not ahead:
        yield from map(tokenise, blocks)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Tokens] | None = None
        for block in blocks:
            before, waiting = waiting, pool.submit(tokenise, block)
            if before is not None:
                yield before.result()
        if waiting is not None:
            yield waiting.result()


def _in_order(batches: Sequence[_Batch], rows: Indices, vocabulary: int) -> Encoded:
    """The vectors on the host; `rows` says which text each row of the batches is."""
    back = np.argsort(rows)
    dense = np.zeros((len(rows), 0), dtype=np.float32)
    if batches[0].dense is not None:
        dense = np.concatenate([batch.dense.cpu().numpy() for batch in batches if batch.dense is not None])[back]
    counts = np.concatenate([batch.counts.cpu().numpy() for batch in batches])
    columns, values = [], []
    for batch in batches:
        kept = batch.values > 0
        columns.append(batch.columns[kept].cpu().numpy())
        values.append(batch.values[kept].cpu().numpy())
    bounds = np.concatenate([[0], counts.cumsum()])
    matrix: Sparse = csr_array(
        (np.concatenate(values), np.concatenate(columns), bounds), shape=(len(rows), vocabulary), dtype=np.float32
    )
    matrix = matrix[back]
    matrix.sort_indices()
    return Encoded(dense, matrix)


def devices() -> list[torch.device]:
    """Every GPU, or that of this process where several work together; the CPU where there is none."""
    if not torch.cuda.is_available():
        return [torch.device("cpu")]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return [torch.device("cuda", torch.cuda.current_device())]
    return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
