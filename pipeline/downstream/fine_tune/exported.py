"""A fine-tuned network in a folder, and opened from it.

task.json             head, labels and how examples become rows
encoder/              the encoder, as folders of its kind are
rest.safetensors      the linear layer, and what `encoder/` does not hold
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.opening import tensors
from data_prep.opening.files import UnfitError, checked, read_json
from data_prep.shards.rows import Ragged
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, joined, module_of, tokenizer_of
from pipeline.downstream.fine_tune.learners import Learner, learner_of, open_source
from pipeline.downstream.fine_tune.scoring import scores_of
from pipeline.downstream.labelled_scores import answer_as_written
from training.models.wrappers import autocast_forward
from training.objectives.fine_tuning import FineTuning, Pooling

TASK, ENCODER, REST = "task.json", "encoder", "rest.safetensors"
FORMAT = 1
AT_ONCE = 1024  # examples that are encoded together, unless their head says another number


@dataclass(frozen=True)
class FineTuned:
    """A network that answers. `folder` holds its encoder with the tokenizer."""

    objective: Learner
    shape: Shape
    layout: Layout
    folder: Path
    pooling: Pooling
    framed: bool
    cleaning: Cleaning
    """What was done to the texts that it learned from."""
    precision: str
    """bf16 or fp32: that of its forward pass in training, and so of its answers."""
    reads: Mapping[str, Any]
    """How rows to predict are laid out: settings of a task file (`data_prep.labelled.task`)."""

    def predict(self, examples: Sequence[Example]) -> Predicted:
        """Answers to examples, and how sure each is, as an evaluation has them; what is too long is cut as there, and
        counted."""
        head = module_of(self.shape)
        whole = joined(
            replace(head.predicted(self.shape, rows, of_rows), counted=rows.counted)
            for rows, of_rows in self.scored(examples)
        )
        invalid = Counted(whole.invalid, len(examples), "written texts are no answer")
        return replace(whole, counted=[*whole.counted, invalid])

    def lines(self, examples: Sequence[Example], predicted: Predicted) -> list[dict[str, Any]]:
        """What is told of each example: `predicted` and `score`; of questions about contexts also `start`, the first
        character of the answer in its context, and `n_best`, the best answers with the same keys. Where there is no
        answer, `start` is None. Of recordings' segments, `segments` has their times (`heads.segments.told`)."""
        head, answered = module_of(self.shape), zip(examples, predicted.answers, strict=True)
        if hasattr(head, "told"):
            told = [head.told(self.shape, *each) for each in answered]
        else:
            told = [{"predicted": answer_as_written(self.shape, *each)} for each in answered]
        lines = [{**line, "score": score} for line, score in zip(told, predicted.scores, strict=True)]
        for line, spans in zip(lines, predicted.n_best, strict=False):
            line["start"] = next((span.start for span in spans if span.text == line["predicted"]), None)
            line["n_best"] = [span._asdict() for span in spans]
        return lines

    def scored(self, examples: Sequence[Example]) -> Iterator[tuple[Encoded, Ragged]]:
        """The rows of some of the examples after others, and the network's scores of them."""
        head, tokenizer = module_of(self.shape), tokenizer_of(self.shape, self.folder, self.framed)
        at_once = getattr(head, "AT_ONCE", AT_ONCE)
        for start in range(0, len(examples), at_once):
            rows = head.encode(self.shape, examples[start : start + at_once], tokenizer, self.layout)
            yield rows, scores_of(self.objective.scores, rows)


def save(folder: Path, model: FineTuned) -> None:
    """Write the folder, and compare what opens from it. RuntimeError if that is another network."""
    folder.mkdir(parents=True)
    model.objective.encoder.save(folder / ENCODER)
    trained = {name: tensor.detach().cpu() for name, tensor in model.objective.network.state_dict().items()}
    held = _objective(folder, model.shape, model.layout, model.pooling).network.state_dict()
    rest = {name: tensor.contiguous() for name, tensor in trained.items() if not torch.equal(held[name], tensor)}
    save_file(rest, folder / REST)
    about = {
        "format": FORMAT,
        "shape": asdict(model.shape),
        "layout": asdict(model.layout),
        "pooling": model.pooling,
        "framed": model.framed,
        "cleaning": asdict(model.cleaning),
        "precision": model.precision,
        "reads": dict(model.reads),
    }
    (folder / TASK).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    opened = open_fine_tuned(folder).objective.network.state_dict()
    if not all(torch.equal(opened[name], tensor) for name, tensor in trained.items()):
        raise RuntimeError(f"{folder}: what was saved opens with other weights than were trained")


def _objective(folder: Path, shape: Shape, layout: Layout, pooling: Pooling) -> Learner:
    """The network of a folder, and if it is an encoder, a linear layer of zeros on it."""
    objective = learner_of(open_source(folder / ENCODER, shape), shape, layout, pooling)
    if isinstance(objective, FineTuning):
        torch.nn.init.zeros_(objective.network.classifier.weight)
    return objective


def open_fine_tuned(folder: Path | str, device: str = "cpu") -> FineTuned:
    """The network of a folder that `save` wrote. UserError where there is none."""
    try:
        folder = checked(folder)
        about: Any = read_json(folder / TASK)
        if about.get("format") != FORMAT:
            raise UnfitError(f"{TASK} is not of format {FORMAT}")
        values = {**about["shape"], "labels": tuple(about["shape"]["labels"]), "scale": tuple(about["shape"]["scale"])}
        shape, layout, cleaning = Shape(**values), Layout(**about["layout"]), Cleaning(**about["cleaning"])
        precision, reads = str(about["precision"]), dict(about["reads"])
        objective = _objective(folder, shape, layout, about["pooling"])
        left = objective.network.load_state_dict(tensors.load(folder / REST), strict=False)
        if left.unexpected_keys:
            raise UnfitError(f"{REST} holds {left.unexpected_keys[0]}, which the network does not have")
    except (UnfitError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{folder}: holds no fine-tuned network ({error}); name one that a job wrote.") from None
    objective.network.to(device).eval()
    autocast_forward(objective.network, torch.device(device), precision)
    pooling, framed = about["pooling"], bool(about["framed"])
    return FineTuned(objective, shape, layout, folder / ENCODER, pooling, framed, cleaning, precision, reads)
