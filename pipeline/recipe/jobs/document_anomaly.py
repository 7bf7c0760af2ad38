"""What a recipe for text asks of jobs that need no labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data_prep.sources.config import SourceConfig
from training.config import Settings

_SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"

NORMAL, SHUFFLED, REPLACED = "normal", "shuffled words", "replaced words"  # kinds of documents
DocumentBaseline = Literal["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"]


class DocumentAnomalyConfig(Settings):
    """How well unusual documents are told by the surprise of the masked LM, beside methods that see no order."""

    task: Literal["document-anomaly"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
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
    baselines: list[DocumentBaseline] = Field(
        default=["unigram", "tf-idf-knn", "tf-idf-iforest", "random-network", "length"],
        description="Methods beside ours.",
    )
    shown: int = Field(default=4, ge=1, description="Documents whose most surprising words are told.")


def name_of(source: SourceConfig) -> str:
    """What documents from elsewhere are called: their corpus, their package, or the last part of their path."""
    return source.corpus or source.package or (source.path or "").rstrip("/").rpartition("/")[2]
