"""Runs a job `document-anomaly`: reads documents and scores them by the network and baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corpus.documents import Corpus
from data_prep.text import passages
from data_prep.text.clean import CleanConfig
from data_prep.text.passages import WORD, Passage, changed, replacing, shuffling
from data_prep.tokens.corpus import TokenCorpus
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.anomaly.measures import Measurements
from pipeline.downstream.document_anomaly import baselines as document_baselines
from pipeline.downstream.document_anomaly.baselines import ScoreFunction, TokenisedDocuments, Unigram
from pipeline.downstream.document_anomaly.job import NORMAL, REPLACED, SHUFFLED, Config, check_draws, name_of
from pipeline.downstream.document_anomaly.report import EXCESS, OVER_UNIGRAM, SURPRISAL, FirstDraw, build
from pipeline.reports.report import Report
from pipeline.scoring import thresholds, training_rows
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.document_detector import TOKENS, DocumentDetector, Texts
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.stage import Context
from training.distributed import choose_device, set_up_cpu
from training.inference.pseudo_likelihood import PseudoLikelihood, Surprisals, by_document

NAMED = 6  # words of a document


class ScoredDocuments(NamedTuple):
    """Documents and their scores by method, each float64 [D]."""

    tokens: TokenCorpus
    surprisals: Surprisals
    scores: dict[str, np.ndarray]


Draw = tuple[list[Passage], dict[str, list[Passage]]]
"""Normal documents, and unusual ones by kind."""


class Trial:
    """A job with its inputs."""

    def __init__(self, job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
        if job.length is None or job.rounds is None:
            raise ValueError("the length of windows and the number of rounds come from `settings`")
        self.job, self.length, self.rounds = job, job.length, job.rounds
        self.context, self.seed, self.text_field = context, settings["seed"], settings["text_field"]
        self.corpus, self.model = inputs["corpus"].path, inputs["pretrained"].path / MODEL
        placement = context.one_worker
        set_up_cpu(placement.threads)
        self.device = choose_device(placement.device)
        self.texts = Texts(CleanConfig.model_validate(settings["clean"]), self.model)
        self.max_rejects: int | float = settings["clean"]["max_rejects"]
        self.network = self._network()

    def _network(self, random: int | None = None) -> PseudoLikelihood:
        return PseudoLikelihood.open(self.model, self.length, self.rounds, self.device, random)

    def run(self, out_dir: Path) -> Report:
        """Carry out the job; figures and the detector go to `out_dir`."""
        job, progress = self.job, self.context.progress
        progress("reading documents")
        validation = self._validation()
        pools, left_out = self._pools()
        train = passages.of_split(self.corpus, "train", job.words, job.train_documents, self.seed)
        progress("fitting baselines")
        baselines = self._baselines(train)
        progress("scoring validation documents")
        held_out = self._scored(validation, {})
        detector = self._detector(held_out)
        by_tail = thresholds.by_tail(held_out.scores[SURPRISAL], job.false_alarms).value
        limits = {"by quantile": detector.threshold, "by tail": by_tail}
        measured, shown = self._measured(pools, train, baselines, detector, limits)
        learned_from = [training_rows.of_documents(Corpus(self.corpus, split)) for split in ("train", "validation")]
        training_rows.save(out_dir / DETECTOR, np.concatenate(learned_from))
        detector.save(out_dir / DETECTOR)
        return build(job, measured, shown, {"training": train, "validation": validation}, left_out, out_dir)

    def _measured(
        self,
        pools: Mapping[str, list[Passage]],
        train: list[Passage],
        baselines: Mapping[str, ScoreFunction],
        detector: DocumentDetector,
        limits: Mapping[str, float],
    ) -> tuple[dict[str, Measurements], FirstDraw]:
        """Metrics of all draws by kind of anomaly, and the first draw. limits: thresholds by name."""
        job, measured = self.job, dict[str, Measurements]()
        shown: list[FirstDraw] = []
        for number, (normal, odd) in enumerate(self._draws(pools, train)):
            scored: dict[str, ScoredDocuments] = {}
            for index, (kind, documents) in enumerate({NORMAL: normal, **odd}.items()):
                share = (number + index / (1 + len(odd))) / job.draws
                self.context.progress(f"draw {number + 1} of {job.draws}: {kind}", share)
                scored[kind] = self._scored(documents, baselines)
            usual = scored.pop(NORMAL)
            for kind, unusual in scored.items():
                of_kind = measured.setdefault(kind, Measurements(job.false_alarms))
                _measure(of_kind, usual.scores, unusual.scores, limits)
            if not shown:
                shown.append(_shown(detector, normal, usual, odd, scored, limits, job.shown))
        return measured, shown[0]

    def _baselines(self, train: list[Passage]) -> dict[str, ScoreFunction]:
        read, vocabulary = self._read(train), self.network.specials.vocabulary
        self.unigram = Unigram(read.tokens, vocabulary)
        random = self._network(self.seed) if "random-network" in self.job.baselines else None
        return document_baselines.fit(self.job.baselines, read, vocabulary, random, self.seed)

    def _validation(self) -> list[Passage]:
        job = self.job
        return passages.of_split(self.corpus, "validation", job.words, job.threshold_documents, self.seed)

    def _detector(self, held_out: ScoredDocuments) -> DocumentDetector:
        """The detector, with a threshold from the validation documents."""
        columns = {SCORE: held_out.scores[SURPRISAL], TOKENS: by_document(held_out.tokens).lengths}
        threshold = thresholds.by_quantile(columns[SCORE], self.job.false_alarms).value
        baseline = Baseline.of(columns)
        return DocumentDetector(
            self.network, self.model, self.texts, threshold, baseline, self.text_field, self.job.words
        )

    def _pools(self) -> tuple[dict[str, list[Passage]], dict[str, str]]:
        """Documents to draw from by kind, test documents and those of other sources; what of these was left out."""
        job, limit = self.job, self.job.documents * self.job.draws
        left_out: dict[str, str] = {}
        pools = {NORMAL: passages.of_split(self.corpus, "test", job.words, limit, self.seed)}
        for source in job.others:
            cleaner, downloads = self.texts.cleaner, self.context.downloads
            read = passages.of_source(source, cleaner, self.max_rejects, job.words, limit, self.seed, downloads)
            pools[name_of(source)] = read.passages
            if read.left_out:
                left_out[name_of(source)] = read.left_out
        for name, documents in pools.items():
            if name != NORMAL:
                check_draws(job, f"documents of {name}", len(documents), left_out.get(name, ""))
        return pools, left_out

    def _draws(self, pools: Mapping[str, list[Passage]], train: list[Passage]) -> Iterator[Draw]:
        """Draws of different test documents, and modified versions of them."""
        job, seed = self.job, self.seed
        words = [word for passage in train for sentence in passage.sentences for word in WORD.findall(sentence)]
        for number in range(job.draws):
            documents_of = {name: documents[number :: job.draws] for name, documents in pools.items()}
            normal = documents_of.pop(NORMAL)
            odd = {SHUFFLED: changed(normal, shuffling(seed, number))}
            if job.replaced:
                odd[REPLACED] = changed(normal, replacing(seed, number, job.replaced, words))
            yield normal, {**odd, **documents_of}

    def _read(self, documents: Sequence[Passage]) -> TokenisedDocuments:
        tokens = self.texts.tokens([document.sentences for document in documents])
        return TokenisedDocuments([document.text for document in documents], tokens)

    def _scored(self, documents: Sequence[Passage], baselines: Mapping[str, ScoreFunction]) -> ScoredDocuments:
        """Our scores and the baselines'. Every document has a word, and so a token."""
        read = self._read(documents)
        surprisals = self.network.surprisals(read.tokens)
        scores = {SURPRISAL: surprisals.mean(), EXCESS: surprisals.excess()}
        scores[OVER_UNIGRAM] = scores[SURPRISAL] - self.unigram(read)
        return ScoredDocuments(
            read.tokens, surprisals, scores | {name: score(read) for name, score in baselines.items()}
        )


