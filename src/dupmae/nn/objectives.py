"""The pre-training objectives: masked LM, RetroMAE (enhanced or basic decoding) and DupMAE.

`DuplexMAE` draws the masks, runs encoder and decoder, and returns every loss term by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dupmae.nn.backbone import Backbone, attention_kernels
from dupmae.nn.decoder import DecoderLayer
from dupmae.nn.masking import DECODER, Layout, corrupt, decoder_visibility, encoder_mask
from dupmae.nn.randomness import RowRandom
from dupmae.nn.vocabulary import bag_of_words_loss, linear_cross_entropy, text_maxima
from dupmae.settings import Masking, Objective

Item = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """A padded batch: `input_ids` int64 [B, L]; `word_starts`, `special`, `valid` bool [B, L].

    `padded` says whether there may be padding: without it the encoder needs no attention mask.
    """

    input_ids: Tensor
    word_starts: Tensor
    special: Tensor
    valid: Tensor
    padded: bool = True


@dataclass(frozen=True)
class Draws:
    """Everything random about one step: which tokens are masked, by what, and what each decoder row sees.

    Attributes:
        masked: bool [B, L], positions the encoder must predict.
        corrupted: int64 [B, L], the encoder's input.
        predicted: int64 [M], the places of `masked` in the flattened batch.
        visible: bool [B, L, L] for enhanced decoding, else None.
        decoder_masked: bool [B, L] for basic decoding, else None.
        decoded: int64 [N], the places in the flattened batch that the decoder is scored on; None without one.
    """

    masked: Tensor
    corrupted: Tensor
    predicted: Tensor
    visible: Tensor | None = None
    decoder_masked: Tensor | None = None
    decoded: Tensor | None = None


class DuplexMAE(nn.Module):
    """Encoder, decoder and vocabulary head under one objective (METHOD: RetroMAE section 3, DupMAE section 3).

    Args:
        backbone: the masked LM that is kept.
        objective: which terms, their weights and variants.
        masking: both masking rates and units.
        mask_id: id of the mask token.
        seed: masks depend on (seed, step) alone.
    """

    def __init__(self, backbone: Backbone, objective: Objective, masking: Masking, *, mask_id: int, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = DecoderLayer(backbone.config) if objective.decodes else None
        self.objective, self.masking = objective, masking
        self.mask_id, self.seed = mask_id, seed

    def draw(self, batch: Batch, step: int, rows: Tensor | None = None) -> Draws:
        """Draw the masks of one step; a row's depend on (seed, step, its number) and its own tokens.

        Args:
            rows: int64 [B], the rows' numbers in the whole step when this batch is a part of it.
        """
        if rows is None:
            rows = torch.arange(len(batch.valid), device=batch.valid.device)
        return replace(self._masks(batch, step, rows), visible=self._visibility(batch, step, rows))

    def add_draws(self, item: Item) -> Item:
        """A batch on the host with its masks, but for the visibility: the thread that makes batches can draw them.

        Masked positions have to be counted, which on a GPU would wait for all that it was given before.

        Args:
            item: `input_ids`, `word_starts`, `special`, `valid` [B, L], `rows` [B], and `step` []; one without text
                stays as it is.
        """
        if "input_ids" not in item:
            return item
        batch = _batch_of(item)
        draws = vars(self._masks(batch, int(item["step"]), item["rows"]))
        return (
            item | {"padded": ~batch.valid.all()} | {name: drawn for name, drawn in draws.items() if drawn is not None}
        )

    def arguments(self, item: Item) -> tuple[Batch, Draws]:
        """The arguments of `forward` from what `add_draws` returned, on any device but for `step` and `padded`."""
        item = item if "predicted" in item else self.add_draws(item)
        batch = replace(_batch_of(item), padded=bool(item["padded"]))
        names = ("masked", "corrupted", "predicted", "decoder_masked", "decoded")
        visible = self._visibility(batch, int(item["step"]), item["rows"])
        return batch, Draws(**{name: item[name] for name in names if name in item}, visible=visible)

    def _masks(self, batch: Batch, step: int, rows: Tensor) -> Draws:
        layout, random = _layout_of(batch), RowRandom.of(self.seed, step, rows)
        masked = encoder_mask(layout, self.masking.encoder_rate, random)
        corrupted = corrupt(
            batch.input_ids,
            masked,
            mask_id=self.mask_id,
            vocabulary=self.backbone.config.vocab_size,
            keep=self.masking.corruption,
            random=random,
        )
        if self.decoder is None:
            return Draws(masked, corrupted, _places(masked))
        if self.objective.decoder == "enhanced":
            return Draws(masked, corrupted, _places(masked), decoded=_places(layout.ordinary))
        hidden = encoder_mask(layout, self.masking.decoder_rate, random, DECODER)
        return Draws(masked, corrupted, _places(masked), decoder_masked=hidden, decoded=_places(hidden))

    def _visibility(self, batch: Batch, step: int, rows: Tensor) -> Tensor | None:
        if self.decoder is None or self.objective.decoder != "enhanced":
            return None
        random = RowRandom.of(self.seed, step, rows)
        return decoder_visibility(_layout_of(batch), self.masking.decoder_rate, self.masking.decoder_unit, random)

    def counts(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """How many items each term of `forward` is the mean of: labelled positions, or sequences for `bow`."""
        counts = dict.fromkeys(("mlm", "mlm_accuracy"), torch.tensor(len(draws.predicted)))
        if draws.decoded is not None:
            counts |= dict.fromkeys(("decoder", "decoder_accuracy"), torch.tensor(len(draws.decoded)))
        if self.objective.has_bow:
            counts["bow"] = torch.tensor(len(batch.valid))
        return counts

    def forward(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Every loss term and accuracy by name; `loss` is the sizes sum that is optimised.

        Returns:
            Scalars: `loss`, `mlm`, `mlm_accuracy`, and with the objective `decoder`, `decoder_accuracy`, `bow`.
        """
        hidden = self.backbone.hidden(draws.corrupted, batch.valid, padded=batch.padded)
        terms: dict[str, Tensor] = {}
        terms["mlm"], terms["mlm_accuracy"] = self._cross_entropy(hidden, draws.predicted, batch)
        loss = self.objective.mlm_weight * terms["mlm"]
        if self.decoder is not None:
            with attention_kernels(hidden.device):
                terms["decoder"], terms["decoder_accuracy"] = self._decode(hidden[:, 0], batch, draws)
            loss = loss + self.objective.decoder_weight * terms["decoder"]
        if self.objective.has_bow:
            terms["bow"] = self._bag_of_words(hidden, batch, draws.masked)
            loss = loss + self.objective.bow_weight * terms["bow"]
        return {"loss": loss, **terms}

    def _decode(self, sentence: Tensor, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Reconstruct the sentence from its [CLS] state [B, d] (RetroMAE, equations 3 to 7)."""
        assert self.decoder is not None
        assert draws.decoded is not None
        if draws.decoder_masked is None:
            assert draws.visible is not None
            context = torch.cat([sentence[:, None], self.backbone.embed(batch.input_ids)[:, 1:]], 1)
            length = batch.input_ids.shape[1]
            if self.objective.decoder_queries == "embedded":
                queries = self.backbone.embed_sentence(sentence, length)
            else:
                queries = sentence[:, None] + self.backbone.positions(length)
            states = self.decoder(queries, context, draws.visible)
        else:
            hidden_words = batch.input_ids.masked_fill(draws.decoder_masked, self.mask_id)
            context = torch.cat([sentence[:, None], self.backbone.embed(hidden_words)[:, 1:]], 1)
            states = self.decoder(context, context, batch.valid[:, None])
        return self._cross_entropy(states, draws.decoded, batch)

    def _cross_entropy(self, states: Tensor, places: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of the tokens [M] at places of the flattened batch, from its states [B, L, d]."""
        transformed = self.backbone.transform(states.flatten(0, 1).index_select(0, places))
        output = self.backbone.output
        labels = batch.input_ids.flatten().index_select(0, places)
        return linear_cross_entropy(transformed, output.weight, output.bias, labels)

    def _bag_of_words(self, hidden: Tensor, batch: Batch, masked: Tensor) -> Tensor:
        """Predict the bag of words from the ordinary tokens' states (DupMAE, equations 7 to 9)."""
        ordinary = batch.valid & ~batch.special
        if self.objective.bow == "paper":
            kept, sizes = ordinary & ~masked, ordinary.new_ones(len(ordinary))
        else:
            kept, sizes = batch.valid.clone(), ordinary.sum(1).clamp(min=1)
            kept[:, 0] = False
        maxima = text_maxima(self.backbone, hidden, kept)
        return bag_of_words_loss(maxima, batch.input_ids, ordinary, 1 / sizes.to(maxima.dtype))


def _batch_of(item: Item) -> Batch:
    return Batch(item["input_ids"], item["word_starts"], item["special"], item["valid"])


def _layout_of(batch: Batch) -> Layout:
    return Layout.of(batch.word_starts, batch.special, batch.valid)


def _places(flags: Tensor) -> Tensor:
    """Where true in the flattened batch, int64 [M]."""
    return flags.flatten().nonzero()[:, 0]
