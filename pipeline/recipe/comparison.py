"""A comparison: one recipe with several arms of settings, by several seeds, and the scores that tell which is better.

file  →  the chosen scale is laid over it  →  --set is laid over that  →  checked  →  Comparison

    base       a recipe at a scale
    settings   laid over it for every arm
    arms       laid over that, by name: what is compared
    seeds      every arm is run once with each; a seed gives all arms the same split of the data
    scores     numbers of the runs, each of pretraining or of a job
    expected   orders that papers report, best first
    papers     the papers' own numbers, by arm

`pipeline.reports.comparison` says which orders hold. A `--set` of something that only recipes have is laid over every
arm, last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from data_prep.errors import UserError
from data_prep.settings import Settings
from pipeline import downstream
from pipeline.flatten import flatten
from pipeline.recipe import errors, parse
from pipeline.recipe.load import ARMS, COMPARISONS, SET, Layer, lay, load, origin_of, packaged, read
from pipeline.recipe.recipe import Experiment
from pipeline.slug import SLUG

PRETRAIN = "pretrain"
SEED = "seed"
Arms = dict[str, dict[str, Any]]


class BaseConfig(Settings):
    """The recipe that all arms begin with."""

    recipe: str
    """Its name, or the path of a file."""
    scale: str | None = None
    """One of its scales; null: its default."""


class ScoreConfig(Settings):
    """A number by which arms are compared."""

    name: str = Field(min_length=1)
    """Heading of its column."""
    stage: str = PRETRAIN
    """Where it comes from: pretrain, or the name of a job."""
    number: str = Field(min_length=1)
    """Its name in the summary of that stage, such as validation/loss or F1/pretrained_400."""
    better: Literal["higher", "lower"] = "higher"
    """Which values are better."""
    judged: bool = True
    """Whether orders are judged by it; else it is only shown, such as a baseline or a loss of tasks that differ."""


class PaperConfig(Settings):
    """Published numbers to compare ours with."""

    source: str = Field(min_length=1)
    """Authors, year, table."""
    scores: dict[str, dict[str, float]] = Field(min_length=1)
    """Columns of that table by heading: the number of each arm that it has."""


class Comparison(Settings):
    """What is compared, and by what."""

    name: str = Field(pattern=SLUG)
    """Short name; a packaged comparison's file name."""
    title: str = ""
    """One line for a list of recipes."""
    reproduces: str = ""
    """The papers whose question it asks."""
    scale: str | None = None
    """Which scale was chosen."""
    about: str = ""
    """What to know before reading the result."""
    base: BaseConfig
    """The recipe that all arms begin with."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Changes to it that all arms share."""
    arms: Arms = Field(min_length=1)
    """Changes on top of these, by the arm's name."""
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    """Seeds of the runs of each arm."""
    scores: list[ScoreConfig] = Field(min_length=1)
    """Numbers of the runs; the first judged one names the best arm."""
    against: tuple[str, str] | None = Field(default=None, strict=False)
    """Two scores to draw against each other, one point for each run."""
    expected: list[list[str]] = Field(default_factory=list)
    """Orders of arms that papers report, each with the best first."""
    papers: list[PaperConfig] = Field(default_factory=list)
    """Papers' own numbers."""

    @model_validator(mode="after")
    def _consistent(self) -> Comparison:
        problems = list(self._problems())
        if problems:
            raise errors.InconsistentError(problems)
        return self

    def _problems(self) -> Iterator[tuple[str, str]]:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            yield "seeds", f"found {self.seeds}; give different whole numbers from 0 on"
        for path, changes in {"settings": self.settings, **{f"{ARMS}.{n}": a for n, a in self.arms.items()}}.items():
            if SEED in changes:
                yield f"{path}.{SEED}", "the seeds of a comparison are given by seeds; leave it out"
        yield from self._problems_of_orders()
        known = [score.name for score in self.scores]
        for place, name in enumerate(known):
            if name in known[:place]:
                yield f"scores.{place}.name", f"{name!r} is the name of an earlier score, too"
        for place, name in enumerate(self.against or ()):
            if name not in known:
                yield f"against.{place}", f"found {name!r}; the scores are {', '.join(known)}"

    def _problems_of_orders(self) -> Iterator[tuple[str, str]]:
        """Names in `expected` and `papers` that are no arms."""
        places = {f"expected.{place}": order for place, order in enumerate(self.expected)}
        for path, order in places.items():
            if len(order) < 2 or len(set(order)) < len(order):
                yield path, f"found {order}; an order has two arms or more, each once"
        for place, paper in enumerate(self.papers):
            places |= {f"papers.{place}.scores.{column}": list(numbers) for column, numbers in paper.scores.items()}
        for path, order in places.items():
            for name in order:
                if name not in self.arms:
                    yield path, f"{name!r} is no arm; the arms are {', '.join(self.arms)}"


class Trial(NamedTuple):
    """An arm with a seed: one ordinary run."""

    arm: str
    seed: int


class ComparisonSummary(NamedTuple):
    """A packaged comparison as a line of a table."""

    name: str
    title: str
    reproduces: str
    base: str
    scales: list[str]


