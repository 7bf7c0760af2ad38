"""Fine-tuning an encoder on labels of rows, of positions, of choices, or on answers that stand in the row.

    class     `label` [R]                                    cross-entropy
    score     `value` [R]                                    squared error
    tags      `target_positions`, `target_ids` Ragged        cross-entropy; a word's first piece (BERT, section 5.3)
    choice    `choice` Ragged: lengths of the row's choices, which stand in it one after another; `label` [R]
                                                             cross-entropy over the choices of a row (BERT, section 4.4)
    answer    `start`, `end` [R]: positions                  cross-entropy over all positions, the mean of both (4.2)

Where rows are of several arrays that an encoder reads one by one (`paired`), `part` Ragged has their lengths: two of
class and score, of choice the row's own and each of its choices. The first is compared with each of the others.

Rows carry the columns that the encoder reads besides (`training.models.fine_tuning.TaskEncoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_prep.labelled.examples import Head
from data_prep.shards.rows import Ragged, Rows, num_rows, offsets_of, ragged
from training.lazy import F, torch
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import flat_positions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.fine_tuning import TaskEncoder

Pooling = Literal["cls", "mean", "last"]
_MASK = "attention_mask"
_TRUTH = ("labels", "values", "choices", "starts", "ends")  # tensors of a batch that the network does not take


class FineTuning(BaseObjective):
    """Trains an encoder and a linear layer.

    outputs: number of labels (class, tags). pooling: the vector of a row, of heads that give one score or one label
    for it: its first position, its mean, or its last position. weights: of the labels, [outputs]; None: all alike.
    frozen: the linear layer alone is trained (a probe). layer_decay: factor of the learning rate from a layer to the
    one below it; UserError for encoders without layers of their own. paired: rows have parts that are compared.
    """

    unit = "tokens"
    shown: Sequence[str] = ("label", "accuracy")

    def __init__(
        self,
        encoder: TaskEncoder,
        head: Head,
        outputs: int = 1,
        pooling: Pooling = "cls",
        dropout: float = 0.1,
        weights: np.ndarray | None = None,
        frozen: bool = False,
        layer_decay: float = 1.0,
        paired: bool = False,
    ) -> None:
        from training.models.fine_tuning import FineTuningNetwork

        numbers = {"score": 1, "choice": 1, "answer": 2}
        of_row = "mean" if pooling == "mean" else "positions"
        how = "positions" if head == "tags" else "all" if head == "answer" else of_row
        self.encoder, self.head, self.pooling, self.paired = encoder, head, pooling, paired
        self.network = FineTuningNetwork(encoder, numbers.get(head, outputs), how, dropout, frozen, layer_decay, paired)
        self.label_weights = None if weights is None else torch.from_numpy(np.asarray(weights, np.float32))

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        batch = self._inputs(rows)
        if self.head in ("class", "choice"):
            batch["labels"] = np.asarray(rows["label"]).astype(np.int64)
        elif self.head == "tags":
            batch["labels"] = ragged(rows, "target_ids").values.astype(np.int64)
        elif self.head == "score":
            batch["values"] = np.asarray(rows["value"]).astype(np.float32)
        else:
            batch |= {f"{name}s": np.asarray(rows[name]).astype(np.int64) for name in ("start", "end")}
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _inputs(self, rows: Rows) -> dict[str, np.ndarray]:
        """What the network takes of rows, and of choices which row each belongs to."""
        of_parts: dict[str, np.ndarray] = {}
        column = "part" if self.paired else "choice"
        if self.paired or self.head == "choice":
            lengths = ragged(rows, column).lengths
            if self.paired:
                of_parts["pairs"] = _pairs(lengths)
            if self.head == "choice":
                of_parts["choices"] = np.repeat(np.arange(num_rows(rows)), lengths - self.paired)
            rows = _parts_as_rows(rows, column)
        batch = self.encoder.inputs(rows)
        num, width = batch[_MASK].shape
        if self.head == "tags":
            batch["target_positions"] = flat_positions(ragged(rows, "target_positions"), width)
        elif self.head != "answer" and self.pooling != "mean":
            last = batch[_MASK].sum(1) - 1 if self.pooling == "last" else 0
            batch["target_positions"] = np.arange(num) * width + last
        return batch | of_parts

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        """Targets, or where labels have weights the sum of theirs."""
        if self.label_weights is not None and self.head in ("class", "tags"):
            return {"label": float(self.label_weights.to(batch["labels"].device)[batch["labels"]].sum())}
        return {"label": float(self._num_targets(batch))}

    def _num_targets(self, batch: Batch) -> int:
        return next(len(batch[name]) for name in ("labels", "values", "starts") if name in batch)

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        scores = networks["model"](**{name: tensor for name, tensor in batch.items() if name not in _TRUTH})
        count = float(self._num_targets(batch))
        if self.head == "score":
            return Loss({"label": (scores[:, 0] - batch["values"]).square().sum()})
        if self.head == "answer":
            by_end = _masked(scores, batch[_MASK]).unbind(-1)
            truth = [batch[name] for name in ("starts", "ends")]
            losses = [F.cross_entropy(*pair, reduction="sum") for pair in zip(by_end, truth, strict=True)]
            right = [ends.argmax(-1) == places for ends, places in zip(by_end, truth, strict=True)]
            return Loss({"label": 0.5 * (losses[0] + losses[1])}, {"accuracy": ((right[0] & right[1]).sum(), count)})
        if self.head == "choice":
            scores = _by_row(scores[:, 0], batch["choices"], len(batch["labels"]))
        weight = None if self.label_weights is None else self.label_weights.to(scores.device)
        correct = (scores.argmax(-1) == batch["labels"]).sum()
        loss = F.cross_entropy(scores, batch["labels"], weight, reduction="sum")
        return Loss({"label": loss}, {"accuracy": (correct, count)})

    def scores(self, rows: Rows) -> Ragged:
        """Scores of rows, float32 [M, outputs]: of each one line (class, score), or as many as it has target positions
        (tags), choices (one score each) or positions (answer: start and end)."""
        arrays = self._inputs(rows)
        of_choices = arrays.pop("choices", None)
        device = next(self.network.parameters()).device
        self.network.eval()
        with torch.no_grad():
            batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            values = self.network(**batch).cpu().numpy()
        if self.head == "tags":
            return Ragged.from_lengths(values, ragged(rows, "target_positions").lengths)
        if of_choices is not None:
            return Ragged.from_lengths(values, np.bincount(of_choices, minlength=num_rows(rows)))
        if self.head == "answer":
            lengths = arrays[_MASK].sum(1)
            return Ragged.from_lengths(values[arrays[_MASK].astype(bool)], lengths)
        return Ragged.from_lengths(values, np.ones(len(values), np.int64))


def _parts_as_rows(rows: Rows, lengths_of: str) -> Rows:
    """A row for each part, of what an encoder reads: all Ragged columns but that of lengths are cut where parts end."""
    lengths = ragged(rows, lengths_of).values.astype(np.int64)
    columns = {name: column for name, column in rows.items() if isinstance(column, Ragged) and name != lengths_of}
    return {name: Ragged(column.values, offsets_of(lengths)) for name, column in columns.items()}


def _pairs(numbers: np.ndarray) -> np.ndarray:
    """[P, 2]: the first part of each row with each of the others. numbers: of the rows' parts."""
    begins = offsets_of(numbers)
    is_first = np.zeros(begins[-1], bool)
    is_first[begins[:-1]] = True
    return np.stack([np.repeat(begins[:-1], numbers - 1), np.flatnonzero(~is_first)], -1)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores [B, L, 2] of positions that are there; of padding they are the lowest."""
    return scores.masked_fill(~mask.bool()[..., None], torch.finfo(scores.dtype).min)


def _by_row(scores: Tensor, row: Tensor, count: int) -> Tensor:
    """Scores [C] of choices as [rows, most choices], the lowest where a row has fewer."""
    place = torch.arange(len(row), device=row.device)
    first = torch.full((count,), len(row), device=row.device).scatter_reduce(0, row, place, "amin")
    place = place - first[row]
    table = scores.new_full((count, int(place.max()) + 1), torch.finfo(scores.dtype).min)
    return table.index_put((row, place), scores)
