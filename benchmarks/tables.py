"""The tables of `benchmarks/README.md`, each made of the kept results of one benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dupmae.report.tables import Table, markdown

Runs = list[dict[str, Any]]
STEP_GOAL, RATIO_GOALS, MEMORY_GOAL, MLM_GOAL = 0.95, {"bf16": 2.0, "fp32": 1.4}, 1 / 3, 1.5
# Seconds of a step of the authors' code on two cores of this kind, measured once: quoted, not measured here.
QUOTED = {
    "DupMAE, 6 x 384, 150 tokens, batch 16": {"bf16": 2.1, "fp32": 3.9},
    "RetroMAE, 6 x 384, 150 tokens, batch 16": {"bf16": 2.0, "fp32": 3.5},
    "DupMAE, 6 x 384, 512 tokens, batch 4": {"bf16": 3.0, "fp32": 4.7},
    "DupMAE, 12 x 768, 150 tokens, batch 8": {"bf16": 2.4, "fp32": 6.3},
}


def between(page: str, begin: str, end: str, text: str) -> str:
    """The page with `text` in the place of what stands between two marks."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return markdown(Table(head, rows, names=len(head)), escaped=False)


def spread(times: dict[str, float], digits: int = 2) -> str:
    """Median (minimum, maximum)."""
    return f"{times['median']:,.{digits}f} ({times['min']:,.{digits}f}, {times['max']:,.{digits}f})"


def verdict(value: float, goal: float, *, at_least: bool) -> str:
    """Whether a goal is met, and by how much it is missed."""
    met = value >= goal if at_least else value <= goal
    told = f"{goal:,.3f}".rstrip("0").rstrip(".")
    return f"goal {told}: {'reached' if met else f'missed by {abs(value / goal - 1):.0%}'}"


def masking(runs: Runs) -> str:
    """Milliseconds an example, by length."""
    (result,) = (run["result"] for run in runs)
    rows = []
    for length, median in result["ms_per_example"].items():
        ratio = f"{result['ratio_to_reference'][length]:.0f}"
        goal = verdict(median, 0.3, at_least=False) if length == "512" else ""
        rows.append([length, spread(result["spread"][length], 3), ratio, goal])
    return table(["tokens", "ms per example, median (min, max)", "ratio to reference", ""], rows)


def _work(settings: dict[str, Any]) -> str:
    kind = {"dupmae": "DupMAE", "retromae": "RetroMAE", "mlm": "MLM"}[settings["objective"]]
    return (
        f"{kind}, {settings['layers']} x {settings['hidden']}, {settings['length']} tokens, batch {settings['batch']}"
    )


def pretraining(runs: Runs) -> str:
    """Steps against the naive one, and the goals."""
    results = [run["result"] for run in runs]
    rates = [result["matmul_flops_per_second"] / 1e9 for result in results]
    rows = [
        [
            _work(each["settings"]),
            spread(each["step_seconds"]),
            spread(each["reference_step_seconds"]),
            f"{each['ratio_to_reference']:.2f}",
            f"{each['ratio_to_mlm']:.2f}",
            f"{each['peak_memory_bytes'] / 1e9:.2f} / {each['reference_peak_memory_bytes'] / 1e9:.2f}",
            f"{each['utilisation']:.0%}",
        ]
        for each in results
    ]
    head = ["work", "step, s", "naive step, s", "ratio", "ratio to our MLM"]
    head += ["peak memory, ours / naive, GB", "utilisation"]
    told = (
        "Seconds are median (min, max); products of large square matrices ran at "
        f"{min(rates):,.0f} to {max(rates):,.0f} GFLOP/s."
    )
    return "\n\n".join([told, table(head, rows), _goals(results)])


def _goals(results: list[dict[str, Any]]) -> str:
    dtype = results[0]["settings"]["dtype"]
    lines = []
    for each in results:
        ratio, memory = each["ratio_to_reference"], each["memory_ratio_to_reference"]
        parts = [f"{ratio:.2f} times the naive step ({verdict(ratio, RATIO_GOALS[dtype], at_least=True)})"]
        if quoted := QUOTED.get(_work(each["settings"]), {}).get(dtype):
            faster = quoted / each["step_seconds"]["median"]
            products = each["flops"] / each["matmul_flops_per_second"]
            told = verdict(faster, RATIO_GOALS[dtype], at_least=True)
            told += f"; the products alone would be {quoted / products:.2f} times at the measured peak"
            parts.append(f"{faster:.2f} times the authors' code as quoted, {quoted:.1f} s ({told})")
        parts.append(f"{memory:.2f} of the naive step's memory ({verdict(memory, MEMORY_GOAL, at_least=False)})")
        if dtype == "bf16" and each is results[0]:
            step = each["step_seconds"]["median"]
            parts.append(f"{step:.2f} s ({verdict(step, STEP_GOAL, at_least=False)})")
        if dtype == "bf16" and each["settings"]["hidden"] == 768:
            cost = 1 / each["ratio_to_mlm"]
            parts.append(f"{cost:.2f} times our MLM step ({verdict(cost, MLM_GOAL, at_least=False)})")
        lines.append(f"- {_work(each['settings'])}: {', '.join(parts)}.")
    return "\n".join(lines)


