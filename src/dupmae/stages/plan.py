"""`dupmae plan`: how long a pre-training recipe takes and what it costs, before it is run.

Time is counted work (`flops`) divided by the operations per second that the accelerators reach: those of an earlier
run on one of them, or their peak times an assumed share of it. Communication, saving and restarts are part of the
former.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from dupmae.settings import Contrastive, Plan, Pretrain
from dupmae.settings.models import CONFIGURATION, model_folder
from dupmae.shards.folder import Shards
from dupmae.shards.tokenise import Tokenisation
from dupmae.training.flops import Shape, Texts, paired_flops, step_parts
from dupmae.training.log import is_number, read_log
from dupmae.training.start import ENCODER, is_run

# Dense bf16 matrix products, operations per second, as NVIDIA's data sheets give them; where a sheet counts 2:4
# sparsity, half of its figure. H100 SXM, H100 PCIe, H200 SXM: H100 and H200 data sheets; A100: A100 data sheet;
# L40S, L4, A10: theirs.
PUBLISHED_PEAKS = {
    "h100": 989e12,
    "h100-pcie": 756e12,
    "h200": 989e12,
    "a100": 312e12,
    "l40s": 362e12,
    "l4": 121e12,
    "a10": 125e12,
}
# A measured peak this many times below or above the one reckoned with is another accelerator's.
OTHER_MACHINE = 3.0
# Nothing was measured on a GPU yet.
ASSUMED_UTILISATION = 0.4
SECONDS_PER_HOUR = 3600
SAMPLED_PAIRS = 1000


@dataclass(frozen=True)
class Planned:
    """The plan of a recipe.

    Attributes:
        tokens: real tokens of unlabelled text that training goes through, over all epochs.
        steps: optimizer steps.
        parts: counted operations of the whole run by part, forward and backward.
        peak: operations per second of one accelerator.
        utilisation: share of the peak that training reaches; times the peak, the operations per second that it does.
        peak_source, utilisation_source: `published`, `measured`, `assumed` or `given`.
        cost: price of all hours of all accelerators, None without a price.
    """

    tokens: float
    steps: int
    parts: dict[str, float]
    peak: float
    peak_source: str
    utilisation: float
    utilisation_source: str
    hours: float
    device_hours: float
    cost: float | None

    @property
    def flops(self) -> float:
        """Counted operations of the whole run."""
        return sum(self.parts.values())


def plan(settings: Plan) -> Planned:
    """Plan a recipe.

    Raises:
        DupmaeError: when the sizes of data or model are not known, or the recipe says neither steps nor epochs.
    """
    shape, data = _sizes(settings)
    pairs = settings.contrastive
    # Steps for each batch of text: with more pairs than text, some have none.
    spread = 1.0 if pairs is None else max(1.0, pairs.ratio)
    epochs = settings.epochs
    if settings.steps is not None:
        epochs = settings.steps / spread * settings.batch_tokens / data.tokens
    if epochs is None:
        raise DupmaeError("neither steps nor epochs is given", where="plan", fix="set one, e.g. epochs=8")
    texts = Texts(count=data.count * epochs, tokens=data.tokens * epochs, pairs=data.pairs * epochs)
    batches = texts.tokens / settings.batch_tokens
    parts = step_parts(shape, texts, settings.objective, settings.masking)
    if pairs is not None:
        known = settings.planned is None and pairs.data.exists()
        tokenizer = Shards.open(settings.data[0], verify=False).tokenizer() if known else None
        parts["contrastive"] = paired_flops(shape, _paired_texts(pairs, tokenizer, batches * pairs.ratio))
    peak, peak_source = _peak(settings)
    utilisation, utilisation_source = _utilisation(settings, peak)
    seconds = sum(part.total for part in parts.values()) / (peak * settings.count * utilisation)
    device_hours = seconds * settings.count / SECONDS_PER_HOUR
    return Planned(
        tokens=texts.tokens,
        steps=settings.steps or max(1, round(batches * spread)),
        parts={name: part.total for name, part in parts.items()},
        peak=peak,
        peak_source=peak_source,
        utilisation=utilisation,
        utilisation_source=utilisation_source,
        hours=seconds / SECONDS_PER_HOUR,
        device_hours=device_hours,
        cost=None if settings.price is None else settings.price * device_hours,
    )


def step_operations(settings: Pretrain) -> float:
    """Operations of one step, counted from shapes; errors as `plan`."""
    values = settings.model_dump(exclude_unset=True, exclude={"flops"}) | {"steps": 1, "gpu": "h100"}
    return plan(Plan.model_validate(values)).flops


def _sizes(settings: Plan) -> tuple[Shape, Texts]:
    """Model and data of one epoch: as planned, or as they lie on disk."""
    known = settings.planned
    if known is not None:
        shape = Shape(known.layers, known.hidden, known.intermediate, known.vocabulary)
        # As if all records had the same length: the spread of lengths changes attention alone.
        return shape, Texts(known.records, known.tokens, known.tokens**2 / known.records)
    corpora = [Shards.open(path, verify=False) for path in settings.data]
    lengths = [pair for shards in corpora for pair in shards.manifest.lengths]
    data = Texts(
        sum(count for _, count in lengths),
        sum(length * count for length, count in lengths),
        sum(length**2 * count for length, count in lengths),
    )
    if settings.model is not None:
        run = is_run(settings.model)
        return Shape.of(_configuration(str(Path(settings.model) / ENCODER) if run else settings.model)), data
    scratch = settings.from_scratch
    return Shape(scratch.layers, scratch.hidden, 4 * scratch.hidden, len(corpora[0].tokenizer())), data


def _paired_texts(pairs: Contrastive, tokenizer: Any, batches: float) -> Texts:
    """Queries and passages of batches of pairs: as long as those in the data are, or without a tokenizer may be."""
    queries = batches * pairs.batch_size
    longest = [(pairs.query_length, queries), (pairs.passage_length, queries * (1 + pairs.negatives))]
    if tokenizer is None:
        lengths = [(float(most), float(most**2)) for most, _ in longest]
    else:
        samples = zip(_sampled(pairs), longest, strict=True)
        lengths = [_mean_lengths(tokenizer, texts, most) for texts, (most, _) in samples]
    tokens, squares = (sum(count * each[n] for (_, count), each in zip(longest, lengths, strict=True)) for n in (0, 1))
    return Texts(sum(count for _, count in longest), tokens, squares)


def _sampled(pairs: Contrastive) -> tuple[list[str], list[str]]:
    """Some queries, evenly over the data, and their first positives."""
    data = open_training(pairs.data, pairs.split)
    chosen = list(data.queries)[:: max(1, len(data.queries) // SAMPLED_PAIRS)]
    texts = data.texts({data.positives[query][0] for query in chosen})
    queries = [pairs.query_prefix + data.queries[query] for query in chosen]
    return queries, [pairs.passage_prefix + text for text in texts.values()]


def _mean_lengths(tokenizer: Any, texts: list[str], longest: int) -> tuple[float, float]:
    """Means of length and squared length in tokens."""
    lengths = Tokenisation(tokenizer)(texts, longest).lengths.tolist()
    return fmean(lengths), fmean(length**2 for length in lengths)


def _configuration(model: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model_folder(model, CONFIGURATION), trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        fix = "give a Hugging Face folder, or the sizes as planned.layers and so on"
        raise DupmaeError(f"no configuration can be read: {reason}", where=model, fix=fix) from None


def _peak(settings: Plan) -> tuple[float, str]:
    if settings.gpu != "cpu":
        return PUBLISHED_PEAKS[settings.gpu], "published"
    from dupmae.retriever.backbones import resolve_dtype
    from dupmae.training.peak import matmul_peak

    return matmul_peak(resolve_dtype(settings.dtype)), "measured"


def _utilisation(settings: Plan, peak: float) -> tuple[float, str]:
    if settings.utilisation is not None:
        return settings.utilisation, "given"
    if settings.like is not None:
        return _reached(settings.like, settings.gpu, peak) / peak, "measured"
    if settings.gpu == "cpu":
        fix = "like=RUN takes it from the log of a run on this machine; or give utilisation=SHARE"
        raise DupmaeError("no utilisation is known of this machine", where="plan", fix=fix)
    return ASSUMED_UTILISATION, "assumed"


def _reached(run: Path, gpu: str, peak: float) -> float:
    """Operations per second of one process of a run, the median of its log; its own measured peak does not count.

    Raises:
        DupmaeError: when its log does not say, or it ran on another kind of accelerator.
    """
    names = ("flops_per_second", "utilisation", "processes")
    found = [[line.get(name, 0) for name in names] for line in read_log(run)]
    lines = [line for line in found if all(is_number(value) and value for value in line)]
    if not lines:
        fix = "name the folder of a pre-training run of this version, or give utilisation=SHARE"
        raise DupmaeError(f"its log does not have {', '.join(names)}", where=run, fix=fix)
    measured = median(rate / share / count for rate, share, count in lines)
    if not 1 / OTHER_MACHINE < measured / peak < OTHER_MACHINE:
        problem = f"its matrix products reached {measured / 1e12:.3g} TFLOP/s, {gpu} has {peak / 1e12:.3g}"
        fix = f"name a run on {gpu} in the same precision, or give utilisation=SHARE"
        raise DupmaeError(problem, where=run, fix=fix)
    return float(median(rate / count for rate, _, count in lines))