def _measure(
    measured: Measurements,
    usual: Mapping[str, np.ndarray],
    unusual: Mapping[str, np.ndarray],
    limits: Mapping[str, float],
) -> None:
    """Add scores of normal and of unusual documents, by method."""
    scores = {name: np.concatenate([normal, unusual[name]]) for name, normal in usual.items()}
    truth = np.repeat([False, True], [len(usual[SURPRISAL]), len(unusual[SURPRISAL])])
    measured.add(scores, truth)
    measured.base_rates.append(float(truth.mean()))
    for how, threshold in limits.items():
        measured.flag(SURPRISAL, how, threshold, scores[SURPRISAL], truth)


def _shown(
    detector: DocumentDetector,
    normal: list[Passage],
    usual: ScoredDocuments,
    odd: Mapping[str, list[Passage]],
    unusual: Mapping[str, ScoredDocuments],
    limits: Mapping[str, float],
    count: int,
) -> FirstDraw:
    """The most unusual documents of each kind, with their words."""

    def described(kind: str, documents: list[Passage], scored: ScoredDocuments, number: int) -> dict[str, Any]:
        return {
            "document": documents[number].name,
            "kind": kind,
            "score": float(scored.scores[SURPRISAL][number]),
            "words": detector.words(scored.tokens, scored.surprisals, number),
            "reasons": detector.reasons(scored.tokens, scored.surprisals, number, NAMED),
        }

    most_unusual = [
        described(kind, documents, scored, number)
        for kind, documents, scored in [(NORMAL, normal, usual), *((kind, odd[kind], unusual[kind]) for kind in odd)]
        for number in np.argsort(-scored.scores[SURPRISAL], kind="stable")[:count].tolist()
    ]
    scores = {kind: scored.scores[SURPRISAL] for kind, scored in unusual.items()}
    return FirstDraw(usual.scores[SURPRISAL], scores, dict(limits), most_unusual)
