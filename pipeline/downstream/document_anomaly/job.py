"""How well unusual documents are told by the surprise of the masked LM that was pretrained, without any label.

    test documents ─► passages ─┬─► as they are                             normal
                                ├─► words in another order                  unusual, and of the same words
                                ├─► words replaced                          unusual, of words as frequent
                                └   documents of another kind               unusual, of other words

    validation documents ─► passages ─► thresholds, and what drift is measured against

Three scores of ours stand beside the methods of `document_baselines`, on the same documents:

    surprise       mean −log p: negative pseudo-log-likelihood per token (Salazar et al. 2020). The detector's.
    excess         surprise minus what the network expects it to be in each place: names and numbers are no news
    over-unigram   surprise minus that by frequency alone (after Ren et al. 2019): rare words are no news

Nothing is fitted to an anomaly, and the network has met neither the validation documents nor the test ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from data_prep.sources.config import digest, snapshot
from data_prep.text import passages
from data_prep.text.clean import CleanConfig
from data_prep.text.passages import WORD, Passage, changed, replacing, shuffling
from data_prep.tokens.corpus import TokenCorpus
from pipeline.artifact import Artifact
from pipeline.downstream.anomaly.measures import Measured
from pipeline.downstream.document_anomaly import baselines as document_baselines
from pipeline.downstream.document_anomaly.baselines import Read, Score, Unigram
from pipeline.downstream.document_anomaly.report import EXCESS, OVER_UNIGRAM, SURPRISE, Shown, report
from pipeline.downstream.job import page
from pipeline.recipe.jobs.document_anomaly import NORMAL, REPLACED, SHUFFLED, DocumentAnomalyConfig, name_of
from pipeline.recipe.recipe import Recipe
from pipeline.scoring import thresholds, training_rows
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.document_detector import TOKENS, DocumentDetector, Texts
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.stage import Context, Stage
from pipeline.stages.pretrain import MODEL
from training.config import PlacementConfig
from training.distributed import choose_device, set_up_cpu
from training.inference.pseudo_likelihood import PseudoLikelihood, Surprises, by_document

LEAST = 10  # documents that a figure is worth
TOLD = 6  # words of a document


def config(recipe: Recipe, job: DocumentAnomalyConfig, downloads: Path) -> dict[str, Any]:
    """The job with what it left to the recipe, how its documents are read, and a digest of those from elsewhere."""
    longer, fields = recipe.train.longer, {source.text_field for source in recipe.data.sources}
    length = job.length or (longer.length if longer else recipe.compose.length)
    elsewhere = {"snapshot": digest(snapshot(job.others, downloads), downloads)} if job.others else {}
    return {
        "job": job.model_dump(mode="json")
        | {"length": length, "rounds": job.rounds or max(1, round(1 / recipe.corruption.rate))},
        "clean": recipe.data.clean.model_dump(mode="json"),
        "text_field": fields.pop() if len(fields) == 1 else "text",
        **elsewhere,
        "seed": recipe.seed,
    }


class Scored(NamedTuple):
    """Documents and our scores of them, each float64 [D]."""

    tokens: TokenCorpus
    surprises: Surprises
    scores: dict[str, np.ndarray]


Draw = tuple[list[Passage], dict[str, list[Passage]]]
"""Normal documents, and unusual ones by kind."""


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    result = _Trial(config, inputs, context).run(out_dir)
    (out_dir / "report.json").write_text(json.dumps(result, indent=1))
    (out_dir / "report.md").write_text(page(result))
    return result["summary"]


class _Trial:
    """One job: what it reads, and the networks and baselines that score it."""

    def __init__(self, config: dict[str, Any], inputs: dict[str, Artifact], context: Context) -> None:
        self.job = DocumentAnomalyConfig.model_validate(config["job"])
        self.context, self.seed, self.text_field = context, config["seed"], config["text_field"]
        self.corpus, self.model = inputs["corpus"].path, inputs["pretrained"].path / MODEL
        placement = PlacementConfig.model_validate({**context.placement, "workers": 1, "zero": None})
        set_up_cpu(placement.threads)
        self.device = choose_device(placement.device)
        self.texts = Texts(CleanConfig.model_validate(config["clean"]), self.model)
        self.network = self._network()

    def _network(self, random: int | None = None) -> PseudoLikelihood:
        assert self.job.length is not None and self.job.rounds is not None  # `config` set them
        return PseudoLikelihood.open(self.model, self.job.length, self.job.rounds, self.device, random)

    def run(self, out_dir: Path) -> dict[str, Any]:
        job, progress = self.job, self.context.progress
        progress("reading documents")
        validation, pools = self._validation(), self._pools()
        train = passages.of_split(self.corpus, "train", job.words, job.train_documents, self.seed)
        progress("fitting baselines")
        baselines = self._baselines(train)
        progress("scoring validation documents")
        held_out = self._scored(validation, {})
        detector = self._detector(held_out)
        normal_scores = held_out.scores[SURPRISE]
        lines = {
            "by quantile": detector.threshold,
            "by tail": thresholds.by_tail(normal_scores, job.false_alarms).value,
        }
        measured: dict[str, Measured] = {}
        shown: Shown | None = None
        for number, (normal, odd) in enumerate(self._draws(pools, train)):
            found = {}
            for place, (kind, documents) in enumerate({NORMAL: normal, **odd}.items()):
                progress(f"draw {number + 1} of {job.draws}: {kind}", (number + place / (1 + len(odd))) / job.draws)
                found[kind] = self._scored(documents, baselines)
            usual = found.pop(NORMAL)
            for kind, unusual in found.items():
                of = measured.setdefault(kind, Measured(job.false_alarms))
                _measure(of, usual.scores, unusual.scores, lines)
            shown = shown or _shown(detector, normal, usual, odd, found, lines, job.shown)
        assert shown is not None  # there is a draw
        met = [training_rows.of_documents(Corpus(self.corpus, split)) for split in ("train", "validation")]
        training_rows.save(out_dir / DETECTOR, np.concatenate(met))
        detector.save(out_dir / DETECTOR, self.model)
        return report(job, measured, shown, {"training": train, "validation": validation}, out_dir)

    def _baselines(self, train: list[Passage]) -> dict[str, Score]:
        read, vocabulary = self._read(train), self.network.specials.vocabulary
        self.unigram = Unigram(read.tokens, vocabulary)
        random = self._network(self.seed) if "random-network" in self.job.baselines else None
        return document_baselines.fit(self.job.baselines, read, vocabulary, random, self.seed)

    def _validation(self) -> list[Passage]:
        job = self.job
        documents = passages.of_split(self.corpus, "validation", job.words, job.threshold_documents, self.seed)
        if len(documents) < LEAST:
            raise UserError(
                f"downstream.{job.name}: {len(documents)} validation documents are too few to draw a threshold by; "
                "raise data.split.validation, or lower words."
            )
        return documents

    def _detector(self, held_out: Scored) -> DocumentDetector:
        """With a threshold by which few of the validation documents are flagged."""
        told = {SCORE: held_out.scores[SURPRISE], TOKENS: by_document(held_out.tokens).lengths}
        line = thresholds.by_quantile(told[SCORE], self.job.false_alarms).value
        return DocumentDetector(self.network, self.texts, line, Baseline.of(told), self.text_field, self.job.words)

    def _pools(self) -> dict[str, list[Passage]]:
        """What draws are from: test documents, and those of other kinds."""
        job, most = self.job, self.job.documents * self.job.draws
        pools = {NORMAL: passages.of_split(self.corpus, "test", job.words, most, self.seed)}
        for source in job.others:
            pools[name_of(source)] = passages.of_source(
                source, self.texts.cleaner, job.words, most, self.seed, self.context.downloads
            )
        for name, found in pools.items():
            if len(found) < LEAST * job.draws:
                whose = "test documents" if name == NORMAL else f"documents of {name}"
                raise UserError(
                    f"downstream.{job.name}: {len(found)} {whose} are too few for {job.draws} draws of {LEAST}; lower "
                    "draws or words, or give more."
                )
        return pools

    def _draws(self, pools: Mapping[str, list[Passage]], train: list[Passage]) -> Iterator[Draw]:
        """Other test documents each time, and the same made unusual."""
        job, seed = self.job, self.seed
        used = [word for passage in train for sentence in passage.sentences for word in WORD.findall(sentence)]
        for number in range(job.draws):
            some = {name: found[number :: job.draws] for name, found in pools.items()}
            normal = some.pop(NORMAL)
            odd = {SHUFFLED: changed(normal, shuffling(seed, number))}
            if job.replaced:
                odd[REPLACED] = changed(normal, replacing(seed, number, job.replaced, used))
            yield normal, {**odd, **some}

    def _read(self, documents: Sequence[Passage]) -> Read:
        tokens = self.texts.tokens([document.sentences for document in documents])
        return Read([document.text for document in documents], tokens)

    def _scored(self, documents: Sequence[Passage], baselines: Mapping[str, Score]) -> Scored:
        """Scores by ours and by the baselines. Every document has a token, for it has a word."""
        read = self._read(documents)
        surprises = self.network.surprises(read.tokens)
        scores = {SURPRISE: surprises.mean(), EXCESS: surprises.excess()}
        scores[OVER_UNIGRAM] = scores[SURPRISE] - self.unigram(read)
        return Scored(read.tokens, surprises, scores | {name: score(read) for name, score in baselines.items()})


def _measure(
    of: Measured, usual: Mapping[str, np.ndarray], unusual: Mapping[str, np.ndarray], lines: Mapping[str, float]
) -> None:
    scores = {name: np.concatenate([found, unusual[name]]) for name, found in usual.items()}
    truth = np.repeat([False, True], [len(usual[SURPRISE]), len(unusual[SURPRISE])])
    of.add(scores, truth)
    of.base_rates.append(float(truth.mean()))
    for how, line in lines.items():
        of.flag(SURPRISE, how, line, scores[SURPRISE], truth)


def _shown(
    detector: DocumentDetector,
    normal: list[Passage],
    usual: Scored,
    odd: Mapping[str, list[Passage]],
    unusual: Mapping[str, Scored],
    lines: dict[str, float],
    count: int,
) -> Shown:
    """The most unusual documents of each kind, with their words."""

    def told(kind: str, documents: list[Passage], found: Scored, number: int) -> dict[str, Any]:
        return {
            "document": documents[number].name,
            "kind": kind,
            "score": float(found.scores[SURPRISE][number]),
            "words": detector.words(found.tokens, found.surprises, number),
            "reasons": detector.reasons(found.tokens, found.surprises, number, TOLD),
        }

    most = [
        told(kind, documents, found, number)
        for kind, documents, found in [(NORMAL, normal, usual), *((kind, odd[kind], unusual[kind]) for kind in odd)]
        for number in np.argsort(-found.scores[SURPRISE], kind="stable")[:count].tolist()
    ]
    scores = {kind: found.scores[SURPRISE] for kind, found in unusual.items()}
    return Shown(usual.scores[SURPRISE], scores, lines, most)


DOCUMENT_ANOMALY = Stage("document-anomaly", 1, run)
