"""What a recipe for tables or pictures asks of its jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.corruptions.noise import NoiseConfig
from data_prep.corruptions.none import NoneConfig
from data_prep.sources.config import SourceConfig
from training.config import NetworkConfig, ObjectiveConfig, Settings

ArrayCorruption = Annotated[NoneConfig | NoiseConfig, Field(discriminator="kind")]
_SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class CodesConfig(Settings):
    """What codes keep of unseen rows, beside PCA's of the same size; and a map of them."""

    task: Literal["codes"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    neighbours: int = Field(default=15, ge=1, description="Of trustworthiness.")
    rows: int = Field(default=2000, ge=100, description="Most test rows of the maps, for t-SNE takes its time.")


class RestorationConfig(Settings):
    """What a denoising auto-encoder restores, and whether its features are better than the plain one's."""

    task: Literal["restoration"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    others: list[NoiseConfig] = Field(default_factory=list, description="Noise to set beside the recipe's.")
    seeds: int = Field(default=3, ge=1, description="Networks of each kind, trained anew.")


class GenerationConfig(Settings):
    """What a variational auto-encoder knows: its bounds on the likelihood, samples, interpolations, traversals."""

    task: Literal["generation"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    importance_samples: int = Field(default=50, ge=1, description="k of the importance-weighted bound.")
    rows: int = Field(default=2000, ge=1, description="Most test rows whose bounds are taken.")


class DiscreteConfig(Settings):
    """What discrete codes mean, how well they are used, and a prior of them to draw new rows from."""

    task: Literal["discrete"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    prior_steps: int = Field(default=1000, ge=1, description="Steps of the prior's training.")
    prior_lr: float = Field(default=3e-3, gt=0, description="Its peak learning rate.")
    prior_hidden: int = Field(default=128, ge=1, description="Units of its GRU.")


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
    """An auto-encoder that is to tell unusual rows, and which of its scores it is judged by."""

    name: str = Field(pattern=_SLUG, description="Names it in the report.")
    objective: ObjectiveConfig | None = Field(default=None, description="Its loss; null: the recipe's.")
    corruption: ArrayCorruption | None = Field(default=None, description="Noise it learns with; null: the recipe's.")
    networks: list[NetworkConfig] = Field(
        default_factory=list,
        description="Candidates; that which loses least on held-out normal rows is taken. None: the recipe's network.",
    )
    members: int = Field(default=1, ge=1, description="Networks that are averaged, alike but for their seeds.")
    score: Literal["error", "standardised-error", "latent-distance", "error-and-distance", "likelihood"] = Field(
        default="standardised-error", description="See `training.inference.anomaly`; the others are told beside it."
    )
    trim: float = Field(
        default=0.0,
        ge=0,
        description="Leave the most unusual rows out before learning: so many times the job's contamination. 1 is as "
        "many as there are anomalies; more may be better, for not all of them are the most unusual. 0: learn from all.",
    )


class AnomalyConfig(Settings):
    """How well unusual rows are told from normal ones, beside methods without a network on the same splits."""

    task: Literal["anomaly"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    normal: list[str] = Field(
        default_factory=list,
        description="Labels of normal pictures; none: those of data.normal. A table says that in data.table.normal.",
    )
    detectors: list[DetectorConfig] = Field(
        default=[DetectorConfig(name="auto-encoder")], min_length=1, description="Ours; the first is the one shown."
    )
    seeds: int = Field(default=20, ge=1, description="Splits and networks.")
    rows: int = Field(default=50_000, ge=50, description="Most rows of all splits; of more some are drawn.")
    train_share: float = Field(
        default=0.7, gt=0, lt=1, description="Of the normal rows, to learn from and to draw thresholds by."
    )
    threshold_share: float = Field(
        default=0.2, gt=0, lt=1, description="Of those, held out for thresholds and never learned from."
    )
    contamination: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of those rows that are anomalies nobody has marked."
    )
    false_alarms: float = Field(default=0.01, gt=0, lt=1, description="Share of normal rows a threshold may flag.")
    importance_samples: int = Field(default=50, ge=1, description="k of the bound on the likelihood.")
    baselines: list[Baseline] = Field(
        default=["pca", "pca-reconstruction", "iforest", "ecod", "copod", "ocsvm", "knn", "deepsvdd"],
        description="Methods beside ours.",
    )
    marked: list[int] = Field(
        default=[5, 20], description="Anomalies with labels that plain classifiers are given, each number in turn."
    )
    known_kinds: int = Field(
        default=0,
        ge=0,
        description="Kinds of anomalies (their labels) that the marked ones are of, other ones in each split; "
        "the rest is new to classifiers. 0: they are of all kinds.",
    )
    shown: int = Field(default=6, ge=1, description="Most unusual test rows whose reasons are told.")
    note: str = Field(
        default="",
        description="What readers must know of how settings came about; the report says it with the figures.",
    )


class RivalConfig(Settings):
    """A way of training without machines, set beside them."""

    name: str = Field(min_length=1, description="What the curve is called.")
    activation: Literal["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"] = Field(description="Between layers.")
    optimizer: Literal["adamw", "sgd"] = Field(description="What updates the weights.")
    lr: float = Field(gt=0, description="Peak learning rate.")


class CurvesConfig(Settings):
    """Test error over the steps: layer by layer and then all at once, beside the same depth trained all at once."""

    task: Literal["curves"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    ours: str = Field(default="pretrained", description="What the recipe's own curve is called.")
    rivals: list[RivalConfig] = Field(min_length=1, description="Other ways, with as many steps.")


class CompressionConfig(Settings):
    """How many bits a trained compressor needs, and what comes back, beside JPEG, JPEG2000 and WebP."""

    task: Literal["compression"]
    name: str = Field(pattern=_SLUG, description="Names the job in reports and keys.")
    pictures: list[SourceConfig] = Field(
        min_length=1, description="Test pictures, whole and of any size, none of which was trained on."
    )
    distortion_weights: list[float] = Field(
        default_factory=list, description="More λ: a codec is trained for each, by the recipe's budget."
    )
    shown: int = Field(default=3, ge=1, description="Pictures in the figure.")


ArrayJob = Annotated[
    CodesConfig
    | RestorationConfig
    | GenerationConfig
    | DiscreteConfig
    | CurvesConfig
    | AnomalyConfig
    | CompressionConfig,
    Field(discriminator="task"),
]
