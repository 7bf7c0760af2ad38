"""Typed settings of training, without torch: recipes import these to check themselves quickly.

`TrainConfig`, `NetworkConfig` and `ObjectiveConfig` change what is learned and so are part of a run's identity;
`PlacementConfig` says where and how fast, and never is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, Field, model_validator

from data_prep.errors import UserError
from data_prep.settings import Belongs, Settings
from data_prep.shards.order import shares

Scalar = bool | int | float | str
C = TypeVar("C", bound=BaseModel)


class NetworkConfig(Settings):
    """A network of `transformers`, by its model type and the keyword arguments of its config."""

    architecture: str = "bert"
    """Model type, as `transformers` names it."""
    config: dict[str, Scalar | list[Scalar] | None] = Field(default_factory=dict)
    """Keyword arguments of that architecture's config class."""


class ObjectiveConfig(Settings):
    """What the network learns from each example.

    The base of the sections that `training.objectives.section_of` makes, one for each objective, whose `options` are
    typed; in this one they are plain values.
    """

    name: str
    """Which objective it is."""
    options: Any = Field(default_factory=dict)
    """Options of that objective."""


class OrderConfig(Settings):
    """How the order of samples is shuffled; see `data_prep.shards.order`."""

    block: int = Field(default=64, ge=1)
    """Number of consecutive rows that stay together on disk."""
    window: int = Field(default=1024, ge=1)
    """Number of blocks whose rows are mixed together."""
    length_window: int | None = Field(default=None, ge=1)
    """Number of batches whose rows are regrouped by length, for less padding; null: rows stay in the order drawn."""
    temperature: float = Field(default=1.0, ge=0, le=1)
    """Shares of a mixture's parts are proportional to their numbers of rows to this power: 1 leaves them as they are, 0
    makes them equal."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Share of each part of a mixture, by name, instead of `temperature`; 0: only its held-out documents are used."""
    epochs: dict[str, float] = Field(default_factory=dict)
    """How often each part of a mixture is read while a part with 1 is read once, by name, instead of `temperature`; 0:
    only its held-out documents are used."""

    @property
    def unread(self) -> list[str]:
        """Parts of a mixture that are not trained on: of them, only held-out documents are used."""
        return sorted(name for name, share in (self.weights or self.epochs).items() if share == 0)

    def shares(self, rows: dict[str, int]) -> dict[str, float]:
        """The weight of each part of a mixture, by its number of rows."""
        return shares(rows, self.weights, self.epochs, self.temperature)

    @property
    def mixing(self) -> dict[str, Any]:
        """Arguments of `data_prep.shards.order.shares` besides the rows; empty if all rows are read equally often."""
        for name, of_parts in (("weights", self.weights), ("epochs", self.epochs)):
            if of_parts:
                return {name: {part: share for part, share in of_parts.items() if share}}
        return {} if self.temperature == 1 else {"temperature": self.temperature}


class LongerConfig(Settings):
    """The last part of training on longer rows (BERT: 90 % of the steps at 128 tokens, then 10 % at 512)."""

    length: int = Field(ge=8)
    """Most tokens of a row in that part."""
    share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training steps that use longer rows."""
    max_predictions: int | None = Field(default=None, ge=1)
    """corruption.max_predictions for longer rows; null: the same as for other rows."""

    def corruption(self, usual: C) -> C:
        """How those rows are corrupted, given how the others are.

        UserError if the corruption has no such setting.
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
    """What training begins with: a checkpoint of another experiment, or a network of a folder.

    With a checkpoint, only settings are taken from the folder: of an experiment that had started from it.
    """

    experiment: str | None = None
    """Key of an experiment's pretrain artifact, which need not exist yet."""
    step: int | None = Field(default=None, ge=1)
    """Step of its checkpoint."""
    folder: str | None = None
    """Folder of a network and its tokenizer, as `transformers` has them; network and tokenizer may then be left out."""
    recipe: str | None = None
    """A packaged recipe or the path of one, whose network it is: it is trained first, if it was not."""
    scale: str | None = None
    """Scale of that recipe; null: its own default."""

    @model_validator(mode="after")
    def _is_one(self) -> StartConfig:
        given = [name for name in ("experiment", "folder", "recipe") if getattr(self, name) is not None]
        if len(given) != 1 and given != ["experiment", "folder"]:
            raise ValueError(f"takes one of experiment, folder and recipe; found {' and '.join(given) or 'none'}")
        if (self.step is None) != (self.experiment is None):
            raise ValueError("'step' and 'experiment' belong together")
        if self.scale is not None and self.recipe is None:
            raise ValueError("'scale' belongs to 'recipe'")
        return self


Optimizer: TypeAlias = Literal["adamw", "adafactor", "sgd"]
UNDIVIDED = {
    "adafactor": "keeps factors of whole matrices, which ZeRO divides",
    "sgd": "has no state for ZeRO to divide",
}
"""Why ZeRO does not go with some of them."""


