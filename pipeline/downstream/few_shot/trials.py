"""All questions to all models: with every number of shots, seed and order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.order import permute
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.few_shot import rules
from pipeline.downstream.few_shot.job import Config, pool_of
from pipeline.downstream.few_shot.prompts import context as context_of
from pipeline.downstream.few_shot.prompts import in_order, shots_of
from pipeline.downstream.few_shot.task_file import Question, TaskData
from pipeline.downstream.finished import once
from pipeline.downstream.model_names import OWN, SCRATCH
from pipeline.stage import Context
from training.distributed import choose_device
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Generator
from training.inference.language_model import LanguageModel, open_language_model
from training.inference.likelihood import Continuation, Likelihood

CHOSEN, WRITTEN = "chosen", "written"  # how answers are given
SHOWN = 3  # questions of each cell that are shown
_CELL = "cell.json"


class Trials:
    """The cells of a job: one for each model, number of shots, seed and order."""

    def __init__(self, job: Config, seed: int, data: TaskData, pretrained: Artifact, context: Context) -> None:
        self.job, self.seed, self.data, self.context = job, seed, data, context
        self.own = pretrained.path / MODEL
        self.device = str(choose_device(context.one_worker.device))
        self.pool, self.test = pool_of(job, data), data.test
        if job.rows is not None and job.rows < len(data.test):
            places = permute(np.arange(job.rows), len(data.test), key(seed, "few-shot rows"))
            self.test = [data.test[place] for place in sorted(places.tolist())]

    def run(self) -> list[dict[str, Any]]:
        """Scores by rule, whose means over rows they are, and a few answers.

        RuntimeError if asking changed a weight, which it must not.
        """
        cells = []
        asked = list(self._asked())
        for number, (name, shots, seed, order) in enumerate(asked):
            if not number or asked[number - 1][0] != name:
                model = self._open(name)
                likelihood, before = Likelihood(model, self.job.begins), weights_digest(model.network)
            identity = {"model": name, "shots": shots, "seed": seed, "order": order}
            cell = once(
                self.context,
                identity,
                lambda asker=likelihood, of=identity: {**of, **self._cell(asker, of)},
                lambda values, folder: _write(values, folder),
                lambda folder: json.loads((folder / _CELL).read_text()),
            )
            cells.append(cell)
            self.context.progress(f"{name} with {shots} shots, seed {seed}", (number + 1) / len(asked))
            if (number + 1 == len(asked) or asked[number + 1][0] != name) and weights_digest(model.network) != before:
                raise RuntimeError(f"{name}: its weights changed while it was asked")
        return cells

    def _asked(self) -> Iterator[tuple[str, int, int, int]]:
        for name in self.job.models:
            for shots in self.job.shots:
                for seed in range(self.job.seeds if shots else 1):
                    for order in range(self.job.orders if shots > 1 else 1):
                        yield name, shots, seed, order

    def _open(self, name: str) -> LanguageModel:
        folder = self.own if name in OWN else Path(name).expanduser()
        return open_language_model(folder, self.device, random=self.seed if name == SCRATCH else None)

    def _cell(self, likelihood: Likelihood, of: Mapping[str, Any]) -> dict[str, Any]:
        """Answers of one model to all rows with the shots `of` a cell."""
        shots, seed, order = of["shots"], of["seed"], of["order"]
        before = [self._shots(row, place, shots, seed, order) for place, row in enumerate(self.test)]
        contexts = [
            context_of(self.data.task, of_row, row.prompt) for of_row, row in zip(before, self.test, strict=True)
        ]
        right: dict[str, list[bool]] = {}
        shown: list[dict[str, str]] = [{"prompt": text} for text in contexts[:SHOWN]]
        cell: dict[str, Any] = {"rows": len(self.test), "cut": {}}
        if self.data.task.choices is not None:
            taken, cell["cut"][CHOSEN] = self._chosen(likelihood, contexts, before)
            for row, by_rule in zip(self.test, taken, strict=True):
                for rule, choice in by_rule.items():
                    right.setdefault(rule, []).append(choice == row.gold)
            for row, by_rule, example in zip(self.test, taken, shown, strict=False):
                example |= {"right": row.choices[row.gold], "taken": row.choices[by_rule[rules.ACC]]}
        if self.job.write or self.data.task.choices is None:
            texts, cell["cut"][WRITTEN] = self._written(likelihood, contexts, of["model"])
            right[rules.WRITTEN] = [
                rules.exact_match(text, row.answers) for text, row in zip(texts, self.test, strict=True)
            ]
            for row, text, example in zip(self.test, texts, shown, strict=False):
                example |= {"right": row.answers[0], "written": text}
        scores = {rule: float(np.mean(values)) for rule, values in right.items()}
        return {**cell, "scores": scores, "shown": shown}

    def _shots(self, row: Question, place: int, shots: int, seed: int, order: int) -> list[Question]:
        """The shots of a row, in their order."""
        name = f"seed {seed} row {place}" if self.job.draw == "row" else f"seed {seed}"
        drawn = shots_of(self.pool, shots, name, self.seed, row)
        return in_order(drawn, order, name, self.seed)

    def _chosen(
        self, likelihood: Likelihood, contexts: Sequence[str], before: Sequence[Sequence[Question]]
    ) -> tuple[list[dict[str, int]], int]:
        """The choice taken by each rule, row by row, and how many prompts were cut."""
        task = self.data.task
        requests = _Requests(likelihood)
        asked = []
        for row, context, shots in zip(self.test, contexts, before, strict=True):
            answers = [f"{task.delimiter}{choice}" for choice in row.choices]
            empty = self.data.empty if self.job.calibrate and self.data.has_labels else []
            asked.append(
                (
                    [requests.add(context, answer) for answer in answers],
                    [requests.add(task.unconditional, answer) for answer in answers],
                    [[requests.add(context_of(task, shots, text), answer) for answer in answers] for text in empty],
                )
            )
        continuations = requests.answers()
        taken = [
            rules.chosen(
                row.choices,
                [continuations[place].log_likelihood for place in given],
                [continuations[place].tokens for place in given],
                [continuations[place].log_likelihood for place in prior],
                [[continuations[place].log_likelihood for place in places] for places in empty],
            )
            for row, (given, prior, empty) in zip(self.test, asked, strict=True)
        ]
        return taken, sum(any(continuations[place].cut for place in given) for given, _, _ in asked)

    def _written(self, likelihood: Likelihood, contexts: Sequence[str], name: str) -> tuple[list[str], int]:
        """What a network writes after each prompt, greedily, and how many prompts were cut."""
        model, most = likelihood.model, self.job.max_new_tokens
        if model.length is not None and most >= model.length:
            raise UserError(
                f"downstream {self.job.name}: max_new_tokens: {most:,} leaves prompts no room in the {model.length:,} "
                f"positions of {name}; lower it, or set write to false."
            )
        room = None if model.length is None else model.length - most
        rows = [likelihood.context(context) for context in contexts]
        decoding = Decoding(max_new_tokens=most, stop=tuple(self.data.task.until))
        texts = {
            completion.prompt: completion.text
            for completion in Generator(model, decoding).write([row if room is None else row[-room:] for row in rows])
        }
        return [texts[place] for place in range(len(rows))], sum(room is not None and len(row) > room for row in rows)


class _Requests:
    """Continuations to be scored, each once."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.places: dict[tuple[str, str], int] = {}

    def add(self, context: str, continuation: str) -> int:
        return self.places.setdefault((context, continuation), len(self.places))

    def answers(self) -> list[Continuation]:
        return self.likelihood.continuations([self.likelihood.pair(*request) for request in self.places])


def weights_digest(network: Any) -> str:
    """Digest of all weights and buffers of a network."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(cell: dict[str, Any], folder: Path) -> None:
    (folder / _CELL).write_text(json.dumps(cell))
