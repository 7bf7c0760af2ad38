"""All fine-tunings of a job: every model, number of labels and seed."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from data_prep.errors import UserError
from data_prep.labelled.examples import TEXT, Example, Labelled
from data_prep.labelled.rows import first_of
from data_prep.labelled.task import TaskFile
from data_prep.labelled.text_to_text import prompt_of, written_score
from data_prep.rng import key
from data_prep.shards.rows import Ragged, num_rows, ragged
from data_prep.tokens.cleaning import Cleaning
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.counted import Counted, of_seeds, said
from pipeline.downstream.fine_tune import checks, exported, metrics, submission
from pipeline.downstream.fine_tune import trial as trial_files
from pipeline.downstream.fine_tune.examples import drawn, label_weights, some, steps_of, stream_of
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import (
    Encoded,
    Layout,
    Predicted,
    Shape,
    logistic,
    module_of,
    shape_of,
    tokenizer_of,
)
from pipeline.downstream.fine_tune.job import Config
from pipeline.downstream.fine_tune.learners import Learner, learner_of, num_weights, open_source
from pipeline.downstream.fine_tune.scoring import TEST_BATCH, scores_of
from pipeline.downstream.fine_tune.trial import Trial
from pipeline.downstream.finished import once
from pipeline.downstream.labelled_scores import named_as
from pipeline.downstream.model_names import FROZEN, OWN, PRETRAINED, SCRATCH
from pipeline.stage import Context
from training.config import PlacementConfig, TrainConfig
from training.data import MemoryTable
from training.distributed import Worker, choose_device, set_up_cpu
from training.loop import Training
from training.models.adapters import Adapters
from training.monitor.early_stopping import BestWeights
from training.monitor.names import padding_of
from training.objectives.writing import Writing

SELECTION = -1  # the seed whose examples choose learning rates and are never reported


@dataclass(frozen=True)
class Source:
    """Where a model's weights and tokenizer come from; `scratch` keeps the shape and drops the weights, `frozen` keeps
    the weights as they are."""

    folder: Path
    scratch: bool = False
    frozen: bool = False


class Trials:
    """All fine-tunings of a job."""

    def __init__(
        self,
        job: Config,
        settings: dict[str, Any],
        data: Labelled,
        pretrained: Artifact,
        context: Context,
        others: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """others: folders of networks by their names among `job.models`, which are folders themselves otherwise."""
        self.job, self.seed, self.data, self.context = job, settings["seed"], data, context
        self.precision, self.cleaning = settings["precision"], Cleaning(**settings.get("cleaning", {}))
        self.placement = context.one_worker
        folders = {**dict.fromkeys(OWN, pretrained.path / MODEL), **others}
        self.sources = {
            model: Source(folders.get(model, Path(model).expanduser()), model == SCRATCH, model == FROZEN)
            for model in job.models
        }
        task = job.data.task_file()[0] if job.written and job.data.is_task else TaskFile()
        self.prompt, self.step = prompt_of(task), task.step
        self.shape, self.main = self._shape(None), metrics.main_metric(data)
        self.head = module_of(self.shape)
        overlap = job.length // 3 if job.window_overlap is None else job.window_overlap
        self.layout = Layout(job.length, overlap, job.max_question, job.max_answer)
        self.held_out: dict[tuple[Path, str, int | None], Encoded] = {}
        self.counted: dict[tuple[str, Path, int | None], dict[int, Sequence[Counted]]] = {}
        """By split, network and number of labels (None: they do not matter) what was counted, by seed."""
        self.encoders: dict[Source, Any] = {}
        self.predicted: dict[tuple[str, int], list[Predicted]] = {}
        """By model and number of labels, what was predicted for `reported()` in each seed."""
        self.diverged: dict[tuple[str, int, float], dict[int, bool]] = {}
        """By model, number of labels and learning rate, whether the network diverged, by seed."""
        self.kept: FineTuned | Path | None = None
        """The pretrained network, fine-tuned with the most labels in the first seed."""
        tries = sum(len(self._rates(model)) for model in job.models if len(self._rates(model)) > 1)
        self.total = len(job.labels) * (tries + job.seeds * len(job.models))
        self.done = 0

    def run(self) -> list[dict[str, Any]]:
        """A cell for each number of labels and model: scores by seed, the chosen rate, the score of each one tried.

        None of a model that diverges at every rate, which `remarks` tell; of the pretrained network, and where no model
        has a score, that is a UserError. UserError, before anything is trained, for rows that cannot be scored."""
        self._check_adapters()
        self._check_scored()
        self._check_submitted()
        asked = [(model, labels) for labels in self.job.label_counts for model in self.job.models]
        cells = [cell for place in asked if (cell := self._cell(*place))]
        if not cells:
            raise self._all_diverged(*asked[0])
        return cells

    def _cell(self, model: str, labels: int) -> dict[str, Any] | None:
        """A single rate is not tried before it is used. The best rate is used that diverges in no seed."""
        rates = self._rates(model)
        tried: dict[float, float] = {}
        if len(rates) > 1:
            tried = {lr: self._tried(model, labels, lr) for lr in rates}
        usable = [rate for rate in rates if tried.get(rate) != -math.inf]
        for lr in sorted(usable, key=lambda rate: -tried.get(rate, 0.0)):
            trials = [self.trial(model, labels, seed, lr, self.data.reported) for seed in range(self.job.seeds)]
            if not any(trial.diverged for trial in trials):
                return self._cell_of(model, labels, lr, tried, trials)
        if model == PRETRAINED:
            raise self._all_diverged(model, labels)
        return None

    def _tried(self, model: str, labels: int, lr: float) -> float:
        """The score that chooses rates; −∞ where the network diverged."""
        trial = self.trial(model, labels, SELECTION, lr, "validation")
        return -math.inf if trial.diverged else trial.scores[self.main]

    def _all_diverged(self, model: str, labels: int) -> UserError:
        rates, setting = ", ".join(f"{rate:g}" for rate in self._rates(model)), self._rates_setting(model)
        return UserError(
            f"downstream {self.job.name}: {model} from {labels:,} labels diverged at every learning rate ({rates}), so "
            f"that its weights or scores are no numbers; set lower ones in {setting}."
        )

    def _cell_of(
        self, model: str, labels: int, lr: float, tried: Mapping[float, float], trials: Sequence[Trial]
    ) -> dict[str, Any]:
        if (model, labels) == (PRETRAINED, max(self.job.label_counts)):
            self.kept = trials[0].network
        self.predicted[model, labels] = [trial.predicted for trial in trials]
        return {
            "model": model,
            "kind": "network",
            "labels": labels,
            "scores": [trial.scores[self.main] for trial in trials],
            "all": [trial.scores for trial in trials],
            "steps": [trial.steps for trial in trials],
            "best_steps": [trial.best_step for trial in trials],
            "weights": list(trials[0].weights),
            "padding": mean_of([trial.padding for trial in trials]),
            "thresholds": [trial.threshold for trial in trials if trial.threshold is not None],
            "lr": lr,
            "tried": {str(rate): value if math.isfinite(value) else None for rate, value in tried.items()},
        }

    def reported(self) -> list[Example]:
        """The rows whose scores are reported."""
        return some(self.data.splits[self.data.reported], self.job.test_rows, self.seed)

    def remarks(self) -> list[str]:
        """What of examples is in no row, or not learned, and what else is odd about answers, in sentences."""
        texts = []
        for (split, folder, labels), by_seed in self.counted.items():
            whose = f"{split} by {folder}" if labels is None else f"{split} by {folder}, {labels:,} labels"
            texts += [f"{whose}: {text}" for text in of_seeds(by_seed.values())]
        if self.shape.unanswerable and not self.shape.written:
            texts += self._about_no_answer()
        for (model, labels), predictions in self.predicted.items():
            if invalid := sum(predicted.invalid for predicted in predictions):
                total = sum(len(predicted.answers) for predicted in predictions)
                texts.append(f"{model} from {labels:,} labels: {invalid:,} of {total:,} written texts are no answer")
        return [*texts, *self._about_steps(), *self._about_diverged(), *self._about_undefined()]

    def _about_steps(self) -> list[str]:
        """How many different scores there are once they are written."""
        if not (self.shape.written and self.shape.head == "score"):
            return []
        scores = {example.score for example in self.data.splits["train"] if example.score is not None}
        left = len({written_score(score, self.shape.step) for score in scores})
        if left == len(scores):
            return []
        return [
            f"scores are written in steps of {self.shape.step:g}: of {len(scores):,} different ones of train {left:,} "
            "remain (step of the task file)"
        ]

    def _about_diverged(self) -> list[str]:
        texts = []
        for (model, labels, lr), by_seed in self.diverged.items():
            if any(by_seed.values()):
                seeds = f"{sum(by_seed.values())} of {len(by_seed)} seed{'s' * (len(by_seed) > 1)}"
                has_score, setting = (model, labels) in self.predicted, self._rates_setting(model)
                left = "" if has_score else f"; it has no score with {labels:,} labels: set lower rates in {setting}"
                texts.append(f"{model} from {labels:,} labels diverged at the learning rate {lr:g} in {seeds}{left}")
        return texts

    def _about_undefined(self) -> list[str]:
        """Which parts and languages have no score."""
        reasons = metrics.undefined(self.data, self.reported())
        return [f"no score of {name} apart: {why.rstrip('.')}" for name, why in reasons.items()]

    def _about_no_answer(self) -> list[str]:
        texts = []
        if self.data.reported == "validation":
            texts.append(
                "“no answer” is said where it is likelier than the best answer: no threshold is chosen, for there are "
                "no rows to choose it but those that are reported"
            )
        if "squad-v2" in metrics.names_of(self.data):
            texts.append(
                "best-exact and best-f1 are those with the threshold of “no answer” that is best for the reported "
                "rows, as SQuAD's script has them; nothing is chosen by them"
            )
        return texts

    def _rates(self, model: str) -> list[float]:
        return getattr(self.job, self._rates_setting(model))

    def _rates_setting(self, model: str) -> str:
        """The name of the setting with a model's learning rates."""
        own = {SCRATCH: "scratch_lrs", FROZEN: "frozen_lrs"}.get(model, "lrs")
        return own if getattr(self.job, own) else "lrs"

    def trial(self, model: str, labels: int, seed: int, lr: float, split: str) -> Trial:
        """Fine-tune once and score on `split`, unless an earlier attempt at the job has (`finished`)."""
        if not self.done:
            self.context.progress(f"fine-tuning {model} from {labels:,} labels", 0.0)
        trial = once(
            self.context,
            {"model": model, "labels": labels, "seed": seed, "lr": lr, "split": split},
            lambda: self._trial(model, labels, seed, lr, split),
            trial_files.save,
            trial_files.read,
        )
        self._note(model, labels, seed, trial)
        self.diverged.setdefault((model, labels, lr), {})[seed] = trial.diverged
        self.done += 1
        said = f"diverged at {lr:g}" if trial.diverged else f"{self.main} {trial.scores[self.main]:.3f}"
        self.context.progress(f"{model} from {labels:,} labels: {said}", min(self.done / self.total, 1.0))
        return trial

    def _note(self, model: str, labels: int, seed: int, trial: Trial) -> None:
        """Keep what a trial counted, for the report."""
        folder = self.sources[model].folder
        for split, counted in trial.counted.items():
            by_seed = self.counted.setdefault((split, folder, labels if split == "train" else None), {})
            by_seed[seed if split == "train" else 0] = counted

    def _chosen(self, labels: int, seed: int) -> list[Example]:
        """The examples that are learned from."""
        train = self.data.splits["train"]
        return [train[place] for place in drawn(len(train), labels, self.seed, seed)]

    def _shape(self, learned: Sequence[Example] | None) -> Shape:
        return shape_of(self.data, self.job.written, self.prompt, learned, self.step)

    def _trial(self, model: str, labels: int, seed: int, lr: float, split: str) -> Trial:
        source, chosen = self.sources[model], self._chosen(labels, seed)
        shape = self._shape(chosen)
        rows = self._encoded(shape, chosen, source.folder)
        for text in rows.remarks if ("train", source.folder, labels) not in self.counted else ():
            self.context.progress("labelled examples", None, warning=f"{self.job.name}: {labels:,} labels: {text}")
        set_up_cpu(self.placement.threads)
        trial_seed = key(self.seed, f"{self.job.name} seed {seed}") >> 1
        torch.manual_seed(trial_seed)
        weights = label_weights(self.job.class_weights, self.data, chosen)
        decay = 1.0 if source.scratch or source.frozen else self.job.layer_decay
        encoder = self._encoder(source)
        adapters = self._adapted(encoder, source)
        objective = learner_of(encoder, shape, self.layout, self.job.pooling, source.frozen, weights, decay)
        numbers = num_weights(objective.network)
        steps, best_step, padding = self._train(objective, shape, rows, source, lr, trial_seed)
        if adapters is not None:
            adapters.merge()
        most = self.job.validation_rows if seed == SELECTION else self.job.test_rows
        held_out = self._held_out(source.folder, split, most)
        try:
            shape, threshold = self._fitted(objective, shape, source, split)
            predicted = self._predicted(objective, shape, held_out)
        except _DivergedError:
            counted = self._counted(source, rows)
            return Trial({}, Predicted([], []), steps, best_step, numbers, padding, counted=counted)
        scores = metrics.scores(self.data, held_out.examples, predicted)
        scores |= metrics.scores_of_parts(self.data, held_out.examples, predicted)
        is_shown = (model, labels) == (PRETRAINED, max(self.job.label_counts))
        kept = self._fine_tuned(objective, shape, source) if is_shown and seed == 0 else None
        shown = predicted if is_shown else replace(predicted, n_best=[])
        counted = self._counted(source, rows)
        return Trial(scores, shown, steps, best_step, numbers, padding, threshold, counted, kept)

    def _counted(self, source: Source, rows: Encoded) -> dict[str, Sequence[Counted]]:
        """What was counted of the held-out rows that a source has read, and of its rows of train."""
        counted = {of: read.counted for (folder, of, _), read in self.held_out.items() if folder == source.folder}
        return {**counted, "train": rows.counted}

    def _fitted(self, objective: Learner, shape: Shape, source: Source, split: str) -> tuple[Shape, float | None]:
        """The shape with what validation rows choose, if it is others that are scored; and a threshold chosen so."""
        if split == "validation" or not hasattr(self.head, "fitted"):
            return shape, None
        validation = self._held_out(source.folder, "validation", self.job.validation_rows)
        shape = self.head.fitted(shape, validation, _scores_of(objective, validation))
        return shape, shape.threshold if shape.unanswerable else None

    def _check_scored(self) -> None:
        """UserError if the metrics are not defined for rows that are to be scored, whatever is answered."""
        samples = [("validation", "validation_rows")] if checks.chooses(self.job) else []
        for split, most in (*samples, (self.data.reported, "test_rows")):
            rows = some(self.data.splits[split], getattr(self.job, most), self.seed)
            if why := metrics.unscorable(self.data, rows):
                drawn_by = f" ({most})" if len(rows) < len(self.data.splits[split]) else ""
                raise UserError(
                    f"downstream {self.job.name}: the {len(rows):,} rows of {split}{drawn_by} cannot be scored: {why}"
                )

    def _check_submitted(self) -> None:
        """UserError if the pretrained network has no token of a row that a test server wants an answer to."""
        asked = self.data.splits.get("predict", []) if self.job.submission and self.data.kind == TEXT else []
        empty = [e for e in asked if not all(text.strip() for text in e.words or (e.text,))]
        rows = ((e.id, self._encoded(self.shape, [e], self.sources[PRETRAINED].folder).rows) for e in empty)
        if unread := [own for own, of in rows if not ragged(of, "input").lengths.all()]:
            advice = "" if self.shape.written else ", or set pooling to last"
            raise UserError(
                f"downstream {self.job.name}: {len(unread):,} of {len(asked):,} rows of predict are empty (id "
                f"{first_of(unread)}), the network's tokenizer has no token for them, and test servers want an answer "
                f"to every row: give them a text{advice}."
            )

    def _check_adapters(self) -> None:
        """UserError, before anything is trained, if adapters have no place in a network."""
        for source in self.sources.values():
            if self.job.adapters is not None and not (source.scratch or source.frozen):
                Adapters(self._encoder(source).network, self.job.adapters)

    def _adapted(self, encoder: Any, source: Source) -> Adapters | None:
        """Adapters in pretrained weights, where they are asked for."""
        if self.job.adapters is None or source.scratch or source.frozen:
            return None
        return Adapters(encoder.network, self.job.adapters)

    def _train(
        self, objective: Learner, shape: Shape, rows: Encoded, source: Source, lr: float, seed: int
    ) -> tuple[int, int, float | None]:
        """Train on rows; the steps that were taken, the one whose state is kept, and the share of padding."""
        learned = rows.learnable()
        if not num_rows(learned):
            why = "; ".join(rows.remarks)
            raise UserError(f"downstream {self.job.name}: no row of train can be learned ({why}); mend its answers.")
        job, steps = self.job, steps_of(self.job, num_rows(learned))
        records: list[dict[str, Any]] = []
        best = None
        if job.evaluate_every is not None:
            validation = self._held_out(source.folder, "validation", job.validation_rows)
            best = BestWeights(objective.network, lambda: self._score(objective, shape, validation), job.early_stopping)
        config = TrainConfig(
            global_batch=min(job.batch, num_rows(learned)), steps=steps, lr=lr, warmup_steps=steps // 10,
            precision=self.precision, log_every=job.evaluate_every or steps, evaluate_every=job.evaluate_every or 0,
        )  # fmt: skip
        table = MemoryTable(learned, num_rows(learned))
        done = Training(
            objective,
            stream_of(table, config.global_batch, seed, job.length_window),
            config,
            placement=PlacementConfig(device=self.placement.device),
            worker=Worker(device=choose_device(self.placement.device)),
            seed=seed,
            goes_on=best,
            log=records.append,
        ).run()
        padding = padding_of(records, objective.unit)
        if best is None:
            return done["step"], done["step"], padding
        best.restore()
        return done["step"], best.step, padding

    def _score(self, objective: Learner, shape: Shape, held_out: Encoded) -> float:
        """The number that counts; −∞ where the network has diverged."""
        try:
            predicted = self._predicted(objective, shape, held_out)
        except _DivergedError:
            return -math.inf
        return metrics.scores(self.data, held_out.examples, predicted)[self.main]

    def _predicted(self, objective: Learner, shape: Shape, held_out: Encoded) -> Predicted:
        return self.head.predicted(shape, held_out, _scores_of(objective, held_out))

    def _fine_tuned(self, objective: Learner, shape: Shape, source: Source) -> FineTuned:
        framed, examples = self.job.pooling == "last", self.data.splits["train"]
        in_pairs = any(example.text_pair is not None for example in examples)
        reads = self.job.data.reads(self.data.head, in_pairs, self.shape.written)
        return FineTuned(
            objective, shape, self.layout, source.folder, self.job.pooling, framed, self.cleaning,
            self.precision, reads,
        )  # fmt: skip

    def export(self, folder: Path) -> None:
        """Write the network that is kept."""
        if isinstance(self.kept, FineTuned):
            exported.save(folder, self.kept)
        elif self.kept is not None:
            shutil.copytree(self.kept, folder)

    def submit(self, task: TaskFile, folder: Path) -> tuple[list[str], list[str]]:
        """Write what the network that is kept predicts for the rows without labels; names of the files, and what of the
        rows was not read."""
        examples = self.data.splits["predict"]
        assert self.kept is not None
        self.context.progress(f"predicting {len(examples):,} rows without labels")
        model = self.kept if isinstance(self.kept, FineTuned) else exported.open_fine_tuned(self.kept)
        learned = self._chosen(max(self.job.label_counts), 0)
        scores = [example.score for example in learned if example.score is not None]
        bounds = (min(scores, default=0.0), max(scores, default=0.0))
        predicted = model.predict(examples)
        no_answer = [float(not answer) for answer in predicted.answers]
        no_answer = [logistic(odds) for odds in predicted.null_odds] or no_answer
        probabilities = no_answer if self.shape.unanswerable else None
        answers = [named_as(self.shape, answer) for answer in predicted.answers]
        if self.data.is_of_segments:
            answers = [line["segments"] for line in model.lines(examples, predicted)]
        files = submission.write(self.job.name, task, examples, answers, folder, bounds, probabilities)
        return files, said(predicted.counted)

    def _held_out(self, folder: Path, split: str, most: int | None) -> Encoded:
        key = (folder, split, most)
        if key not in self.held_out:
            examples = some(self.data.splits[split], most, self.seed)
            self.held_out[key] = self._encoded(self.shape, examples, folder)
        return self.held_out[key]

    def _encoded(self, shape: Shape, examples: Sequence[Example], folder: Path) -> Encoded:
        tokenizer = tokenizer_of(shape, folder, framed=self.job.pooling == "last")
        return self.head.encode(shape, examples, tokenizer, self.layout)

    def _encoder(self, source: Source) -> Any:
        """A fresh copy of the source's encoder; from random weights of the current seed if `scratch`."""
        if source not in self.encoders:
            self.encoders[source] = open_source(source.folder, self.shape)
        encoder = self.encoders[source]
        return encoder.from_random_weights() if source.scratch else encoder.copied()


class _DivergedError(Exception):
    """A network whose weights or scores are no finite numbers."""


def _scores_of(objective: Learner, rows: Encoded) -> Ragged:
    """The network's scores of rows. _DivergedError where its weights or scores are not finite; of one that writes, the
    probabilities of the first rows' texts, for the ids that it writes are numbers in any case."""
    is_finite = all(bool(torch.isfinite(weight).all()) for weight in objective.network.parameters())
    if is_finite and isinstance(objective, Writing):
        is_finite = objective.is_finite(rows.take(np.arange(min(len(rows), TEST_BATCH))))
    if not is_finite:
        raise _DivergedError
    scores = scores_of(objective.scores, rows)
    if not np.isfinite(scores.values).all():
        raise _DivergedError
    return scores


def mean_of(shares: Sequence[float | None]) -> float | None:
    """Of what is known."""
    known = [share for share in shares if share is not None]
    return statistics.fmean(known) if known else None
