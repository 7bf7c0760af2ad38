"""Typed settings of training, without torch: recipes import these to check themselves in a blink.

`TrainConfig`, `NetworkConfig` and `ObjectiveConfig` change what is learned and so are part of a run's identity;
`PlacementConfig` says where and how fast, and never is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_prep.corrupt import MaskingConfig
from data_prep.order import mixing_weights

Scalar = bool | int | float | str


# In these, tokens meet in full attention alone and positions can be given: a sequence learns nothing of its neighbours
# in a row. tests/training/test_packed.py shows it of each. Not so where tokens meet in convolutions or windows.
PACKABLE = {"bert", "albert", "camembert", "distilbert", "electra", "ernie", "mpnet", "roberta", "xlm-roberta"}


class Settings(BaseModel):
    """Base of all settings: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


class NetworkConfig(Settings):
    """A network of `transformers`, by its model type and the keyword arguments of its config."""

    architecture: str = Field(default="bert", description="Model type known to transformers.")
    config: dict[str, Scalar | list[Scalar] | None] = Field(
        default_factory=dict, description="Keyword arguments of that architecture's config class."
    )


class ObjectiveConfig(Settings):
    """What the network learns from each example."""

    name: str = Field(default="masked-lm", description="Name of an objective.")
    options: dict[str, Scalar] = Field(default_factory=dict, description="That objective's own.")


class OrderConfig(Settings):
    """How the order of samples is shuffled; see `data_prep.order`."""

    block: int = Field(default=64, ge=1, description="Consecutive rows that stay together on disk.")
    window: int = Field(default=1024, ge=1, description="Blocks whose rows are mixed together.")
    temperature: float = Field(
        default=1.0, ge=0, le=1, description="A part of a mixture gets a share ∝ rows to this power; 1: as it is."
    )
    weights: dict[str, float] = Field(default_factory=dict, description="Instead: the share of each part.")
    epochs: dict[str, float] = Field(
        default_factory=dict, description="Instead: how often each part is read while a part of 1 is read once."
    )

    def shares(self, rows: dict[str, int]) -> dict[str, float]:
        """The weight of each part of a mixture, by its number of rows."""
        if self.weights:
            return {part: self.weights[part] for part in rows}
        if self.epochs:
            return {part: count * self.epochs[part] for part, count in rows.items()}
        return dict(zip(rows, mixing_weights(list(rows.values()), self.temperature), strict=True))


class LongerConfig(Settings):
    """The last part of training on longer rows (BERT: 90 % of the steps at 128 tokens, then 10 % at 512)."""

    length: int = Field(ge=8, description="Most tokens of a row in that part.")
    share: float = Field(default=0.1, gt=0, lt=1, description="Of the steps.")
    max_predictions: int = Field(default=77, ge=1, description="corruption.max_predictions of those rows.")

    def corruption(self, usual: MaskingConfig) -> MaskingConfig:
        """How those rows are corrupted, given how the others are."""
        return usual.model_copy(update={"max_predictions": self.max_predictions})


class TrainConfig(Settings):
    """One training run: its budget, optimizer and rhythm."""

    global_batch: int = Field(default=256, ge=1, description="Rows per optimizer step, all workers.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    lr: float = Field(default=1e-4, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False, description="AdamW's.")
    eps: float = Field(default=1e-6, gt=0, description="AdamW's epsilon (BERT: 1e-6).")
    weight_decay: float = Field(default=0.01, ge=0, description="Not on biases or norms.")
    clip: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0 switches it off.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="Shape of the learning rate after warm-up."
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear warm-up.")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="auto", description="auto: bf16 where the hardware computes it natively."
    )
    evaluate_every: int = Field(default=0, ge=0, description="Steps; 0: only at the end.")
    evaluate_rows: int = Field(default=2048, ge=1, description="Held-out rows per evaluation.")
    log_every: int = Field(default=10, ge=1, description="Steps between logged records.")
    longer: LongerConfig | None = Field(default=None, description="Longer rows for the last steps.")

    @property
    def longer_from(self) -> int:
        """First step on longer rows; the number of steps where there are none."""
        return self.steps - (round(self.steps * self.longer.share) if self.longer else 0)


class PlacementConfig(Settings):
    """Where and how fast a run happens. Nothing here changes what is learned."""

    workers: int = Field(default=1, ge=1, description="Training processes.")
    zero: Literal[0, 1, 2, 3] | None = Field(default=None, description="DeepSpeed ZeRO stage; null: plain PyTorch.")
    micro_batch: int | None = Field(
        default=None, ge=1, description="Most rows a worker takes at once; null: all of its share."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to compute.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads per worker; null: cores / workers.")
    offload_optimizer: Literal["cpu"] | None = Field(
        default=None, description="Keep optimizer state in host memory (ZeRO 2 or 3)."
    )
    offload_parameters: Literal["cpu"] | None = Field(
        default=None, description="Keep parameters in host memory (ZeRO 3)."
    )
    activation_checkpointing: bool = Field(default=False, description="Recompute activations instead of keeping them.")
    compile: bool = Field(default=False, description="torch.compile the networks.")
    checkpoint_every: int = Field(default=0, ge=0, description="Steps; 0: only at the end.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoints kept.")
    data_workers: int | None = Field(default=None, ge=1, description="Processes that prepare data; null: one a core.")
    shard_cache_gb: float = Field(
        default=64.0, gt=0, description="Disk that a machine spends on shards of a remote store, in GB."
    )
    ray_address: str | None = Field(
        default=None, description="Ray cluster to join; null: one started here when needed."
    )
    resources_per_worker: dict[str, float] = Field(
        default_factory=dict, strict=False, description="Ray resources; default one CPU (or GPU)."
    )
    max_failures: int = Field(default=3, ge=0, description="Restarts of a lost worker group.")