def same_allocator(runs: Runs) -> str:
    """Steps against the naive one with our settings of the allocator."""
    rows = []
    for run in runs:
        each = run["result"]
        steps = (spread(each[name]) for name in ("step_seconds", "reference_step_seconds"))
        rows.append([_work(each["settings"]), *steps, f"{each['ratio_to_reference']:.2f}"])
    return table(["work", "step, s", "naive step, our allocator, s", "ratio"], rows)


def profile(runs: Runs) -> str:
    """Where the time of a step goes."""
    results = [run["result"] for run in runs]
    names = list(dict.fromkeys(name for each in results for name in each["profile"]))
    rows = [
        [f"`{name}`", *(f"{each['profile'][name]:.1%}" if name in each["profile"] else "" for each in results)]
        for name in names
    ]
    return table(["operation", *(_work(each["settings"]) for each in results)], rows)


def large_vocabulary(runs: Runs) -> str:
    """A step over the vocabulary of XLM-R."""
    (each,) = (run["result"] for run in runs)
    settings, memory = each["settings"], each["peak_memory_bytes"] / 1e9
    return (
        f"{_work(settings)}, {settings['vocabulary']:,} entries: {each['step_seconds']['median']:.1f} s a step, "
        f"{memory:.1f} GB at most ({verdict(memory, 6, at_least=False)})."
    )


def real_text(runs: Runs) -> str:
    """Real tokens a second."""
    (each,) = (run["result"] for run in runs)
    speed = each["tokens_per_second"]
    bound = speed["median"] / each["utilisation"]
    return (
        f"{each['steps']} steps: {spread(speed, 0)} tokens a second, median (min, max) "
        f"({verdict(speed['median'], 2700, at_least=True)}), {each['utilisation']:.0%} utilisation "
        f"(the counted products alone, at the peak measured in the same run, would allow {bound:,.0f}), "
        f"{each['padding_share']:.2%} padding (goal 3%), {each['peak_memory_bytes'] / 1e9:.1f} GB at most."
    )


def prepare(runs: Runs) -> str:
    """Preparing against the bare tokenizer."""
    rows = []
    for run in runs:
        each, file = run["result"], run["command"].split("DATA/")[1].split()[0]
        speeds = each["tokens_per_second"]
        ratio = each["ratio_spread"]["median"]
        rows.append(
            [
                f"`{file}`",
                *(spread(speed, 0) for speed in speeds.values()),
                f"{spread(each['ratio_spread'])} ({verdict(ratio, 0.9, at_least=True)})",
                f"{(each['peak_memory_bytes'] - each['memory_before_bytes']) / 1e6:,.0f} MB",
            ]
        )
    head = ["texts", "tokens per second, ours: median (min, max)", "bare tokenizer", "ratio"]
    return table([*head, "memory over the interpreter's"], rows)


def encoding(runs: Runs) -> str:
    """Passages a second against sentence-transformers."""
    (each,) = (run["result"] for run in runs)
    names = {
        "dupmae": "dupmae, bf16",
        "sentence_transformers": "sentence-transformers, defaults",
        "sentence_transformers_bf16": "sentence-transformers, bf16",
    }
    rows = []
    for name, label in names.items():
        low, high = each["spread"][name]
        rows.append(
            [
                label,
                f"{each['passages_per_second'][name]:.0f} ({low:.0f}, {high:.0f})",
                f"{each['peak_memory_bytes'][name] / 1e9:.2f} GB",
            ]
        )
    plain, low_precision = each["ratio_to_sentence_transformers"], each["ratio_to_sentence_transformers_bf16"]
    told = (
        f"{plain:.2f} times its defaults ({verdict(plain, 3, at_least=True)}) and {low_precision:.2f} times its "
        f"bfloat16 ({verdict(low_precision, 1.2, at_least=True)}). The smallest cosine with its vectors is "
        f"{each['cosine_min']:.4f} "
        f"({verdict(each['cosine_min'], 0.999, at_least=True)}; its own bfloat16: "
        f"{each['cosine_min_sentence_transformers_bf16']:.4f})."
    )
    return f"{table(['', 'passages a second, median (min, max)', 'peak memory'], rows)}\n\n{told}"


