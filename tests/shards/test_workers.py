from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dupmae.errors import DupmaeError
from dupmae.shards.workers import AHEAD, ordered_map, usable_cores


def slow_square(number: int) -> tuple[int, int]:
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order(workers: int) -> None:
    results, processes = zip(*ordered_map(slow_square, range(40), workers), strict=True)
    assert list(results) == [number * number for number in range(40)]
    assert (os.getpid() in processes) == (workers == 1)
    assert len(set(processes)) <= workers


def test_items_are_taken_only_a_few_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = ordered_map(slow_square, items(), 2)
    for _ in range(5):
        next(results)
    assert taken <= 5 + 2 * AHEAD
    results.close()  # type: ignore[attr-defined]


def test_an_error_of_the_input_and_of_the_work_arrives() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DupmaeError("no", where="line 2")

    with pytest.raises(DupmaeError, match="line 2: no"):
        list(ordered_map(slow_square, items(), 2))
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(divide, [0], 2))


def divide(number: int) -> float:
    return 1 / number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(DupmaeError, match="a worker process was killed"):
        list(ordered_map(die, range(3), 2))


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    list(ordered_map(slow_square, range(3), 2))
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    list(ordered_map(slow_square, range(3), 2))
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_workers_end_with_a_killed_parent() -> None:
    code = """
import os, time
from dupmae.shards.workers import ordered_map
def work(number):
    return os.getpid()
def items():
    yield from range(40)
    time.sleep(60)
for process in ordered_map(work, items(), 2):
    print(process, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(30)}
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [worker for worker in workers if os.path.exists(f"/proc/{worker}")]


def test_cores() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
