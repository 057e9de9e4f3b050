"""Every benchmark in one call: `python -m benchmarks.record --data DIR`.

Each runs in processes of its own, one after another, so leave the machine alone meanwhile. What it printed is kept in
`benchmarks/results/measured.json` with its command, date and hardware as soon as it ends, and the tables of
`benchmarks/README.md` are written anew from what is kept. Names choose some; those of kept ones are measured anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import TABLES, between
from dupmae.files import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results" / "measured.json"
PAGE = Path(__file__).parent / "README.md"
SHAPES = (
    "--layers 6 --hidden 384 --length 150 --batch 16 --objective dupmae",
    "--layers 6 --hidden 384 --length 150 --batch 16 --objective retromae",
    "--layers 6 --hidden 384 --length 512 --batch 4 --objective dupmae",
    "--layers 12 --hidden 768 --length 150 --batch 8 --objective dupmae",
)
# What is run under each name; DATA stands for the folder that --data gives.
RUNS = {
    "masking": ("masking",),
    "ablation": ("ablation --length 150 --batch 4", "ablation --length 512 --batch 2"),
    "pretraining-bf16": tuple(f"pretraining {shape} --dtype bf16" for shape in SHAPES),
    "same-allocator": tuple(f"pretraining {shape} --dtype bf16 --naive-allocator ours" for shape in SHAPES),
    "pretraining-fp32": tuple(f"pretraining {shape} --dtype fp32 --steps 3" for shape in SHAPES),
    "profile": tuple(
        f"pretraining {shape} --dtype bf16 --alone --profile"
        for shape in (SHAPES[0], SHAPES[2].replace("--batch 4", "--batch 8"), SHAPES[3])
    ),
    "large-vocabulary": ("pretraining --vocabulary 250002 --batch 32 --alone --dtype bf16 --steps 3",),
    "real-text": ("real_text --steps 32",),
    "finetuning": ("finetuning",),
    "prepare": (
        "prepare --megabytes 40 --repeats 3 --workers 1 --inputs DATA/wikipedia_en/articles.jsonl.gz",
        "prepare --megabytes 40 --repeats 3 --workers 1 --inputs DATA/imdb/unsup.jsonl.gz",
    ),
    "encoding": ("encoding",),
    "vocabulary": ("vocabulary", "vocabulary --batch 2048 --steps 1"),
    "cross-entropy": ("cross_entropy",),
    "search": ("search",),
    "suites": ("suites --data DATA",),
}


def main() -> None:
    """Measure what was named, keep it, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)} (all when none is given)")
    parser.add_argument(
        "--data", type=Path, help="folder with the texts that are prepared; without it those are left out"
    )
    parser.add_argument("--page", action="store_true", help="write the tables from what is kept, measure nothing")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in RUNS]
    if unknown:
        parser.error(f"no benchmark is named {unknown[0]}: {', '.join(RUNS)}")
    if not options.page:
        for name in options.names or RUNS:
            needs_data = any("DATA" in line for line in RUNS[name])
            if needs_data and options.data is None:
                print(f"{name}: left out, it needs --data", flush=True)
            else:
                _record(name, options.data)
    write_text(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), read_json(RESULTS)))
    print(f"wrote {PAGE}")


def _record(name: str, data: Path | None) -> None:
    runs = []
    for line in RUNS[name]:
        print(f"python -m benchmarks.{line} --json", flush=True)
        words = [word.replace("DATA", str(data)) for word in line.split()]
        command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:], "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(
            {"command": f"python -m benchmarks.{line} --json", "result": json.loads(done.stdout.splitlines()[-1])}
        )
    kept: dict[str, Any] = read_json(RESULTS) if RESULTS.exists() else {}
    kept[name] = {"date": datetime.date.today().isoformat(), "hardware": _hardware(), "runs": runs}
    write_json(RESULTS, kept)


def _hardware() -> str:
    """Processor or accelerator, threads, memory, and torch's version."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cpus = Path("/proc/cpuinfo")
    told = cpus.read_text(encoding="utf-8") if cpus.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    kind = "AVX512-BF16" if "avx512_bf16" in told else "no AVX512-BF16"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = found.group(1).strip() if found else "CPU"
    count = torch.get_num_threads()
    return f"{name}, {count} thread{'s' if count > 1 else ''} ({kind}), {memory:.0f} GiB, torch {torch.__version__}"


def with_tables(page: str, kept: dict[str, Any]) -> str:
    """The page with every part between `<!-- NAME -->` and `<!-- end -->` made anew of what is kept."""
    for name, measured in kept.items():
        told = f"Measured {measured['date']} on {measured['hardware']}.\n\n{TABLES[name](measured['runs'])}"
        page = between(page, f"<!-- {name} -->", "<!-- end -->", f"\n{told}\n")
    return page


if __name__ == "__main__":
    main()
