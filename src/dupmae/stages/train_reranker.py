"""`dupmae train-reranker`: a cross-encoder trained on hard negatives, and its scores.

Training is sentence-transformers' `CrossEncoderTrainer`; the loss is the cross-entropy of the positive in its group of
one positive and some negatives, which its ListNet loss is when the labels leave all probability to the positive.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dupmae.console import logger, progress, track
from dupmae.corpus.negatives import MinedQuery, read_mined, write_scores
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from dupmae.files import LOG, new_folder, read_json, training_folder, write_json, write_text
from dupmae.nn.backbone import FAMILIES
from dupmae.retriever.backbones import check_weights, loading, resolve_dtype, silent_library
from dupmae.settings import TrainReranker, marked
from dupmae.settings.models import model_folder
from dupmae.training.run import check_same
from dupmae.training.stopping import StopSignals

# Tokens of query and passage together: the authors' teacher.
LENGTH = 200
TEACHER, SCORES, SETTINGS = "cross-encoder", "scores.jsonl", "settings.json"
# Pairs scored at once.
SCORE_BATCH = 128
# Queries whose pairs are scored in one call: enough for the library to sort them by length.
SCORED = 256


@dataclass(frozen=True)
class Taught:
    """What teaching leaves: the cross-encoder's folder, its scores, how many pairs they are, and the steps done."""

    teacher: Path
    scores: Path
    pairs: int
    steps: int


def train_reranker(settings: TrainReranker) -> Taught:
    """Train a cross-encoder on mined negatives (or take one that is there), and score every pair of the file.

    Raises:
        DupmaeError: when sentence-transformers is missing, for data that cannot be read, unknown ids, blank
            passages, and scores that are not finite.
        SystemExit: with code 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint is written.
    """
    check_installed()
    data = open_training(settings.data, settings.split)
    mined = list(read_mined(settings.mined, data.queries))
    names = {name for item in mined for name in (*item.positives, *item.negatives)}
    texts = data.texts(names, settings.mined)
    teacher, steps = settings.teacher, 0
    if teacher is None:
        teacher = settings.out / TEACHER
        steps = _train(settings, data.queries, mined, texts, teacher)
    model = open_teacher(str(teacher), settings.length)
    pairs = [(item.query, [*item.positives, *item.negatives]) for item in mined]
    scored = score_groups(model, pairs, data.queries, texts)
    write_scores(settings.out / SCORES, scored)
    return Taught(teacher, settings.out / SCORES, sum(len(found) for _, found in pairs), steps)


def check_installed() -> None:
    """Refuse before the work what the import would refuse.

    Raises:
        DupmaeError: when sentence-transformers is not there.
    """
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        fix = 'pip install "dupmae[teacher]"'
        raise DupmaeError("needs the package sentence-transformers", where="train-reranker", fix=fix) from None


def open_teacher(model: str, length: int | None = None, *, trained: bool = True) -> Any:
    """A cross-encoder with one output.

    Args:
        length: tokens of query and passage together; none: what the folder says.
        trained: whether the layer that gives the score has to be there; it need not where training comes next.

    Raises:
        DupmaeError: when none can be loaded, or the model does not take that many tokens.
    """
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification

    model = model_folder(model)
    with loading(model):
        # Once more for the names of the weights: sentence-transformers does not tell what was missing.
        lm, info = AutoModelForSequenceClassification.from_pretrained(
            model, num_labels=1, output_loading_info=True, trust_remote_code=False
        )
        check_weights(lm, info, model, whole=trained)
        teacher = CrossEncoder(model, num_labels=1, max_length=length, trust_remote_code=False)
    longest = _longest(teacher.config)
    if length is not None and longest is not None and length > longest:
        raise DupmaeError(f"the model takes {longest} tokens", where="length", fix=f"set length={longest} or less")
    if longest is not None and (teacher.max_seq_length or math.inf) > longest:
        teacher.max_seq_length = longest
    return teacher


