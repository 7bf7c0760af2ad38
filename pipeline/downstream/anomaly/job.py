"""The job `anomaly`: detection of unusual rows and images by auto-encoders, compared with baselines.

For every seed, rows are drawn (`rows`) and scaled by the training rows, and every method is fitted and scored on the
same test rows, so that differences are paired. No anomaly is used for choices: settings are the recipe's for all seeds
(its `note` says how they were found), and candidates and thresholds are chosen by held-out normal rows. Binary
classifiers, which get a few labelled anomalies, show what labels are worth.

Baselines learn from all rows given as normal; our networks hold out `threshold_share` of them for thresholds.

Without labels, all rows count as normal. Without anomalies there is no AUROC and nothing to compare methods by; the
report then tells the shares of rows flagged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from data_prep.corruptions.noise import NoiseConfig
from data_prep.corruptions.none import NoneConfig
from data_prep.kinds import kind_of
from data_prep.settings import Settings
from pipeline.downstream.config import JobConfig, Problem, kind_problems, training_settings
from pipeline.slug import SLUG
from training.config import NetworkConfig, ObjectiveConfig
from training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 3
Noise = Annotated[NoneConfig | NoiseConfig, Field(discriminator="kind")]
READS = ("corpus", "preprocessor", "shards")
MOST_TRIMMED = 0.5  # of the rows

Baseline = Literal[
    "pca",
    "pca-reconstruction",
    "iforest",
    "ecod",
    "copod",
    "ocsvm",
    "knn",
    "deepsvdd",
    "pyod-autoencoder",
    "pyod-vae",
]


class DetectorConfig(Settings):
    """An auto-encoder as a detector, and which of its scores is used."""

    name: str = Field(pattern=SLUG)
    """Names it in the report."""
    objective: ObjectiveConfig | None = None
    """Its loss; null: the recipe's."""
    corruption: Noise | None = None
    """Noise in its training; null: the recipe's."""
    networks: list[NetworkConfig] = Field(default_factory=list)
    """Candidates; the lowest loss on held-out normal rows wins. Empty: the recipe's network."""
    members: int = Field(default=1, ge=1)
    """Number of networks whose scores are averaged; they differ in their seeds."""
    score: Literal["error", "standardised-error", "latent-distance", "error-and-distance", "likelihood"] = (
        "standardised-error"
    )
    """Score that detects anomalies, see `training.inference.anomaly`; the report has the others, too."""
    trim: float = Field(default=0.0, ge=0)
    """Share of the rows left out as most unusual before training, as a multiple of the job's contamination; above 1 may
    help, since not all anomalies are the most unusual rows. 0: learn from all."""


class Config(JobConfig):
    """Detection of unusual rows, compared with baselines on the same splits."""

    task: Literal["anomaly"]
    """Which job it is."""
    normal: list[str] = Field(default_factory=list)
    """Labels of normal images; empty: those of data.normal. For a table, data.table.normal applies."""
    detectors: list[DetectorConfig] = Field(default=[DetectorConfig(name="auto-encoder")], min_length=1)
    """Our detectors; the report shows the first in detail."""
    seeds: int = Field(default=20, ge=1)
    """Number of splits, each with new networks."""
    rows: int = Field(default=50_000, ge=50)
    """Maximum number of rows, over all splits of the corpus; of more, as many are drawn."""
    train_share: float = Field(default=0.7, gt=0, lt=1)
    """Share of the normal rows to learn from and to choose thresholds by; the others are test rows."""
    threshold_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of these rows that networks hold out for thresholds and do not learn from."""
    contamination: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of unlabelled anomalies among the rows to learn from and to choose thresholds by."""
    false_alarms: float = Field(default=0.01, gt=0, lt=1)
    """Share of normal rows that a threshold may flag."""
    importance_samples: int = Field(default=50, ge=1)
    """Number of samples, k, of the importance-weighted bound on the likelihood."""
    baselines: list[Baseline] = Field(
        default=["pca", "pca-reconstruction", "iforest", "ecod", "copod", "ocsvm", "knn", "deepsvdd"]
    )
    """Methods to compare with."""
    marked: list[int] = Field(default=[5, 20])
    """Numbers of labelled anomalies that binary classifiers get."""
    known_kinds: int = Field(default=0, ge=0)
    """Number of kinds (labels) among the labelled anomalies, other kinds in each split; classifiers have not seen the
    remaining kinds. 0: all kinds."""
    shown: int = Field(default=6, ge=1)
    """Number of most unusual test rows that the report explains."""
    note: str = ""
    """How settings were found, printed in the report."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Arrays, normal labels if there are any, objectives that fit the scores, labelled anomalies for known kinds."""
    wrong_kind = list(kind_problems(recipe, job, ("table", "images")))
    if wrong_kind:
        yield from wrong_kind
        return
    if job.normal and not hasattr(recipe.data, "normal"):
        yield ".normal", f"names labels of images; set data.{recipe.data.kind}.normal, and leave it out"
    elif not job.normal and (remedy := kind_of(recipe.data.kind).lacks_normal(recipe.data)):
        yield ".task", f"which labels are normal is not known; {remedy} if all rows are"
    if job.known_kinds and not job.marked:
        yield ".known_kinds", "is of marked anomalies, and none are; set marked, or leave it out"
    names = [detector.name for detector in job.detectors]
    for index, detector in enumerate(job.detectors):
        where = f".detectors.{index}"
        if detector.name in names[:index]:
            yield f"{where}.name", f"two detectors are called {detector.name!r}; rename one"
        loss = (detector.objective or recipe.objective).name
        if detector.trim * job.contamination > MOST_TRIMMED:
            highest = MOST_TRIMMED / job.contamination
            yield f"{where}.trim", f"leaves out more than {MOST_TRIMMED:.0%} of the rows; choose at most {highest:.3g}"
        if detector.score == "likelihood" and not OBJECTIVES[loss].likelihood:
            with_one = " or ".join(name for name, entry in OBJECTIVES.items() if entry.likelihood)
            yield f"{where}.score", f"likelihood is of objective {with_one}, found {loss}; choose standardised-error"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """Settings of training, the transform of a table, and which labels of images are normal."""
    return {
        "job": {"normal": job.normal or getattr(recipe.data, "normal", [])},
        **training_settings(recipe),
        "transform": getattr(recipe.data, "transform", None) and recipe.data.transform.model_dump(mode="json"),
    }


def check_inputs(job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact]) -> None:
    """UserError where labels do not say what is normal, or rows are too few for a split."""
    from pipeline.downstream.anomaly.rows import Pool

    pool = Pool(inputs["corpus"].path, job, settings["seed"])
    for number in range(job.seeds):
        pool.draw(number)


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Test all detectors on `seeds` splits; export the first one, trained once more, to `detector/`.

    inputs: `corpus`, typed rows of a table or images uint8 [N, C, H, W] with labels; `shards`, the same rows in splits
    as network inputs; `preprocessor`, the transform of a table.
    Scores are higher for more unusual rows; metrics are AUROC, average precision (step-wise) and recall at the given
    share of false alarms, in 0 … 1, over the splits. UserError where labels do not say
    what is normal, or rows are too few for a split. One-class training as in Ruff et al. 2018, section 2.
    """
    from pipeline.downstream.anomaly.splits import evaluate

    return evaluate(job, settings, inputs, out_dir, context)
