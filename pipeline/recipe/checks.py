"""Checks across the sections of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data_prep import corruptions
from data_prep.kinds import KINDS, Problem, kind_of, sections
from pipeline import downstream
from pipeline.downstream.model_names import OWN
from pipeline.gate import ENCODER
from pipeline.recipe import start, suite
from pipeline.slug import SLUG
from training import objectives
from training.config import UNDIVIDED, PlacementConfig, placement_problems
from training.data import micro_batches, split_problem
from training.models.experts import config as experts
from training.models.text.architectures import packing_problems, position_problems
from training.models.text.architectures import without_effect as of_network
from training.objectives import MODEL

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Evaluation, Recipe

STAGES = ("init", "ingest", "shards", "pretrain", "report")
"""Names of nodes, besides those of what a kind of data fits."""


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Every disagreement, in the order of the sections."""
    wrong = list(_sections(recipe))
    yield from wrong
    if wrong:  # whose settings all others are compared with
        return
    yield from kind_of(recipe.data.kind).problems(recipe)
    yield from _order(recipe)
    yield from _network(recipe)
    yield from start.problems(recipe)
    yield from _objective(recipe)
    yield from _corruption(recipe)
    yield from _columns(recipe)
    yield from _special_tokens(recipe)
    yield from _train(recipe)
    yield from _names(recipe.downstream)
    yield from downstream.problems(recipe)
    yield from _placement(recipe)


def without_effect(recipe: Recipe) -> Iterator[str]:
    """A sentence for each setting that changes nothing beside those of other sections."""
    yield from (f"{path}: {text}" for path, text in of_network(recipe.network))
    temperature = recipe.order.temperature
    if temperature != 1 and len({source.corpus for source in recipe.data.sources}) < 2:
        yield f"order.temperature: {temperature:g} has no effect, as it belongs to several corpora"


def without_effect_on_jobs(recipe: Evaluation) -> Iterator[str]:
    """A sentence for each setting of the placement that belongs to pretraining."""
    for name in ("workers", "zero"):
        value, default = (getattr(placement, name) for placement in (recipe.placement, PlacementConfig()))
        if value != default:
            yield f"placement.{name}: {value} has no effect on jobs, each of which trains on one worker"


def problems_of_jobs(recipe: Evaluation) -> Iterator[Problem]:
    """Every disagreement of an experiment without pretraining."""
    yield from _names(recipe.downstream)
    yield from suite.problems(recipe)
    yield from _networks(recipe)
    if not recipe.downstream:
        yield "downstream", "has no job, and nothing is pretrained: nothing would be done; add one"
    unfit = False
    for index, job in enumerate(recipe.downstream):
        if missing := downstream.roles_of(job) - {"pretrained"}:
            unfit = True
            needed = " and ".join(sorted(missing))
            yield f"downstream.{index}.task", f"{job.task} reads {needed}, which only a recipe that pretrains has"
    if not unfit:
        yield from downstream.problems(recipe)
    yield from ((f"placement.{name}", text) for name, text in placement_problems(recipe.placement))


def _networks(recipe: Evaluation) -> Iterator[Problem]:
    """Other networks with names that mean something else, those that no job compares, and kinds that differ."""
    read = {name for job in recipe.downstream for name in downstream.compared(recipe, job)}
    for name in recipe.networks:
        if name in OWN or not re.fullmatch(SLUG, name):
            meant = "is what jobs call models of init" if name in OWN else "is no name of lower-case words and hyphens"
            yield f"networks.{name}", f"{name!r} {meant}; choose another"
        elif name not in read:
            yield f"networks.{name}", "no job reads it; add its name to models of one, or leave it out"
    named = {"init": recipe.init, **{f"networks.{name}": of for name, of in recipe.networks.items()}}
    for section, of in named.items():
        if of.kind is not None and of.kind != of.reads:
            yield f"{section}.kind", f"{of.kind}, and the network reads {of.reads}; leave it out"
        elif of.reads is not None and recipe.kind not in (None, of.reads):
            yield section, f"reads {of.reads}, and init reads {recipe.kind}; name a network of {recipe.kind}"


