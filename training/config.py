"""Typed settings of training, without torch: recipes import these to check themselves quickly.

`TrainConfig`, `NetworkConfig` and `ObjectiveConfig` change what is learned and so are part of a run's identity;
`PlacementConfig` says where and how fast, and never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from data_prep.errors import UserError
from data_prep.shards.order import mixing_weights

Scalar = bool | int | float | str
C = TypeVar("C", bound=BaseModel)


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
    """What the network learns from each example.

    The base of the sections that `training.objectives.section_of` makes, one for each objective, whose `options` are
    typed; in this one they are plain values.
    """

    name: str = Field(description="Name of an objective.")
    options: Any = Field(default_factory=dict, description="Options of that objective.")


class OrderConfig(Settings):
    """How the order of samples is shuffled; see `data_prep.shards.order`."""

    block: int = Field(default=64, ge=1, description="Consecutive rows that stay together on disk.")
    window: int = Field(default=1024, ge=1, description="Blocks whose rows are mixed together.")
    length_window: int | None = Field(
        default=None, ge=1, description="Batches whose rows are regrouped by length, to pad less; null: as drawn."
    )
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
            return {name: self.weights[name] for name in rows}
        if self.epochs:
            return {name: count * self.epochs[name] for name, count in rows.items()}
        return dict(zip(rows, mixing_weights(list(rows.values()), self.temperature), strict=True))


class LongerConfig(Settings):
    """The last part of training on longer rows (BERT: 90 % of the steps at 128 tokens, then 10 % at 512)."""

    length: int = Field(ge=8, description="Most tokens of a row in that part.")
    share: float = Field(default=0.1, gt=0, lt=1, description="Of the steps.")
    max_predictions: int | None = Field(
        default=None, ge=1, description="corruption.max_predictions of those rows; null: as of the others."
    )

    def corruption(self, usual: C) -> C:
        """How those rows are corrupted, given how the others are.

        UserError where that is asked of a corruption that has no such setting.
        """
        if self.max_predictions is None:
            return usual
        if "max_predictions" not in type(usual).model_fields:
            kind = getattr(usual, "kind", type(usual).__name__)
            raise UserError(
                f"train.longer.max_predictions: corruption.kind {kind!r} has no such setting; leave it out."
            )
        return usual.model_copy(update={"max_predictions": self.max_predictions})


class StartConfig(Settings):
    """A checkpoint of another experiment to continue from."""

    experiment: str = Field(description="Key of its pretrain artifact, which need not exist yet.")
    step: int = Field(ge=1, description="Step of the checkpoint.")


class PlayerConfig(Settings):
    """How one network of several is optimised, where that differs from `train`; null: as `train` says."""

    optimizer: Literal["adamw", "sgd"] | None = Field(default=None, description="As train.optimizer.")
    lr: float | None = Field(default=None, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] | None = Field(default=None, strict=False, description="AdamW's.")
    weight_decay: float | None = Field(default=None, ge=0, description="Not on biases or norms.")
    clip: float | None = Field(default=None, ge=0, description="Largest gradient norm; 0 switches it off.")


class TrainConfig(Settings):
    """One training run: its budget, its optimizer, and how often it logs and evaluates."""

    global_batch: int = Field(default=256, ge=1, description="Rows per optimizer step, all workers.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="sgd: plain gradient descent, without momentum."
    )
    lr: float = Field(default=1e-4, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False, description="AdamW's.")
    eps: float = Field(default=1e-6, gt=0, description="AdamW's epsilon (BERT: 1e-6).")
    weight_decay: float = Field(default=0.01, ge=0, description="Not on biases or norms.")
    clip: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0 switches it off.")
    schedule: Literal["linear", "cosine", "constant", "warmup-stable-decay"] = Field(
        default="linear", description="Shape of the learning rate after warm-up."
    )
    decay_steps: int = Field(default=0, ge=0, description="Last steps, in which warmup-stable-decay comes down.")
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear warm-up.")
    warmup: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Instead: warm-up as a share of the steps (0.1: a tenth of them), rounded to whole ones.",
    )
    players: dict[str, PlayerConfig] = Field(
        default_factory=dict, description="By name of a network of the objective: its own optimizer settings."
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="auto", description="auto: bf16 where the hardware computes it natively."
    )
    evaluate_every: int = Field(default=0, ge=0, description="Steps; 0: only at the end.")
    evaluate_rows: int = Field(default=2048, ge=1, description="Held-out rows per evaluation.")
    log_every: int = Field(default=10, ge=1, description="Steps between logged records.")
    longer: LongerConfig | None = Field(default=None, description="Longer rows for the last steps.")
    start: StartConfig | None = Field(default=None, description="Where to start instead of random weights.")

    @property
    def warmup_length(self) -> int:
        """Steps of warm-up, from `warmup_steps` or `warmup`."""
        return self.warmup_steps if self.warmup is None else round(self.warmup * self.steps)

    def of(self, player: str) -> TrainConfig:
        """These settings with those of one network in place of the common ones."""
        overrides = self.players.get(player)
        return self.model_copy(update=overrides.model_dump(exclude_none=True)) if overrides else self

    @property
    def longer_from(self) -> int:
        """First step on longer rows; the number of steps where there are none."""
        return self.steps - (round(self.steps * self.longer.share) if self.longer else 0)


class WatchConfig(Settings):
    """Limits for the monitoring of a run. They do not change what a completed run has learned."""

    max_skips: int = Field(
        default=10, ge=1, description="Updates in a row that may be skipped because a gradient is not finite."
    )
    spike: float = Field(
        default=6.0, gt=0, description="Standard deviations over the usual at which a step's loss is reported."
    )
    stuck_seconds: float = Field(
        default=600.0,
        ge=0,
        description="Longest time that a worker waits for the others before the run fails; 0: no limit.",
    )
    stop_seconds: float = Field(
        default=60.0, ge=0, description="Time for an interrupted run to finish its step and write a checkpoint."
    )


class ZeroConfig(Settings):
    """How ZeRO divides its work (DeepSpeed's names and defaults). Sizes count elements of 4 bytes in fp32."""

    overlap_comm: bool | None = Field(
        default=None, description="Sum gradients while the backward pass goes on; null: on GPUs at ZeRO 3."
    )
    contiguous_gradients: bool = Field(default=True, description="Copy gradients into one buffer as they are made.")
    reduce_bucket_size: int = Field(default=500_000_000, ge=1, description="Gradients summed in one call.")
    allgather_bucket_size: int = Field(
        default=500_000_000, ge=2, multiple_of=2, description="Weights gathered in one call (ZeRO 1 and 2)."
    )
    prefetch_bucket_size: int = Field(
        default=50_000_000, ge=0, description="Weights fetched ahead of their use (ZeRO 3)."
    )
    param_persistence_threshold: int = Field(
        default=100_000, ge=0, description="Smaller parameters stay whole on every worker (ZeRO 3)."
    )
    max_live_parameters: int = Field(
        default=1_000_000_000, ge=0, description="Most elements that are whole at a time (ZeRO 3)."
    )
    sub_group_size: int = Field(
        default=1_000_000_000, ge=1, description="Elements updated at a time; less needs less memory (ZeRO 3)."
    )


class OffloadConfig(Settings):
    """How state moves between a worker's device, its memory and its disk (Rajbhandari et al. 2021, ZeRO-Infinity)."""

    folder: str | None = Field(
        default=None, description="Folder on a fast local disk (NVMe) of each machine, for what is offloaded to nvme."
    )
    pin_memory: bool = Field(default=True, description="Page-locked memory, between which and a GPU copies are fast.")
    optimizer_buffers: int = Field(
        default=4, ge=4, description="Buffers of a sub-group for optimizer state on its way from and to the disk."
    )
    overlap: bool = Field(
        default=False, description="Read the next sub-group and write the last while one is updated; needs 12 buffers."
    )
    parameter_buffers: int = Field(default=5, ge=1, description="Buffers for parameters on their way from the disk.")
    parameter_buffer_size: int | None = Field(
        default=None, ge=1, description="Elements in each; null: as many as the largest parameter needs."
    )
    parameters_in_memory: int = Field(
        default=1_000_000_000, ge=0, description="Elements of parameters kept in memory all the same."
    )
    block_size: int = Field(default=1 << 20, ge=4096, multiple_of=512, description="Bytes of one disk request.")
    queue_depth: int = Field(default=8, ge=1, description="Disk requests in flight.")
    threads: int = Field(default=1, ge=1, description="Threads that a request is divided among.")
    single_submit: bool = Field(default=False, description="Submit requests one by one, not as a batch.")
    overlap_events: bool = Field(default=True, description="Submit the next requests while others are under way.")


class PlacementConfig(Settings):
    """Where and how fast a run happens. Nothing here changes what is learned."""

    workers: int = Field(default=1, ge=1, description="Training processes.")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Fewest workers to continue with when nodes are lost; more join when nodes return; null: workers.",
    )
    zero: Literal[0, 1, 2, 3] | None = Field(default=None, description="DeepSpeed ZeRO stage; null: plain PyTorch.")
    micro_batch: int | None = Field(
        default=None, ge=1, description="Most rows a worker takes at once; null: all of its share."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to compute.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads per worker; null: cores / workers.")
    offload_optimizer: Literal["cpu", "nvme"] | None = Field(
        default=None, description="Keep optimizer state in host memory (ZeRO 2 or 3) or on a local disk (ZeRO 3)."
    )
    offload_parameters: Literal["cpu", "nvme"] | None = Field(
        default=None, description="Keep parameters in host memory or on a local disk (ZeRO 3)."
    )
    offload: OffloadConfig = Field(default_factory=OffloadConfig, description="How what is offloaded moves.")
    zero_settings: ZeroConfig = Field(default_factory=ZeroConfig, description="How ZeRO divides its work.")
    activation_checkpointing: bool = Field(default=False, description="Recompute activations instead of keeping them.")
    compile: bool = Field(default=False, description="torch.compile the networks.")
    checkpoint_every: int = Field(default=0, ge=0, description="Steps; 0: only at the end.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoints kept.")
    data_workers: int | None = Field(default=None, ge=1, description="Processes that prepare data; null: one a core.")
    shard_cache_gb: float = Field(
        default=64.0, gt=0, description="Disk that a machine spends on shards of a remote store, in GB."
    )
    ray_address: str | None = Field(
        default=None, description="Ray cluster to join; null: start one on this machine when needed."
    )
    resources_per_worker: dict[str, float] = Field(
        default_factory=dict, strict=False, description="Ray resources; default one CPU (or GPU)."
    )
    max_failures: int = Field(default=3, ge=0, description="Restarts of a lost worker group.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="Limits for the monitoring of a run.")


def placement_problems(placement: PlacementConfig) -> Iterator[tuple[str, str]]:
    """Settings of a placement that contradict each other: (setting, what is wrong with it)."""
    zero = "null" if placement.zero is None else placement.zero
    if placement.min_workers and placement.min_workers > placement.workers:
        yield "min_workers", f"{placement.min_workers} exceeds workers {placement.workers}"
    if placement.offload_optimizer and placement.zero not in (2, 3):
        yield "offload_optimizer", f"needs placement.zero 2 or 3, found {zero}"
    elif placement.offload_optimizer == "nvme" and placement.zero != 3:
        yield "offload_optimizer", f"nvme needs placement.zero 3, found {zero}"
    if placement.offload_parameters and placement.zero != 3:
        yield "offload_parameters", f"needs placement.zero 3, found {zero}"
    for name in ("offload_optimizer", "offload_parameters"):
        if getattr(placement, name) == "nvme" and placement.offload.folder is None:
            yield name, "nvme needs placement.offload.folder, a folder on a local disk of every machine"
    if placement.offload.overlap and placement.offload.optimizer_buffers < 12:
        yield "offload.optimizer_buffers", f"{placement.offload.optimizer_buffers} are too few for overlap; set 12"
