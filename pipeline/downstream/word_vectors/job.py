"""The job `word-vectors`: whether words that people find alike have like vectors, and which are nearest to which.

    pairs with scores of people   ─► Spearman's correlation with cosines          (WordSim-353, SimLex-999)
    a is to b as c is to …        ─► the nearest to b − a + c, of unit vectors    (3CosAdd, Mikolov et al. 2013)
    words                         ─► their nearest neighbours, for people to judge

A pair or question with a word that has no vector is left out, as word2vec.c and gensim do, and is counted. An answer is
one of the `restrict` most frequent words, and none of a, b and c. Lists are files of yours, or those of a package of a
pinned version and digest: `similarity: [wordsim-353, simlex-999]`, `analogies: [questions-words]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.sources import packages
from pipeline.downstream.config import JobConfig, Problem, kind_problems
from pipeline.downstream.word_vectors import lists
from training.models.text.word_vectors.config import ARCHITECTURE

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained",)


class Config(JobConfig):
    """Similarities, analogies and neighbours of word vectors."""

    task: Literal["word-vectors"]
    """Which job it is."""
    similarity: list[str] = Field(default_factory=list)
    """Files with pairs of words and scores of people; or wordsim-353 and simlex-999, which are fetched."""
    analogies: list[str] = Field(default_factory=list)
    """Files with analogies, in the format of word2vec.c's; or questions-words, which is fetched."""
    restrict: int = Field(default=30_000, ge=4)
    """Number of most frequent words that analogies ask about and are answered with."""
    words: list[str] = Field(default_factory=list)
    """Words whose neighbours are shown; empty: some of each frequency."""
    neighbours: int = Field(default=8, ge=1)
    """Number of neighbours that are shown."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A table of word vectors."""
    yield from kind_problems(recipe, job, ("text",))
    if recipe.network is not None and recipe.network.architecture != ARCHITECTURE:
        text = f"{job.name!r} asks vectors of words, and {recipe.network.architecture!r} is no table of them"
        yield "network.architecture", f"{text}; leave the job out"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """Digests of the lists. They are read, too: UserError, before anything is trained, if one cannot serve."""
    from pipeline.fingerprint import file_digest

    contents = {}
    for names, reader in ((job.similarity, lists.read_pairs), (job.analogies, lists.read_analogies)):
        for name in names:
            if lists.is_packaged(name):  # not fetched to plan
                contents[name] = packages.lookup(lists.PACKAGE).sha256
                continue
            path = Path(name).expanduser()
            reader(path)
            contents[name] = file_digest(path)
    return {"contents": contents}


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """inputs: `pretrained`, whose `model/` holds word vectors. Correlations in −1 … 1, accuracies in 0 … 1.

    UserError where a list has no pair or question that can be asked.
    """
    from pipeline.artifact import MODEL
    from pipeline.downstream.word_vectors import report
    from pipeline.downstream.word_vectors.measures import Vectors

    named = [*job.similarity, *job.analogies]
    licences = [lists.licence()] if any(map(lists.is_packaged, named)) else []
    fetched = {
        what: [str(lists.path_of(name, context.downloads)) for name in getattr(job, what)]
        for what in ("similarity", "analogies")
    }
    measured = report.build(job.model_copy(update=fetched), Vectors.of_folder(inputs["pretrained"].path / MODEL))
    return replace(measured, licences=licences)