def _sections(recipe: Recipe) -> Iterator[Problem]:
    """Missing sections of this kind of data, and sections of other kinds."""
    kind = recipe.data.kind
    own = kind_of(kind).sections
    for name in sorted(sections()):
        is_given = name in recipe.model_fields_set and getattr(recipe, name) is not None
        if is_given and name not in own:
            kinds_with_it = ", ".join(other for other in KINDS if name in kind_of(other).sections)
            yield name, f"is for data.kind {kinds_with_it}, found {kind}; leave it out"
        if own.get(name) and not is_given:
            yield name, f"missing; data.kind {kind} needs it"


def _order(recipe: Recipe) -> Iterator[Problem]:
    order, parts = recipe.order, {source.corpus for source in recipe.data.sources}
    if not kind_of(recipe.data.kind).mixes:
        for name in ("weights", "epochs"):
            if getattr(order, name):
                yield f"order.{name}", f"mixes corpora, and data.kind {recipe.data.kind} has one; leave it out"
        return
    if None in parts and len(parts) > 1:
        yield "data.sources", "of a mixture each source needs a corpus, and some have none"
    mixing = [name for name in ("weights", "epochs") if getattr(order, name)]
    if len(mixing) + (order.temperature != 1) > 1:
        yield "order", "found several of temperature, weights and epochs; choose one way to mix"
    for setting in mixing:
        named = set(getattr(order, setting))
        if named != parts:
            names = ", ".join(sorted(filter(None, parts))) or "none; give data.sources a corpus each"
            yield f"order.{setting}", f"names {', '.join(sorted(named))}; the corpora of data.sources are {names}"
        if min(getattr(order, setting).values()) < 0 or not any(getattr(order, setting).values()):
            yield f"order.{setting}", "must not be below 0, and above 0 for what is to be trained on"


def _network(recipe: Recipe) -> Iterator[Problem]:
    config = recipe.network.config
    if recipe.compose is None:
        return
    for name in ("vocab_size", "pad_token_id"):
        if name in config:
            yield (
                f"network.config.{name}",
                "comes from the tokenizer; set tokenizer.vocabulary instead",
            )
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if isinstance(hidden, int) and isinstance(heads, int) and (heads < 1 or hidden % heads):
        yield (
            "network.config.hidden_size",
            f"{hidden} is not a multiple of num_attention_heads {heads}",
        )
    if recipe.compose.joins:
        yield from packing_problems(recipe.network)
    longer = recipe.train.longer
    lengths = {"compose.length": recipe.compose.length, **({"train.longer.length": longer.length} if longer else {})}
    of_folder = recipe.train.start is not None and recipe.train.start.folder is not None
    for path, text in position_problems(recipe.network, lengths):
        if of_folder and path.startswith("network.config"):  # which the folder says
            path, text = "compose.length", f"the network of train.start.folder has {text.partition(';')[0]}; lower it"
        yield path, text


def _objective(recipe: Recipe) -> Iterator[Problem]:
    name, kind = recipe.objective.name, recipe.data.kind
    learning = objectives.learning_from(kind)
    if name not in learning:
        yield "objective.name", f"{name!r} does not learn from {kind} data; choose {', '.join(learning)}"
        return
    names = objectives.network_names(name)
    wrong = [f"networks.{other}" for other in recipe.networks if other not in names or other == MODEL]
    missing = [f"networks.{other}" for other in names if other not in (MODEL, *recipe.networks)]
    for path in wrong:
        yield path, f"objective {name!r} has no other network of that name; it has {', '.join(names)}"
    for path in missing:
        yield path, f"missing; objective {name!r} needs it beside network"
    if wrong or missing:
        return
    yield from objectives.problems(recipe.objective, {MODEL: recipe.network, **recipe.networks})
    for option, wanted in objectives.composed(recipe.objective).items():
        if recipe.compose and recipe.compose.kind != wanted:
            value = getattr(recipe.objective.options, option)
            yield f"objective.options.{option}", f"{value} needs compose.kind {wanted}, found {recipe.compose.kind}"