class PlayerConfig(Settings):
    """How one network of several is optimised, where that differs from `train`; null: as `train` says."""

    optimizer: Optimizer | None = None
    """Optimizer, instead of train.optimizer."""
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate, instead of train.lr."""
    betas: tuple[float, float] | None = Field(default=None, strict=False)
    """AdamW's β₁ and β₂, instead of train.betas."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay, instead of train.weight_decay."""
    clip: float | None = Field(default=None, ge=0)
    """Largest gradient norm, instead of train.clip; 0 switches clipping off."""

    belongs: ClassVar[dict[str, Belongs]] = {
        "betas": Belongs("optimizer adamw", lambda player: player.optimizer in (None, "adamw"))
    }


class TrainConfig(Settings):
    """One training run: its budget, its optimizer, and how often it logs and evaluates."""

    global_batch: int = Field(default=256, ge=1)
    """Rows per optimizer step, over all workers."""
    steps: int = Field(ge=1, le=10**12)
    """Optimizer steps."""
    optimizer: Optimizer = "adamw"
    """The optimizer; sgd is plain gradient descent, without momentum. adafactor (T5) keeps a row and a column of second
    moments of each matrix, and its rate is a share of a parameter's size, at most 1/√step."""
    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    """AdamW's β₁ and β₂: decay of its averages of gradients and of their squares."""
    eps: float = Field(default=1e-6, gt=0)
    """AdamW's ε (BERT: 1e-6)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; biases and norms are exempt."""
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; larger gradients are scaled down to it. 0 switches clipping off. Of a table with
    sparse gradients (word2vec), the largest norm of a row's."""
    schedule: Literal["linear", "cosine", "constant", "warmup-stable-decay"] = "linear"
    """Shape of the learning rate after warm-up."""
    lr_end: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak at which linear and cosine learning rates end (nanoGPT, Llama: 0.1)."""
    decay_steps: int = Field(default=0, ge=0)
    """Number of last steps in which the learning rate of warmup-stable-decay falls."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    warmup: float | None = Field(default=None, ge=0, lt=1)
    """Warm-up as a share of the steps (0.1: a tenth), rounded to whole steps, instead of `warmup_steps`."""
    players: dict[str, PlayerConfig] = Field(default_factory=dict)
    """Optimizer settings of single networks of the objective, by the network's name."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """Number format to compute with; auto: bf16 on hardware with native support, else fp32."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps from one evaluation to the next; 0: only at the end."""
    evaluate_rows: int = Field(default=2048, ge=1)
    """Held-out rows per evaluation."""
    log_every: int = Field(default=10, ge=1)
    """Steps from one logged record to the next."""
    longer: LongerConfig | None = None
    """Longer rows for the last steps."""
    start: StartConfig | None = None
    """Checkpoint or network to start from, instead of random weights."""

    belongs: ClassVar[dict[str, Belongs]] = {
        **dict.fromkeys(("betas", "eps"), Belongs("optimizer adamw", lambda train: "adamw" in train.optimizers)),
        "lr_end": Belongs("schedule linear or cosine", lambda train: train.schedule in ("linear", "cosine")),
    }

    @property
    def optimizers(self) -> set[Optimizer]:
        """Those of all networks."""
        return {self.optimizer, *(player.optimizer for player in self.players.values() if player.optimizer)}

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
        """First step on longer rows; the number of steps if there are none."""
        return self.steps - (round(self.steps * self.longer.share) if self.longer else 0)


class WatchConfig(Settings):
    """Limits for the monitoring of a run. They do not change what a completed run has learned."""

    max_skips: int = Field(default=10, ge=1)
    """Consecutive updates that may be skipped because a gradient is not finite."""
    spike: float = Field(default=6.0, gt=0)
    """A step's loss is reported if it is this many standard deviations above the usual."""
    stuck_seconds: float = Field(default=600.0, ge=0)
    """Longest time, in seconds, that workers take to start or wait for each other before the run fails; 0: no limit."""
    start_seconds: float = Field(default=300.0, ge=0)
    """Longest time, in seconds, to wait for hosts where the cluster has no room for the workers; 0: no limit."""
    stop_seconds: float = Field(default=60.0, ge=0)
    """Time, in seconds, for an interrupted run to finish its step and write a checkpoint."""


class ZeroConfig(Settings):
    """How ZeRO divides its work (DeepSpeed's names and defaults). Sizes count elements of 4 bytes in fp32."""

    overlap_comm: bool | None = None
    """Sum gradients during the backward pass; null: only at ZeRO 3 on GPUs."""
    contiguous_gradients: bool = True
    """Copy gradients into one buffer as they are computed."""
    reduce_bucket_size: int = Field(default=500_000_000, ge=1)
    """Gradient elements summed in one call."""
    allgather_bucket_size: int = Field(default=500_000_000, ge=2, multiple_of=2)
    """Weight elements gathered in one call (ZeRO 1 and 2)."""
    prefetch_bucket_size: int = Field(default=50_000_000, ge=0)
    """Weight elements fetched before they are needed (ZeRO 3)."""
    param_persistence_threshold: int = Field(default=100_000, ge=0)
    """Parameters with fewer elements are not divided: every worker keeps all of them (ZeRO 3)."""
    max_live_parameters: int = Field(default=1_000_000_000, ge=0)
    """Most parameter elements that a worker holds undivided at a time (ZeRO 3)."""
    sub_group_size: int = Field(default=1_000_000_000, ge=1)
    """Parameter elements updated at a time; fewer need less memory (ZeRO 3)."""


