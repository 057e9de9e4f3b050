"""The pre-training objectives: masked LM, RetroMAE (enhanced or basic decoding) and DupMAE.

`DuplexMAE` draws the masks, runs encoder and decoder, and returns every loss term by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dupmae.nn.backbone import Backbone
from dupmae.nn.decoder import DecoderLayer
from dupmae.nn.masking import DECODER, Layout, corrupt, decoder_visibility, encoder_mask
from dupmae.nn.randomness import RowRandom
from dupmae.nn.vocabulary import bag_of_words_loss, linear_cross_entropy, vocabulary_max
from dupmae.settings import Masking, Objective


@dataclass(frozen=True)
class Batch:
    """A padded batch: `input_ids` int64 [B, L]; `word_starts`, `special`, `valid` bool [B, L]."""

    input_ids: Tensor
    word_starts: Tensor
    special: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Draws:
    """Everything random about one step: which tokens are masked, by what, and what each decoder row sees.

    Attributes:
        masked: bool [B, L], positions the encoder must predict.
        corrupted: int64 [B, L], the encoder's input.
        visible: bool [B, L, L] for enhanced decoding, else None.
        decoder_masked: bool [B, L] for basic decoding, else None.
    """

    masked: Tensor
    corrupted: Tensor
    visible: Tensor | None
    decoder_masked: Tensor | None


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
        layout = Layout.of(batch.word_starts, batch.special, batch.valid)
        if rows is None:
            rows = torch.arange(len(batch.valid), device=batch.valid.device)
        random = RowRandom.of(self.seed, step, rows)
        masked = encoder_mask(layout, self.masking.encoder_rate, random)
        corrupted = corrupt(
            batch.input_ids,
            masked,
            mask_id=self.mask_id,
            vocabulary=self.backbone.config.vocab_size,
            keep=self.masking.corruption,
            random=random,
        )
        visible = decoder_masked = None
        if self.decoder is not None and self.objective.decoder == "enhanced":
            visible = decoder_visibility(layout, self.masking.decoder_rate, self.masking.decoder_unit, random)
        elif self.decoder is not None:
            decoder_masked = encoder_mask(layout, self.masking.decoder_rate, random, DECODER)
        return Draws(masked, corrupted, visible, decoder_masked)

    def counts(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """How many items each term of `forward` is the mean of: labelled positions, or sequences for `bow`."""
        masked = draws.masked.sum()
        counts = {"mlm": masked, "mlm_accuracy": masked}
        if self.decoder is not None:
            labelled = batch.valid & ~batch.special if draws.decoder_masked is None else draws.decoder_masked
            counts["decoder"] = counts["decoder_accuracy"] = labelled.sum()
        if self.objective.has_bow:
            counts["bow"] = torch.full_like(masked, len(batch.valid))
        return counts

    def forward(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Every loss term and accuracy by name; `loss` is the weighted sum that is optimised.

        Returns:
            Scalars: `loss`, `mlm`, `mlm_accuracy`, and with the objective `decoder`, `decoder_accuracy`, `bow`.
        """
        hidden = self.backbone.hidden(draws.corrupted, batch.valid)
        output = self.backbone.output
        terms: dict[str, Tensor] = {}
        transformed = self.backbone.transform(hidden[draws.masked])
        terms["mlm"], terms["mlm_accuracy"] = linear_cross_entropy(
            transformed, output.weight, output.bias, batch.input_ids[draws.masked]
        )
        loss = self.objective.mlm_weight * terms["mlm"]
        if self.decoder is not None:
            terms["decoder"], terms["decoder_accuracy"] = self._decode(hidden[:, 0], batch, draws)
            loss = loss + self.objective.decoder_weight * terms["decoder"]
        if self.objective.has_bow:
            terms["bow"] = self._bag_of_words(hidden, batch, draws.masked)
            loss = loss + self.objective.bow_weight * terms["bow"]
        return {"loss": loss, **terms}

    def _decode(self, sentence: Tensor, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Reconstruct the sentence from its [CLS] state [B, d] (RetroMAE, equations 3 to 7)."""
        assert self.decoder is not None
        ordinary = batch.valid & ~batch.special
        if draws.decoder_masked is None:
            assert draws.visible is not None
            context = torch.cat([sentence[:, None], self.backbone.embed(batch.input_ids)[:, 1:]], 1)
            length = batch.input_ids.shape[1]
            if self.objective.decoder_queries == "embedded":
                queries = self.backbone.embed_sentence(sentence, length)
            else:
                queries = sentence[:, None] + self.backbone.positions(length)
            states, labelled = self.decoder(queries, context, draws.visible), ordinary
        else:
            hidden_words = batch.input_ids.masked_fill(draws.decoder_masked, self.mask_id)
            context = torch.cat([sentence[:, None], self.backbone.embed(hidden_words)[:, 1:]], 1)
            states, labelled = self.decoder(context, context, batch.valid[:, None]), draws.decoder_masked
        transformed = self.backbone.transform(states[labelled])
        output = self.backbone.output
        return linear_cross_entropy(transformed, output.weight, output.bias, batch.input_ids[labelled])

    def _bag_of_words(self, hidden: Tensor, batch: Batch, masked: Tensor) -> Tensor:
        """Predict the bag of words from the ordinary tokens' states (DupMAE, equations 7 to 9)."""
        if self.objective.bow == "paper":
            kept = batch.valid & ~batch.special & ~masked
        else:
            kept = batch.valid.clone()
            kept[:, 0] = False
        counted = batch.valid & ~batch.special
        # A row whose every token is masked still needs one position to speak for it.
        kept[:, 1] |= ~kept.any(1)
        offsets = [0, *kept.sum(1).cumsum(0).tolist()]
        output = self.backbone.output
        maxima = vocabulary_max(self.backbone.transform(hidden[kept]), output.weight, output.bias, offsets)
        rows, ids = distinct_tokens(batch.input_ids, counted)
        sizes = torch.ones_like(rows) if self.objective.bow == "paper" else counted.sum(1)[rows]
        return bag_of_words_loss(maxima, rows, ids, 1.0 / sizes.to(maxima.dtype))


def distinct_tokens(input_ids: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct (row, token id) pairs at the counted positions [B, L], as two index vectors [M]."""
    rows = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(input_ids)
    # Beyond any vocabulary: the largest id here would have to be fetched from the device.
    pairs = torch.unique(rows[counted] << 32 | input_ids[counted])
    return pairs >> 32, pairs & 0xFFFFFFFF