def _corruption(recipe: Recipe) -> Iterator[Problem]:
    """A corruption whose targets or columns the objective cannot learn from, or that does not apply to the data."""
    name, corruption, kind = recipe.objective.name, recipe.corruption, kind_of(recipe.data.kind)
    entry = objectives.entry_of(name)
    if recipe.data.kind not in entry.kinds:
        return  # reported already
    targets, items = entry.targets, "ids" if "tokenizer" in kind.sections else "values"
    wanted = [column for column in entry.columns if column in corruptions.written()]
    fitting = corruptions.fitting(targets, items, wanted)
    if corruption.kind in fitting:
        return
    if corruption.targets not in targets:
        why = f"gives {corruption.targets} targets, and {name!r} learns from {' or '.join(targets)} ones"
    elif corruption.items not in ("any", items):
        why = f"changes {corruption.items}, and {recipe.data.kind} data have none"
    else:
        why = f"leaves no {' and '.join(wanted)}, and {name!r} needs it"
    yield "corruption.kind", f"{corruption.kind!r} {why}; choose {', '.join(map(repr, fitting))}"


def _columns(recipe: Recipe) -> Iterator[Problem]:
    """Columns that corruption or objective need and rows lack before they are corrupted."""
    kind = kind_of(recipe.data.kind)
    if any(required and getattr(recipe, name) is None for name, required in kind.sections.items()):
        return  # reported already
    columns, corruption, objective = kind.columns(recipe), recipe.corruption, recipe.objective.name
    of_objective = [name for name in objectives.entry_of(objective).columns if name not in corruptions.written()]
    needed = (
        ("corruption.kind", corruption.kind, corruption.needs.columns),
        ("objective.name", objective, of_objective),
    )
    for path, name, names in needed:
        for column in names:
            if column not in columns:
                advice = kind.how_to_offer.get(column, "choose another")
                yield path, f"{name!r} needs rows with {column}, and they have {', '.join(columns)}; {advice}"


def _special_tokens(recipe: Recipe) -> Iterator[Problem]:
    """Special tokens that rows, corruption or objective need and the tokenizer lacks."""
    tokenizer, compose, needs = recipe.tokenizer, recipe.compose, recipe.corruption.needs
    if tokenizer is None or compose is None:
        return
    needed = {
        f"compose.frame {compose.frame}": compose.needs,
        f"corruption.kind {recipe.corruption.kind}": needs.specials,
        f"objective.name {recipe.objective.name}": objectives.entry_of(recipe.objective.name).roles,
    }
    for whose, roles in needed.items():
        for role in roles:
            if role not in tokenizer.roles:
                yield "tokenizer.roles", f"{whose} needs {role}, and there are {', '.join(tokenizer.roles)}; add it"
    if objectives.entry_of(recipe.objective.name).counts and not tokenizer.counts:
        text = f"{tokenizer.kind!r} does not say how often a token occurs, and objective {recipe.objective.name!r} asks"
        yield "tokenizer.kind", f"{text}; set it to word"
    if needs.ends and compose.back is None:
        text = f"{compose.frame}: corruption.kind {recipe.corruption.kind} has rows predicted whole"
        yield "compose.frame", f"{text}, and nothing tells where they end; set it to bos-eos or cls-sep"
    if needs.bare and compose.frame != "none":
        text = f"{compose.frame}: corruption.kind {recipe.corruption.kind} takes all tokens of a row for text"
        yield "compose.frame", f"{text}, these too; set it to none"
    if needs.single and compose.pairs:
        text = f"{compose.kind}: corruption.kind {recipe.corruption.kind} is of rows of one text"
        yield "compose.kind", f"{text}, and would change what stands between two; set it to packed or raw"
    longest = recipe.train.longer.length if recipe.train.longer else compose.length
    sentinels = max(needs.sentinels, recipe.corruption.sentinels(recipe.corruption.raw_length(longest)))
    if sentinels > tokenizer.sentinels:
        whose = f"corruption.kind {recipe.corruption.kind}"
        yield "tokenizer.sentinels", f"{whose} needs {sentinels} in rows of {longest}, found {tokenizer.sentinels}"