class OffloadConfig(Settings):
    """How state moves between a worker's device, its memory and its disk (Rajbhandari et al. 2021, ZeRO-Infinity)."""

    folder: str | None = None
    """Folder on a fast local disk (NVMe) of each machine, for state that is offloaded to nvme."""
    pin_memory: bool = True
    """Use page-locked memory, which copies to and from a GPU faster."""
    optimizer_buffers: int = Field(default=4, ge=4)
    """Buffers for optimizer state on its way to and from the disk, each for one sub-group."""
    overlap: bool = False
    """Read the next sub-group and write the last one during an update; needs 12 buffers."""
    parameter_buffers: int = Field(default=5, ge=1)
    """Buffers for parameters on their way from the disk."""
    parameter_buffer_size: int | None = Field(default=None, ge=1)
    """Elements of each parameter buffer; null: as many as the largest parameter needs."""
    parameters_in_memory: int = Field(default=1_000_000_000, ge=0)
    """Parameter elements that stay in memory although parameters are offloaded to disk."""
    block_size: int = Field(default=1 << 20, ge=4096, multiple_of=512)
    """Bytes of one disk request."""
    queue_depth: int = Field(default=8, ge=1)
    """Disk requests in flight."""
    threads: int = Field(default=1, ge=1)
    """Threads that share one disk request."""
    single_submit: bool = False
    """Submit disk requests one by one, not in batches."""
    overlap_events: bool = True
    """Submit further disk requests while others are in flight."""


class PlacementConfig(Settings):
    """Where and how fast a run happens. Nothing here changes what is learned."""

    workers: int = Field(default=1, ge=1)
    """Training processes."""
    min_workers: int | None = Field(default=None, ge=1)
    """Fewest workers to continue with when nodes are lost (more join when nodes return); null: as many as `workers`."""
    zero: Literal[0, 1, 2, 3] | None = None
    """DeepSpeed ZeRO stage; null: plain PyTorch."""
    expert_parallel: int = Field(default=1, ge=1)
    """Number of workers that share the experts of a mixture (ZeRO 1 and 2); 1: each of them has all."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Most rows that a worker computes at once; null: its whole share of the batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: on GPUs if there are any."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads per worker; null: the machine's cores divided by its workers."""
    jobs: int = Field(default=1, ge=1)
    """Most downstream jobs at once, each in a process of its own with its share of the cores, where memory holds them;
    with `ray_address` on hosts of the cluster, else on this machine, whose GPU they share."""
    offload_optimizer: Literal["cpu", "nvme"] | None = None
    """Keep optimizer state in host memory (ZeRO 2 or 3) or on a local disk (ZeRO 3)."""
    offload_parameters: Literal["cpu", "nvme"] | None = None
    """Keep parameters in host memory or on a local disk (ZeRO 3)."""
    offload: OffloadConfig = Field(default_factory=OffloadConfig)
    """How offloaded state moves."""
    zero_settings: ZeroConfig = Field(default_factory=ZeroConfig)
    """How ZeRO divides its work."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps from one checkpoint to the next; 0: only at the end."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep."""
    data_workers: int | None = Field(default=None, ge=1)
    """Processes that prepare data; null: one per core."""
    shard_cache_gb: float = Field(default=64.0, gt=0)
    """Disk space per machine for shards of a remote store, in GB."""
    ray_address: str | None = None
    """Ray cluster to join, if `--set` or RAY_ADDRESS names it, too; null: start one on this machine when needed."""
    resources_per_worker: dict[str, float] = Field(default_factory=dict, strict=False)
    """Ray resources per worker, by name; empty: one CPU, or one GPU."""
    max_failures: int = Field(default=3, ge=0)
    """How often a lost group of workers is restarted."""
    watch: WatchConfig = Field(default_factory=WatchConfig)
    """Limits for the monitoring of a run."""


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
    if placement.expert_parallel > 1 and placement.zero not in (1, 2):
        yield "expert_parallel", f"needs placement.zero 1 or 2, found {zero}"
    elif placement.workers % placement.expert_parallel:
        yield "expert_parallel", f"{placement.expert_parallel} does not divide workers {placement.workers}"
    elif placement.expert_parallel > 1 and placement.min_workers not in (None, placement.workers):
        yield "expert_parallel", "keeps its number of workers; set min_workers to null"
    if placement.offload.overlap and placement.offload.optimizer_buffers < 12:
        yield "offload.optimizer_buffers", f"{placement.offload.optimizer_buffers} are too few for overlap; set 12"