@dataclass(frozen=True)
class Compared:
    """A comparison as it was asked for. overrides: settings of all arms that the user gave by --set."""

    comparison: Comparison
    where: str
    overrides: Sequence[str] = ()

    @property
    def trials(self) -> list[Trial]:
        """All runs, seed by seed, so that one that is cut short has compared all arms."""
        return [Trial(arm, seed) for seed in self.comparison.seeds for arm in self.comparison.arms]

    def recipe(self, trial: Trial) -> Experiment:
        """The recipe of an arm with a seed. UserError naming the file and the key."""
        base = self.comparison.base
        return load(base.recipe, base.scale, self.overrides, layers=self._layers(trial))

    def settings(self, trial: Trial) -> list[str]:
        """The same as `path=value`, for who reads what a run was asked for."""
        changes: dict[str, Any] = {}
        for layer in self._layers(trial):
            parse.lay_over(changes, layer.changes, layer.label)
        return [*(f"{path}={json.dumps(value)}" for path, value in flatten(changes).items()), *self.overrides]

    def to_yaml(self) -> str:
        """The comparison with every default filled in, as a file that `find` reads back."""
        given = nested(dict(map(parse.parse_setting, self.overrides)))
        settings = nested(self.comparison.settings)
        parse.lay_over(settings, given, SET)
        return parse.dump({**self.comparison.model_dump(mode="json"), "settings": settings})

    def checked(self) -> Compared:
        """Itself, if every arm is a recipe whose stages make every score. UserError otherwise, before anything runs."""
        self._check_overrides()
        recipes: dict[str, Experiment] = {}
        for arm in self.comparison.arms:
            recipe = self.recipe(Trial(arm, self.comparison.seeds[0]))
            twin = next((name for name, other in recipes.items() if other.science() == recipe.science()), None)
            if twin is not None:
                raise UserError(f"{self.where}: {ARMS}.{arm}: the same recipe as {twin!r}; there is nothing to compare")
            recipes[arm] = recipe
            for place, score in enumerate(self.comparison.scores):
                problem = _score_problem(recipe, score)
                if problem:
                    raise UserError(f"{self.where}: scores.{place}.{problem} (arm {arm!r})")
        return self

    def _check_overrides(self) -> None:
        differing = {path for arm in self.comparison.arms.values() for path in flatten(nested(arm))} - {""}
        for override in self.overrides:
            path = parse.parse_setting(override)[0]
            if path == SEED or any(_touch(path, other) for other in differing):
                what = "seeds says it" if path == SEED else "the arms differ in it"
                raise UserError(f"--set {override}: {what}; leave it out")

    def _layers(self, trial: Trial) -> list[Layer]:
        return [
            Layer(f"{self.where}: settings.", self.comparison.settings),
            Layer(f"{self.where}: {ARMS}.{trial.arm}.", self.comparison.arms[trial.arm]),
            Layer(f"{self.where}: seeds: ", {SEED: trial.seed}),
        ]


def is_comparison(name_or_path: str | Path) -> bool:
    """Whether a file says what to compare, and not one recipe. UserError if there is no such file."""
    return ARMS in read(name_or_path)[0]


def find(name_or_path: str | Path, scale: str | None = None, overrides: Sequence[str] = ()) -> Compared:
    """A packaged comparison by name, or a file by path, checked as a whole. Raises UserError as `load` does."""
    data, where = read(name_or_path)
    _part(data)
    touched = lay(Comparison, data, where, scale, [])
    of_recipes = []
    for override in overrides:
        path, value = parse.parse_setting(override)
        first = path.partition(".")[0]
        if first in ("scale", "scales"):
            raise UserError(f"--set {override}: choose a scale with --scale")
        if first in Comparison.model_fields:
            touched.append((SET, parse.lay_over(data, {path: value}, f"--set {override}")))
        else:
            of_recipes.append(override)
    try:
        comparison = Comparison.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise errors.user_error(error, data, Comparison, origin_of(where, touched)) from None
    return Compared(comparison, where, of_recipes).checked()


def comparisons() -> list[ComparisonSummary]:
    """The packaged comparisons, by name."""
    listings = []
    for file in packaged(COMPARISONS):
        data = parse.parse(file.read_text(encoding="utf-8"), file.name)
        base, scales = data["base"]["recipe"], list(data.get("scales", {}))
        listings.append(
            ComparisonSummary(data["name"], data.get("title", ""), data.get("reproduces", ""), base, scales)
        )
    return listings


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes without dotted keys: `{"train.lr": 1}` is `{"train": {"lr": 1}}`."""
    whole: dict[str, Any] = {}
    parse.lay_over(whole, dict(changes), "settings")
    return whole


def _part(data: dict[str, Any]) -> None:
    """Part the dotted keys of settings, in place, so that a scale or --set can change a part of them."""
    arms = data[ARMS] if isinstance(data.get(ARMS), dict) else {}
    for section, names in ((data, ("settings",)), (arms, tuple(arms))):
        for name in names:
            if isinstance(section.get(name), dict):
                section[name] = nested(section[name])


def _score_problem(recipe: Experiment, score: ScoreConfig) -> str:
    """Why no run of a recipe can have a score: the key and a sentence; empty if it can."""
    jobs = {job.name: job for job in recipe.downstream}
    if score.stage != PRETRAIN and score.stage not in jobs:
        return f"stage: found {score.stage!r}; the arm has {', '.join([PRETRAIN, *jobs])}"
    of_job = jobs.get(score.stage)
    made = downstream.OF_PRETRAINING if of_job is None else downstream.numbers_of(of_job)
    if made is not None and not downstream.is_among(score.number, made):
        return f"number: found {score.number!r}; {score.stage} makes {', '.join(made)}"
    return ""


def _touch(path: str, other: str) -> bool:
    """Whether one of two paths is the other or in it."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")