def vocabulary(runs: Runs) -> str:
    """The vocabulary maxima in training against SpladePooling."""
    each, large = (run["result"] for run in runs)
    rows = [
        [label, spread(each[name]["step_seconds"]), f"{each[name]['memory_bytes'] / 1e6:,.0f} MB"]
        for name, label in (("ours", "dupmae"), ("splade_pooling", "SpladePooling"))
    ]
    memory, taken = each["memory_ratio"], each["time_ratio"]
    failed = large["splade_pooling"].get("error")
    other = f"SpladePooling fails: `{failed.split('] ')[-1]}`" if failed else "SpladePooling runs, too"
    told = (
        f"{memory:.2f} of the memory ({verdict(memory, 0.25, at_least=False)}) and {taken:.2f} of the time "
        f"({verdict(taken, 0.8, at_least=False)}). {large['settings']['batch']:,} passages x "
        f"{large['settings']['length']} tokens take {large['ours']['memory_bytes'] / 1e9:.1f} GB here; {other}."
    )
    return f"{table(['', 'step, s, median (min, max)', 'memory'], rows)}\n\n{told}"


def cross_entropy(runs: Runs) -> str:
    """Cross-entropy over the vocabulary against torch's own."""
    (each,) = (run["result"] for run in runs)
    labels = {"ours": "dupmae", "chunked": "torch's `linear_cross_entropy`, chunked", "plain": "all logits at once"}
    rows = [
        [label, spread(each[name]["step_seconds"], 3), f"{each[name]['memory_bytes'] / 1e6:,.0f} MB"]
        for name, label in labels.items()
    ]
    told = (
        f"{each['ratio_to_chunked']:.2f} times as fast as torch's and {each['ratio_to_plain']:.2f} times as all logits "
        f"at once, with {each['memory_ratio_to_chunked']:.2f} and {each['memory_ratio_to_plain']:.2f} of the memory. "
        f"Its loss differs by {each['loss_difference_to_chunked']:.2%} from torch's and by "
        f"{each['loss_difference_to_plain']:.2%} from that of all logits."
    )
    return f"{table(['', 'step, s, median (min, max)', 'memory'], rows)}\n\n{told}"


def search(runs: Runs) -> str:
    """Index search against whole matrices and loops."""
    (each,) = (run["result"] for run in runs)
    rows = [
        ["the index", f"{each['queries_per_second']:,.0f}", f"{each['search_memory_bytes'] / 1e6:,.1f} MB"],
        [
            "numpy and scipy",
            f"{each['plain_queries_per_second']:,.0f}",
            f"{each['plain_search_memory_bytes'] / 1e6:,.1f} MB",
        ],
        ["the reference's loops (scaled up)", f"{each['reference_queries_per_second']:.2f}", ""],
    ]
    told = (
        f"{each['passages']:,} passages, {each['queries']:,} queries at once, {each['index_bytes'] / 1e6:.1f} MB on "
        f"disk: {each['ratio_to_plain']:.1f} times numpy and scipy. One query alone takes "
        f"{each['single_query_milliseconds']:.1f} ms."
    )
    return f"{table(['', 'queries a second', 'memory of a search'], rows)}\n\n{told}"


def finetuning(runs: Runs) -> str:
    """Steps of fine-tuning and distillation over many queries, and how much of them is waiting."""
    (result,) = (run["result"] for run in runs)
    rows = []
    for stage in ("finetune", "distill"):
        ours, plain = result[stage]["ours"], result[stage]["plain"]
        shares = [f"{each['waiting']:.1%}" for each in (ours, plain)]
        rows.append([f"`{stage}`", spread(ours["step_seconds"]), shares[0], spread(plain["step_seconds"]), shares[1]])
        rows[-1].append(f"{result[stage]['ratio_to_plain']:.2f}")
    head = ["stage", "step, s", "waiting", "step the other way, s", "waiting", "ratio"]
    queries = f"{result['settings']['queries']:,} queries; seconds are median (min, max)."
    return f"{queries}\n\n{table(head, rows)}"


def suites(runs: Runs) -> str:
    """Every metric of the suites, with what a reader must know of them."""
    (result,) = (run["result"] for run in runs)
    rows = []
    for name, found in result.items():
        digits = 2 if "protocol" in found else 4
        told = ", ".join(f"{metric} {value:.{digits}f}" for metric, value in found["metrics"].items())
        rows.append([f"`{name}`", told, "; ".join(found.get("notes", []))])
    return table(["suite", "", "note"], rows)


def ablation(runs: Runs) -> str:
    """What each kernel for CPUs earns."""
    rows = []
    for run in runs:
        result = run["result"]
        sizes = "{layers} x {hidden}, {length} tokens, batch {batch}".format(**result["settings"])
        for work in ("training", "encoding"):
            for kernel, share in result[f"{work}_longer_without"].items():
                rows.append([f"{work}, {sizes}", kernel, f"{share:+.0%}"])
    return table(["step", "without", "longer by"], rows)


TABLES: dict[str, Callable[[Runs], str]] = {
    "masking": masking,
    "ablation": ablation,
    "pretraining-bf16": pretraining,
    "same-allocator": same_allocator,
    "profile": profile,
    "pretraining-fp32": pretraining,
    "large-vocabulary": large_vocabulary,
    "real-text": real_text,
    "finetuning": finetuning,
    "prepare": prepare,
    "encoding": encoding,
    "vocabulary": vocabulary,
    "cross-entropy": cross_entropy,
    "search": search,
    "suites": suites,
}
