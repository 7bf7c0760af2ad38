"""Runs a job `predictions`: asks the network, the same from random weights, and n-gram models of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_prep.kinds import facts_of
from data_prep.rng import Draws, key
from data_prep.shards.remote import open_shards
from data_prep.shards.rows import Specials, num_rows
from data_prep.sources.files import below
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.predictions import kneser_ney, ngrams, weights
from pipeline.downstream.predictions.copying import copied
from pipeline.downstream.predictions.examples import Chooser
from pipeline.downstream.predictions.job import FEWEST_ROWS
from pipeline.downstream.predictions.judgements import judged_tokens
from pipeline.downstream.predictions.ngrams import Contexts, FillIns, NextTokens, Scored
from pipeline.downstream.predictions.report import NETWORK, UNTRAINED, Measured, build
from pipeline.reports.report import Report
from pipeline.stage import Context
from pipeline.training_settings import mixture
from training import objectives
from training.distributed import choose_device, set_up_cpu
from training.evaluation import DRAWN_HELD_OUT
from training.inference.predictions import Predictions, Predictor
from training.job import Job, held_out_stream, training_stream
from training.objectives.text import seen_tokens

MOST = 3  # guesses at a target
READ = 128  # training rows at once


class Asked(NamedTuple):
    """Held-out rows in batches, and what the networks say of each."""

    network: list[Predictions]
    untrained: list[Scored]


class Trial:
    """A job with its inputs."""

    def __init__(self, job: Any, settings: dict[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
        """job: of `predictions`, or of another task that asks a network about held-out rows (`name`, `rows`)."""
        self.job, self.settings, self.context = job, settings, context
        self.model, self.preprocessor = inputs["pretrained"].path / MODEL, inputs["preprocessor"].path
        shards, config = inputs["shards"], settings["pretraining"]
        placement = context.one_worker
        set_up_cpu(placement.threads)
        self.device, self.seed = choose_device(placement.device), config["seed"]
        self.reading = Job.model_validate(
            {
                **{name: value for name, value in config.items() if name != "name"},
                "corpora": mixture("train", config, shards),
                "held_out": below(shards.uri, "validation"),
                "train": {"global_batch": 1, "steps": 1, "evaluate_rows": job.rows},
                "work": "",
                "out": "",
                "recipe": "",
            }
        )
        cache = partial(open_shards, cache=context.downloads / "shards")
        self.facts = facts_of(config["kind"], cache(self.reading.corpora[0].folder), self.preprocessor)
        if self.facts.specials is None:
            raise ValueError("the tokenizer of text has special tokens")
        self.specials = self.facts.specials
        self.train_rows = sum(cache(corpus.folder).rows for corpus in self.reading.corpora)
        self.training = training_stream(self.reading, cache, self.specials, [])
        held_out, self.num_rows = held_out_stream(self.reading, cache, self.specials)
        if held_out is None:
            raise ValueError("`check_inputs` has not refused shards without held-out rows")
        self.held_out = held_out

    def run(self, out_dir: Path) -> Report:
        """Carry out the job; figures go to `out_dir`."""
        progress = self.context.progress
        untrained, trained = self._predictor(), self._predictor()
        trained.objective.load_export(self.model)
        moved = weights.moved(untrained.networks, trained.networks) if self.settings["from_random"] else {}
        asked = self._asked(trained, untrained)
        progress("counting n-grams")
        counted, rows_read = self._counted(trained)
        special = self.specials.is_special
        contexts = ngrams.join(ngrams.contexts_of(part.targets, special) for part in asked.network)
        hidden = np.concatenate([ngrams.is_hidden(part.targets, special) for part in asked.network])
        both_sides = asked.network[0].targets.both_sides
        chosen = hidden if hidden.any() else np.ones_like(hidden)
        models = (FillIns if both_sides else NextTokens)(counted, special)
        progress("asking n-grams")
        of_ngrams = models(Contexts(*(column[chosen] for column in contexts)))
        measured = Measured(
            rows=_row_numbers(asked.network)[chosen],
            words=contexts.words[chosen],
            places=np.concatenate([part.targets.positions.values for part in asked.network])[chosen],
            num_bytes=self._num_bytes(asked.network),
            scored={
                NETWORK: _chosen(_joined([_of_predictions(part) for part in asked.network]), chosen),
                UNTRAINED: _chosen(_joined(asked.untrained), chosen),
                **of_ngrams,
            },
            all_targets=_joined([_of_predictions(part) for part in asked.network]),
            all_words=contexts.words,
            counts=np.bincount(counted.words, minlength=len(special)),
            both_sides=both_sides,
            shown=len(hidden) - int(chosen.sum()),
            read=(len(counted.words), rows_read, self.train_rows),
            given=_share_given(asked.network),
            copied=_copied(asked.network, self.specials),
            moved=moved,
            asked=asked.network[0].targets.asked,
        )
        progress("choosing examples")
        chooser = Chooser(asked.network, models, self.preprocessor, self.seed, self.job.examples)
        shown = chooser.tables(trained.objective)
        progress("asking what was replaced")
        judged = judged_tokens(asked.network, models, chooser.words, self.seed, self.job.examples)
        return build(self.job, measured, shown, judged, out_dir, self.seed)

    def _predictor(self) -> Predictor:
        """The objective as training builds it, with the weights that it begins with."""
        reading = self.reading
        torch.manual_seed(self.seed)
        networks = {objectives.MODEL: reading.network, **reading.networks}
        built: Any = objectives.build(reading.objective, networks, self.facts, self.device.type)
        return Predictor(built, self.device)

    def _asked(self, trained: Predictor, untrained: Predictor) -> Asked:
        asked, begin = Asked([], []), 0
        size = FEWEST_ROWS
        while begin < self.num_rows:
            numbers = np.arange(begin, min(begin + size, self.num_rows))
            self.context.progress("asking the network", begin / self.num_rows)
            read = self.held_out.read(numbers)
            draws = Draws(key(self.seed, DRAWN_HELD_OUT), 0, numbers)
            asked.network.append(trained(read, draws, MOST))
            asked.untrained.append(_of_predictions(untrained(read, draws, 1)))
            most = int(asked.network[-1].targets.ids.lengths.max())
            size = trained.rows_at_once(most, self.specials.vocabulary)
            begin = int(numbers[-1]) + 1
        return asked

    def _num_bytes(self, parts: Sequence[Predictions]) -> int | None:
        """Bytes of UTF-8 that the targets spell, row by row; None where they are not all of a text, left to right."""
        if parts[0].targets.both_sides or _is_of_two_sequences(parts[0]):
            return None
        unknown = self.specials.get("unk")
        if unknown is not None and any((part.targets.ids.values == unknown).any() for part in parts):
            return None
        pieces = Pieces(load(self.preprocessor), self.specials)
        ordinary = ~self.specials.is_special
        rows = (part.targets.ids.row(row) for part in parts for row in range(len(part.targets.ids)))
        return sum(len("".join(pieces.texts(ids[ordinary[ids]].tolist())).encode()) for ids in rows)

    def _counted(self, predictor: Predictor) -> tuple[Contexts, int]:
        """Training tokens with their neighbours, and the number of rows that they are from."""
        parts: list[Contexts] = []
        tokens = rows = 0
        while rows < self.train_rows and tokens < self.job.train_tokens:
            numbers = np.arange(rows, min(rows + READ, self.train_rows))
            targets = predictor.objective.targets(self.training.read(numbers))
            parts.append(ngrams.words_of(targets, self.specials.is_special))
            tokens, rows = tokens + len(parts[-1].words), int(numbers[-1]) + 1
            self.context.progress(f"counting n-grams of {tokens:,} tokens", rows / self.train_rows)
        return ngrams.join(parts), rows


def _of_predictions(predictions: Predictions) -> Scored:
    return Scored(predictions.truth, predictions.ids[:, 0])


def _joined(parts: Sequence[Scored]) -> Scored:
    return Scored(*map(np.concatenate, zip(*parts, strict=True)))


def _chosen(scored: Scored, chosen: np.ndarray) -> Scored:
    return Scored(*(column[chosen] for column in scored))


def _share_given(parts: Sequence[Predictions]) -> float | None:
    """For targets that are a separate sequence, the share of those that occur in the network's input."""
    if "target_tokens" not in parts[0].rows:
        return None
    hits = total = 0
    for part in parts:
        seen, ids = seen_tokens(part.rows), part.targets.ids
        asked, given = (
            tokens.row_index() << kneser_ney.BITS | tokens.values.astype(np.int64) for tokens in (ids, seen)
        )
        hits, total = hits + int(np.isin(asked, given).sum()), total + len(ids.values)
    return hits / total


def _is_of_two_sequences(part: Predictions) -> bool:
    """Whether one sequence is predicted from another."""
    return not part.targets.both_sides and any(name.startswith("target_") for name in part.rows)


def _copied(parts: Sequence[Predictions], special: Specials) -> np.ndarray | None:
    """Guesses by copying the network's input; None if its targets are not a separate sequence."""
    if not _is_of_two_sequences(parts[0]):
        return None
    hidden = {special.get("mask"), *special.sentinels} - {None}
    return np.concatenate([copied(seen_tokens(part.rows), part.targets.ids, hidden) for part in parts])


def _row_numbers(parts: Sequence[Predictions]) -> np.ndarray:
    """The held-out row of each target."""

    def numbers() -> Iterator[np.ndarray]:
        first = 0
        for part in parts:
            yield first + part.targets.positions.row_index()
            first += num_rows(part.rows)

    return np.concatenate(list(numbers()))
