"""Work spread over processes, results in order, with a bounded number of items under way.

`ordered_map`, `usable_cores`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from dupmae.errors import DupmaeError

A = TypeVar("A")
B = TypeVar("B")

# Items under way for each worker: enough that none waits while the oldest result is still being made.
AHEAD = 4
PARALLELISM = "TOKENIZERS_PARALLELISM"
_work: dict[str, Callable[[Any], Any]] = {}


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(work: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[B]:
    """Give work(item) for every item, in order, computed by `workers` processes; by this one when it is 1.

    Items are taken only a few ahead of the results, so memory does not grow with their number.

    Raises:
        DupmaeError: when a process is killed.
    """
    if workers == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[B]] = deque()
    with _pool(work, workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(_call, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            fix = f"free some memory, or give fewer than workers={workers}"
            raise DupmaeError("a worker process was killed", where="workers", fix=fix) from None


@contextmanager
def _pool(work: Callable[[A], B], workers: int) -> Iterator[ProcessPoolExecutor]:
    # A forked process starts in milliseconds and needs no import guard in the caller's script; the worker uses
    # nothing that threads of this process could hold a lock of.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with _parallelism_settled():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_set_up, initargs=(work,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _parallelism_settled() -> Iterator[None]:
    """Each worker tokenises on its own core: the tokenizer's threads stay off, and its warning about forks."""
    before = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before


def _set_up(work: Callable[[Any], Any]) -> None:
    # An interrupt is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _work["work"] = work


def _leave_with_parent() -> None:
    """Without this, workers of a parent that was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> Any:
    return _work["work"](item)
