"""Prints `sesame plan`: the stages of a recipe and what training needs, or the cluster for a published system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from data_prep.errors import UserError, choices
from data_prep.findings import Finding, refuse
from data_prep.kinds import kind_of
from data_prep.legible import plain
from data_prep.sources.config import describe_left_out, left_out
from flows.show.readable import size
from pipeline.estimate import cluster, published_systems
from pipeline.estimate.cluster import Cluster
from pipeline.home import Home
from pipeline.recipe.load import namesake
from pipeline.recipe.recipe import Experiment, Recipe
from pipeline.reports import findings
from training.config import PlacementConfig
from training.cost.memory import Memory

if TYPE_CHECKING:
    from pipeline.dag import PlannedNode

PARTS = ("process", "weights", "gradients", "moments", "buffers", "activations")


def recipe(loaded: Experiment, home: Home, gpu: str, out: Console) -> None:
    """Print each stage, stored or to do and why, and what pretraining needs. gpu: kind of GPU for times on GPUs."""
    from pipeline import dag

    planned = dag.plan(dag.nodes(loaded, home.downloads), home.store())
    tree = Tree(Text(f"{loaded.name}{f' ({loaded.scale})' if loaded.scale else ''}", "bold"), guide_style="dim")
    for item in planned:
        line = Text()
        if item.artifact:
            line.append("↺ ", "cyan").append(item.node.name, "bold").append(f"  stored as {item.artifact.key}", "dim")
        else:
            line.append("● ", "yellow").append(item.node.name, "bold").append(f"  to do: {item.why}")
        branch = tree.add(line)
        if item.node.inputs:
            branch.add(Text("reads " + ", ".join(item.node.inputs.values()), "dim"))
        if isinstance(loaded, Recipe) and item.node.name == "ingest":
            text = describe_left_out(_left_out(loaded, item))
            if text:
                branch.add(Text(text, "yellow"))
        if item.node.name == "shards" and item.artifact:
            branch.add(_rows(item.artifact.summary["train"]))
        if isinstance(loaded, Recipe) and item.node.name == "pretrain":
            for text in _pretraining(loaded, planned, home, gpu, out):
                branch.add(text)
    out.print(tree)
    stored = {item.node.name: item.artifact for item in planned if item.artifact}
    known = list(namesake(loaded))
    if isinstance(loaded, Recipe):
        sampled = None if "ingest" in stored else kind_of(loaded.data.kind).characters(loaded.data, home.downloads)
        known += findings.of_recipe(loaded, stored, home.downloads, sampled)
    known += map(Finding, loaded.remarks())
    for finding in known:
        if not finding.refused:
            out.print(Text(f"warning: {plain(finding.text)}", "yellow"), soft_wrap=True)
    refuse(known)


def _left_out(loaded: Recipe, ingest: PlannedNode) -> Mapping[str, int]:
    """How many files are not read, by suffix; once ingest is done, with those in archives."""
    if ingest.artifact:
        return ingest.artifact.summary.get("left_out", {})
    return left_out(loaded.data.sources, kind_of(loaded.data.kind).accepts(loaded.data))


def _rows(train: dict[str, Any]) -> str:
    """Numbers of rows and tokens in shards, the share of padding, and what is in no row, as text."""
    parts = [f"{train['rows']:,} rows" + (f" of shape {tuple(train['shape'])}" if "shape" in train else "")]
    parts += [f"{train['tokens']:,} tokens"] if "tokens" in train else []
    parts += [f"{train['padding_share']:.1%} padding"] if "padding_share" in train else []
    if "left_out" in train:
        kept = train["corpus_tokens"] - train["left_out"]
        parts.append(f"{kept:,} of {train['corpus_tokens']:,} tokens of the corpus")
    return ", ".join(parts)


def _pretraining(loaded: Recipe, planned: Sequence[PlannedNode], home: Home, gpu: str, out: Console) -> list[Text]:
    from pipeline.estimate.estimate import estimate

    train, placement = loaded.train, loaded.placement
    with out.status("timing a few steps, once for this machine", spinner="dots"):
        needed = estimate(loaded, planned, home.path, peak(gpu))
    if needed is None:
        return [
            Text(f"{train.steps:,} steps of {train.global_batch:,} rows"),
            Text("what it needs is known when the shards are made, for they tell how many numbers a row has", "dim"),
        ]
    many = "s" if placement.workers > 1 else ""
    zero = "plain PyTorch" if placement.zero is None else f"ZeRO-{placement.zero}"
    extra = [f"{kind} on {where}" for kind, where in _offloaded(placement)]
    extra += [f"experts divided among {placement.expert_parallel}"] if placement.expert_parallel > 1 else []
    extra += ["activations recomputed"] if placement.activation_checkpointing else []
    passes = f", {needed.passes:.2f} passes over the shards" if needed.passes is not None else ""
    at_most = f", at most {needed.units:,} {needed.unit}" if needed.units != needed.rows else ""
    met = f", of which a token meets {needed.parameters - needed.idle:,}" if needed.idle else ""
    lines = [
        Text(
            f"{needed.parameters:,} parameters{met}; "
            f"{train.steps:,} steps of {train.global_batch:,} rows{at_most}{passes}"
        ),
        Text(f"{placement.workers} worker{many}, {', '.join([zero, needed.precision, *extra])}"),
        _memory(needed.memory),
    ]
    if needed.measured:
        source = "timed before" if not needed.fresh else "timed beside other work" if needed.busy else "timed just now"
        speed = needed.units / needed.seconds[0]
        lines.append(
            _fact("time", f"{span(needed.seconds[0])}, {speed:,.0f} {needed.unit}/s", f"{source} on these cores")
        )
    elif needed.flops:
        text = f"{span(needed.seconds[0])} to {span(needed.seconds[1])} on {placement.workers} × {gpu}"
        lines.append(_fact("time", text, f"{needed.flops:.2g} operations at 50 to 30 % of its peak"))
    return lines


def _offloaded(placement: PlacementConfig) -> list[tuple[str, str]]:
    kinds = {"optimizer": "offload_optimizer", "parameters": "offload_parameters"}
    return [(kind, where) for kind, name in kinds.items() if (where := getattr(placement, name)) is not None]


def _memory(memory: Memory) -> Text:
    parts = [(name, int(getattr(memory, name))) for name in PARTS]
    shares = ", ".join(f"{name} {size(value)}" for name, value in parts if value >= 1e6)
    host = f"; of the host's {size(int(memory.host))}" if memory.host else ""
    return _fact("memory", f"{size(int(memory.total))} a worker{host}", shares)


def _fact(label: str, text: str, note: str = "") -> Text:
    line = Text().append(f"{label:<9}", "cyan").append(text)
    return line.append(f"  {note}", "dim") if note else line


# -- published systems ------------------------------------------------------------------------------------------------


def system(name: str, gpus: int | None, gpu: str, out: Console) -> None:
    """Print the cluster that a published system would take: GPUs, days, shards, and the sources of the formulas.

    gpus: number of GPUs; None: the fewest that suffice, and others to compare. Raises UserError if it does not fit.
    """
    from data_prep.text.write_shards import TOKENS_PER_SHARD

    described = published_systems.SYSTEMS[name]
    tree = Tree(Text(described.name, "bold").append(f"  {described.title}", "not bold default"), guide_style="dim")
    if described.recipe:
        tree.add(_fact("trains", "").append(f"here, by its objective: sesame run {described.recipe}", "green"))
    else:
        tree.add(_fact("trains", "").append(f"not in this version, which lacks {described.lacks}", "yellow"))
    count = described.network.parameters()
    tree.add(_fact("network", f"{short(count)} parameters", f"published: {short(described.published)}"))
    flops, of_gpu = described.flops(), peak(gpu)
    lengths = " then ".join(str(length) for length, _ in described.phases)
    budget = f"{short(described.tokens)} tokens in rows of {lengths}, {flops:.2g} operations"
    tree.add(_fact("budget", budget, f"{described.tokens / described.corpus:.1f} passes"))
    corpus_bytes = described.corpus * described.token_bytes
    shards = f"{-(-int(described.corpus) // TOKENS_PER_SHARD):,} of {size(TOKENS_PER_SHARD * described.token_bytes)}"
    tree.add(
        _fact("shards", f"{shards}, {size(int(corpus_bytes))} in all", f"{short(described.corpus)} different tokens")
    )
    if gpus is None:
        smallest = cluster.smallest(described, gpu)
        _cluster(tree, "smallest", described, smallest, of_gpu)
        offloaded = cluster.smallest(described, gpu, offload=True)
        if offloaded.gpus < smallest.gpus:
            _cluster(tree, "offload", described, offloaded, of_gpu)
        gpus_for_a_month = flops / (of_gpu * cluster.UTILISATION[0]) / (30 * cluster.DAY)
        num_gpus = 1
        while num_gpus < gpus_for_a_month:
            num_gpus *= 2
        if num_gpus > smallest.gpus and (fast := cluster.placed(described, gpu, num_gpus)):
            _cluster(tree, "a month", described, fast, of_gpu)
    else:
        chosen = cluster.placed(described, gpu, gpus, offload=True)
        if chosen is None:
            fewest = cluster.smallest(described, gpu)
            raise UserError(f"{name}: does not fit on {gpus} × {gpu}; take {fewest.gpus} or more.")
        _cluster(tree, "cluster", described, chosen, of_gpu)
    sources = tree.add(Text("sources", "dim"))
    for text in (*described.sources, *FORMULAS):
        sources.add(Text(text, "dim"))
    out.print(tree)


FORMULAS = (
    "operations: Kaplan et al. 2020, arXiv:2001.08361; Narayanan et al. 2021, arXiv:2104.04473",
    "activations: Korthikanti et al. 2022, arXiv:2205.05198; recomputed: Chen et al. 2016, arXiv:1604.06174",
    "ZeRO: Rajbhandari et al. 2020, arXiv:1910.02054; offload: Ren et al. 2021, arXiv:2101.06840",
    "days: 50 to 30 % of the peak, as Narayanan et al. and Chowdhery et al. 2022 (arXiv:2204.02311) report",
)


def _cluster(tree: Tree, label: str, described: published_systems.System, placed: Cluster, peak: float) -> None:
    placement = placed.placement
    slow, fast = (placed.days(described.flops(), peak, share) for share in cluster.UTILISATION)
    words = ["plain PyTorch" if placement.zero is None else f"ZeRO-{placement.zero}"]
    words += [f"{kind} offloaded" for kind, _ in _offloaded(placement)]
    words += ["activations recomputed"] if placement.activation_checkpointing else []
    branch = tree.add(_fact(label, f"{placed.gpus:,} × {placed.gpu}, {', '.join(words)}"))
    branch.add(_fact("days", f"{_days(fast)} to {_days(slow)}"))
    branch.add(_memory(placed.memory))


def check_gpu(gpu: str) -> None:
    """UserError if the kind of GPU is not known."""
    if gpu not in cluster.GPU_BYTES:
        raise UserError(f"--gpu {gpu}: not a known kind; {choices(gpu, cluster.GPU_BYTES)}")


def peak(gpu: str) -> float:
    """Operations per second of a kind of GPU, in bf16."""
    from training.monitor.peak_flops import GPU_PEAKS

    return GPU_PEAKS[gpu]["bf16"]


def _days(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def short(count: float) -> str:
    """A large number in the form 340 M, 1.56 B or 1.57 T."""
    for unit, value in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if count >= value:
            return f"{count / value:.3g} {unit}"
    return f"{count:,.0f}"


def span(seconds: float) -> str:
    """An expected time, given in seconds, in a suitable unit."""
    for unit, value in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * value:
            return f"{seconds / value:.3g} {unit}"
    return f"{seconds:.0f} s"