def _train(recipe: Recipe) -> Iterator[Problem]:
    """Inconsistencies in `train`."""
    train = recipe.train
    if train.longer and recipe.compose is None:
        yield "train.longer", "is for text, whose rows have lengths; leave it out"
    if train.warmup is not None and train.warmup_steps:
        yield "train.warmup", f"found {train.warmup:g} beside warmup_steps {train.warmup_steps}; set one of the two"
    if train.warmup_steps > train.steps:
        yield "train.warmup_steps", f"{train.warmup_steps} exceeds train.steps {train.steps}"
    if train.evaluate_every and recipe.data.split.validation == 0:
        yield "train.evaluate_every", "needs held-out documents; set data.split.validation above 0"
    if (train.schedule == "warmup-stable-decay") != (train.decay_steps > 0):
        text = f"found {train.decay_steps} with schedule {train.schedule}; it belongs to warmup-stable-decay"
        yield "train.decay_steps", text
    if train.decay_steps > max(0, train.steps - train.warmup_length):
        yield "train.decay_steps", f"{train.decay_steps} exceeds the steps after warm-up"
    if train.start and train.start.step and train.start.step >= train.steps:
        yield "train.steps", f"{train.steps} leaves nothing to train after train.start.step {train.start.step}"
    if train.optimizer in UNDIVIDED and recipe.placement.zero is not None:
        text = f"{train.optimizer} {UNDIVIDED[train.optimizer]}"
        yield "train.optimizer", f"{text}; set placement.zero to null, or use adamw with a rate of its own"
    if objectives.entry_of(recipe.objective.name).sparse and (train.optimizer != "sgd" or train.weight_decay):
        text = (
            f"found {train.optimizer} with weight_decay {train.weight_decay:g}; {recipe.objective.name!r} changes a few"
        )
        yield "train.optimizer", f"{text} rows of its tables in a step: set it to sgd and weight_decay to 0"
    for index, beta in enumerate(train.betas):
        if not 0 <= beta < 1:
            yield f"train.betas.{index}", f"found {beta}; allowed: at least 0 and less than 1"


def _names(jobs: Sequence[Any]) -> Iterator[Problem]:
    """Duplicate names of jobs, names of stages, and the name under which the recipe's own encoder is registered."""
    earlier: set[str] = set()
    for index, job in enumerate(jobs):
        if job.name in earlier:
            yield f"downstream.{index}.name", f"{job.name!r} is the name of an earlier job, too"
        if job.name in STAGES:
            yield f"downstream.{index}.name", f"{job.name!r} is the name of a stage; choose another"
        if job.name == ENCODER:
            yield (
                f"downstream.{index}.name",
                f"{job.name!r} is what the network itself is registered as; choose another",
            )
        earlier.add(job.name)


def _placement(recipe: Recipe) -> Iterator[Problem]:
    """Inconsistencies in `placement`."""
    placement, rows = recipe.placement, recipe.train.global_batch
    if placement.workers > rows:
        yield (
            "placement.workers",
            f"{placement.workers} exceeds train.global_batch {rows}; each needs a row",
        )
    else:
        num_parts = micro_batches(rows, placement.workers, placement.micro_batch)
        group_rows = getattr(objectives.options_of(recipe.objective), "group_rows", 1)
        if text := split_problem(rows, num_parts, placement.workers, group_rows):
            yield "train.global_batch", text
    yield from ((f"placement.{name}", text) for name, text in placement_problems(placement))
    yield from experts.placement_problems(placement, recipe.network)