def _longest(config: Any) -> int | None:
    """Tokens that a model of a known family takes."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in FAMILIES:
        return None
    return int(positions) - FAMILIES[config.model_type].offset(config)


def score_groups(
    model: Any,
    groups: Sequence[tuple[str, Sequence[str]]],
    queries: Mapping[str, str],
    texts: Mapping[str, str],
) -> Iterator[tuple[str, dict[str, float]]]:
    """Give (query id, {passage id -> logit}) for groups of a query's passages, in their order."""
    for start in track(range(0, len(groups), SCORED), "scoring", unit="blocks"):
        block = groups[start : start + SCORED]
        pairs = [(queries[query], texts[name]) for query, names in block for name in names]
        identity = torch.nn.Identity()
        logits = model.predict(pairs, batch_size=SCORE_BATCH, activation_fn=identity, show_progress_bar=False)
        values = iter(np.asarray(logits, dtype=np.float64).reshape(-1).tolist())
        for query, names in block:
            yield query, {name: next(values) for name in names}


def _train(
    settings: TrainReranker,
    queries: Mapping[str, str],
    mined: Sequence[MinedQuery],
    texts: Mapping[str, str],
    out: Path,
) -> int:
    """Train and write the cross-encoder whole; returns the steps done."""
    usable = [item for item in mined if item.negatives]
    if not usable:
        raise DupmaeError("no query has a negative", where=settings.mined, fix="mine deeper, or with a smaller margin")
    assert settings.model is not None
    torch.manual_seed(settings.seed)
    model = open_teacher(settings.model, settings.length or LENGTH, trained=False)
    folder = training_folder(settings.out)
    last = _last_checkpoint(folder)
    if last is not None and not settings.resume:
        raise DupmaeError("holds checkpoints of an earlier run", where=folder, fix="resume=true, or another out")
    same = folder / SETTINGS
    if last is not None and same.exists():
        check_same(dict(marked(settings)), read_json(same), folder)
    write_json(same, dict(marked(settings)))
    logger.info(f"training a cross-encoder on {len(usable):,} queries" + (f" from {last}" if last else ""))
    with silent_library():
        state = _fit(settings, model, _groups(settings, queries, usable, texts), folder, last)
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise DupmaeError("training diverged: weights are not finite", where=folder, fix="lower learning_rate")
    with new_folder(out, "a cross-encoder") as written, silent_library():
        model.save_pretrained(str(written))
    lines = [{"step": entry["step"], "loss": entry["loss"]} for entry in state.log_history if "loss" in entry]
    write_text(settings.out / LOG, "".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(folder, ignore_errors=True)
    return int(state.global_step)


def _fit(settings: TrainReranker, model: Any, groups: Any, folder: Path, last: Path | None) -> Any:
    """Train in place, from a checkpoint if there is one; returns the trainer's state."""
    from sentence_transformers.cross_encoder import CrossEncoderTrainer
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from transformers import PrinterCallback, TrainerCallback

    loss = ListNetLoss(model, mini_batch_size=-1)
    trainer = CrossEncoderTrainer(model=model, args=_arguments(settings, folder), train_dataset=groups, loss=loss)
    trainer.remove_callback(PrinterCallback)
    with progress("training", None, "steps") as bar, StopSignals() as signals:

        class BetweenSteps(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                bar.advance()
                if signals.asked:
                    control.should_save = control.should_training_stop = True

        trainer.add_callback(BetweenSteps())
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        if signals.asked:
            logger.warning(f"stopped at step {trainer.state.global_step:,}, checkpoint saved: --resume goes on from it")
            raise SystemExit(signals.exit_code)
    return trainer.state


def _arguments(settings: TrainReranker, folder: Path) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    return CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        bf16=resolve_dtype(settings.dtype) is torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        logging_steps=settings.log_every,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        dataloader_drop_last=False,
    )


def _groups(
    settings: TrainReranker, queries: Mapping[str, str], mined: Sequence[MinedQuery], texts: Mapping[str, str]
) -> Any:
    """A data set of groups: each positive of a query with negatives drawn from its best `negative_depth`.

    A label is the logarithm of a passage's share: 0 for the positive, minus infinity for the others.
    """
    from datasets import Dataset  # type: ignore[import-untyped]

    def rows() -> Iterator[dict[str, Any]]:
        for place, item in enumerate(mined):
            for number, positive in enumerate(item.positives):
                random = np.random.default_rng([settings.seed, place, number])
                pool = item.negatives[: settings.negative_depth]
                drawn = [pool[index] for index in random.permutation(len(pool))[: settings.negatives]]
                yield {
                    "query": queries[item.query],
                    "passages": [texts[name] for name in (positive, *drawn)],
                    "labels": [0.0, *([-math.inf] * len(drawn))],
                }

    return Dataset.from_list(list(rows()))


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole: its state is written last."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return path
    return None
