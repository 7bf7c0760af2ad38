"""The job `document-anomaly`: how well unusual documents are told by the surprisal of the masked LM, without labels.

    test documents ─► passages ─┬─► as they are                             normal
                                ├─► words in another order                  unusual, and of the same words
                                ├─► words replaced                          unusual, of words as frequent
                                └   documents of another kind               unusual, of other words

    validation documents ─► passages ─► thresholds, and what drift is measured against

Three scores of ours stand beside the methods of `baselines`, on the same documents:

    surprisal      mean −log p: negative pseudo-log-likelihood per token (Salazar et al. 2020). The detector's.
    excess         surprisal minus what the network expects it to be in each place: names and numbers are no news
    over-unigram   surprisal minus that by frequency alone (after Ren et al. 2019): rare words are no news

Nothing is fitted to an anomaly, and the network has met neither the validation documents nor the test ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.text.documents import TEXT
from pipeline.downstream.config import JobConfig, Problem, kind_problems, length_problems, objective_problems

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "corpus")
NORMAL, SHUFFLED, REPLACED = "normal", "shuffled words", "replaced words"  # kinds of documents
Baseline = Literal["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"]


class Config(JobConfig):
    """How well unusual documents are told by the surprisal of the masked LM, beside methods that see no order."""

    task: Literal["document-anomaly"] = Field(description="Which job it is.")
    words: int | None = Field(
        default=100,
        ge=5,
        description="Held-out documents are cut at ends of sentences into passages of about so many words, which are "
        "what is scored; null: whole documents.",
    )
    documents: int = Field(default=300, ge=20, description="Most normal ones of a draw; as many of each anomaly.")
    draws: int = Field(default=3, ge=1, description="Of other held-out documents, and other changes to them.")
    replaced: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Share of words replaced, by words as frequent as those of training documents; 0: no such "
        "anomalies.",
    )
    others: list[SourceConfig] = Field(
        default_factory=list, description="Documents of another kind, each source an anomaly of its own."
    )
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="k: every k-th token is masked at once, k times; null: as near the rate of training as it gets.",
    )
    length: int | None = Field(
        default=None, ge=8, description="Tokens of a window, specials included; null: as many as training rows have."
    )
    false_alarms: float = Field(default=0.01, gt=0, lt=1, description="Share of normal ones a threshold may flag.")
    threshold_documents: int = Field(
        default=2000, ge=20, description="Most validation documents, by which thresholds are drawn."
    )
    train_documents: int = Field(default=10_000, ge=20, description="Most training documents that baselines learn by.")
    baselines: list[Baseline] = Field(
        default=["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"],
        description="Methods beside ours.",
    )
    shown: int = Field(default=4, ge=1, description="Documents whose most surprising words are named.")


def name_of(source: SourceConfig) -> str:
    """What documents from elsewhere are called: their corpus, their package, or the last part of their path."""
    return source.corpus or source.package or (source.path or "").rstrip("/").rpartition("/")[2]


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A masked LM of text, held-out documents, and other documents that can be told apart."""
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
    yield from length_problems(recipe, job, job.length)


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """What the job left to the recipe, how its documents are read, and a digest of those from elsewhere."""
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


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Score test documents, and the same made unusual; leave a detector for new documents in `detector/`.

    inputs: `pretrained`, whose `model/` is a masked LM with its tokenizer; `corpus`, documents in three splits.
    Scores are in nats per token (Salazar et al. 2020), higher for the more unusual; figures are AUROC,
    average precision and recall at the asked share of false alarms, in 0 … 1, by kind of anomaly. UserError where there
    are too few documents for a threshold or for the draws.
    """
    from pipeline.downstream.document_anomaly.trial import Trial

    return Trial(job, settings, inputs, context).run(out_dir)
