"""The job `document-anomaly`: detection of unusual documents by the masked LM's surprisal, without labels.

    test documents ─► passages ─┬─► as they are                             normal
                                ├─► words in another order                  unusual, and of the same words
                                ├─► words replaced                          unusual, of words as frequent
                                └   documents of another kind               unusual, of other words

    validation documents ─► passages ─► thresholds, and the baseline of drift

Our three scores are compared with the methods of `baselines` on the same documents:

    surprisal      mean −log p: negative pseudo-log-likelihood per token (Salazar et al. 2020). The detector's.
    excess         surprisal minus its expectation under the network at each position: discounts names and numbers
    over-unigram   surprisal minus that by token frequency (after Ren et al. 2019): discounts rare words

Nothing is fitted to anomalies, and the network has seen neither validation nor test documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.text.documents import TEXT
from pipeline.downstream.config import (
    JobConfig,
    Problem,
    kind_problems,
    length_problems,
    objective_problems,
    split_problems,
)

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 2
READS = ("pretrained", "corpus")
LEAST = 10  # documents that a figure is worth
NORMAL, SHUFFLED, REPLACED = "normal", "shuffled words", "replaced words"  # kinds of documents
Baseline = Literal["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"]


class Config(JobConfig):
    """Detection of unusual documents by the masked LM's surprisal, compared with baselines."""

    task: Literal["document-anomaly"]
    """Which job it is."""
    words: int | None = Field(default=100, ge=5)
    """Approximate length, in words, of the passages that are scored; held-out documents are cut at ends of sentences.
    null: whole documents are scored."""
    documents: int = Field(default=300, ge=20)
    """Maximum number of normal documents in a draw, and of anomalies of each kind."""
    draws: int = Field(default=3, ge=1)
    """Number of repetitions, each with other held-out documents and other changes to them."""
    replaced: float = Field(default=0.15, ge=0, le=1)
    """Share of a document's words that are replaced by words drawn from training documents; 0: no such anomalies."""
    others: list[SourceConfig] = Field(default_factory=list)
    """Documents of other kinds; each source is a kind of anomaly."""
    rounds: int | None = Field(default=None, ge=1)
    """Number of rounds, k, each of which masks every k-th token; null: 1 / the corruption rate of training, rounded."""
    length: int | None = Field(default=None, ge=8)
    """Maximum length of a window in tokens, including special tokens; null: that of training rows."""
    false_alarms: float = Field(default=0.01, gt=0, lt=1)
    """Share of normal documents that a threshold may flag."""
    threshold_documents: int = Field(default=2000, ge=20)
    """Maximum number of validation documents to choose thresholds by."""
    train_documents: int = Field(default=10_000, ge=20)
    """Maximum number of training documents for baselines."""
    baselines: list[Baseline] = Field(default=["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"])
    """Methods to compare with."""
    shown: int = Field(default=4, ge=1)
    """Number of documents whose most surprising words are listed."""


def name_of(source: SourceConfig) -> str:
    """The name of a source: its corpus, its package, or the last part of its path."""
    return source.corpus or source.package or (source.path or "").rstrip("/").rpartition("/")[2]


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A masked LM of text, held-out documents, and other sources with distinct names."""
    wrong_kind = list(kind_problems(recipe, job, ("text",)))
    if wrong_kind:
        yield from wrong_kind
        return
    yield from objective_problems(recipe, job, "masked-lm")
    for split, use in (("validation", "to draw thresholds by"), ("test", "to test on")):
        if getattr(recipe.data.split, split) == 0:
            yield f"data.split.{split}", f"{job.name!r} needs held-out documents {use}; set it above 0"
    others = [name_of(source) for source in job.others]
    for place, name in enumerate(others):
        if name in [NORMAL, SHUFFLED, REPLACED, *others[:place]]:
            yield f".others.{place}", f"another kind is called {name!r}, too; give it a corpus"
    yield from split_problems(job.others, "others")
    yield from length_problems(recipe, job.length)


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """Values that the job leaves to the recipe, how documents are read, and a digest of the other documents."""
    longer, fields = recipe.train.longer, {source.text_field for source in recipe.data.sources}
    length = job.length or (longer.length if longer else recipe.compose.length)
    elsewhere = {"snapshot": digest(snapshot(job.others, TEXT), downloads)} if job.others else {}
    return {
        "job": {"length": length, "rounds": job.rounds or max(1, round(1 / recipe.corruption.rate))},
        "clean": recipe.data.clean.model_dump(mode="json"),
        "text_field": fields.pop() if len(fields) == 1 else "text",
        **elsewhere,
        "seed": recipe.seed,
    }


def check_inputs(job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact]) -> None:
    """UserError where too few documents are held out for a threshold or for the draws."""
    from data_prep.text.passages import of_split

    corpus, seed = inputs["corpus"].path, settings["seed"]
    validation = of_split(corpus, "validation", job.words, LEAST, seed)
    if len(validation) < LEAST:
        raise UserError(
            f"downstream.{job.name}: {len(validation)} validation documents are too few to draw a threshold by; "
            "raise data.split.validation, or lower words."
        )
    check_draws(job, "test documents", len(of_split(corpus, "test", job.words, LEAST * job.draws, seed)))


def check_draws(job: Config, whose: str, num_documents: int, left_out: str = "") -> None:
    """UserError where documents are too few for the draws. left_out: what of them was not read."""
    if num_documents < LEAST * job.draws:
        why = f" ({left_out})" if left_out else ""
        raise UserError(
            f"downstream.{job.name}: {num_documents} {whose} are too few for {job.draws} draws of {LEAST}{why}; lower "
            "draws or words, or give more."
        )


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Score test documents and modified ones; export a detector for new documents to `detector/`.

    inputs: `pretrained`, whose `model/` is a masked LM with its tokenizer; `corpus`, documents in three splits.
    Scores are in nats per token (Salazar et al. 2020), higher for more unusual documents; metrics are AUROC, average
    precision and recall at the given share of false alarms, in 0 … 1, by kind of anomaly. UserError where documents
    of `others` are too few for the draws.
    """
    from pipeline.downstream.document_anomaly.trial import Trial

    return Trial(job, settings, inputs, context).run(out_dir)
