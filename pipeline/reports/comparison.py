"""The report of a comparison: arms and scores next to the papers' numbers, figures, and which rankings hold."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.reports import data as figures
from pipeline.reports.orders import HOLDS, OPEN, REVERSED, Block, Order, block_of, judged, pairs_of
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.spread import mean_and_spread

if TYPE_CHECKING:
    from pipeline.recipe.comparison import Comparison, ScoreConfig

CURVES, SCORES, AGAINST = "curves.png", "scores.png", "against.png"
RULE = (
    "An order holds, or is reversed, where the difference of the means is beyond the 95 % interval that the seeds give "
    "(two-way analysis of arms and seeds; one interval for each difference)."
)
OF_PAPERS = (
    " Columns with a number in brackets are published, of networks and data many times as large: compare orders alone."
)


@dataclass
class Result:
    """What one run of an arm gave."""

    arm: str
    seed: int
    settings: list[str] = field(default_factory=list)
    run_id: str = ""
    artifact: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    speed: str = ""
    seconds: float = 0.0
    error: str = ""


def build(
    compared: Comparison, results: Sequence[Result], curves: Mapping[str, Sequence[Sequence[Any]]], folder: Path
) -> Report:
    """Draws into `folder`. curves: by arm, the records of each of its runs' metrics logs."""
    blocks = {score.name: block_of(_values(compared, results, score.name)) for score in compared.scores}
    pairs = pairs_of(compared.expected)
    orders = {
        score.name: judged(blocks[score.name], pairs, score.better == "higher")
        for score in compared.scores
        if score.judged
    }
    return Report(
        title=compared.title or compared.name,
        about=_about(compared, results),
        tables=[_main(compared, results), *_orders(orders), _runs(compared, results)],
        figures=_figures(compared, results, curves, folder),
        verdict=_verdict(compared, results, blocks, orders),
        numbers=_numbers(compared, results, orders),
        notes={
            "name": compared.name,
            "scale": compared.scale,
            "seeds": list(compared.seeds),
            "results": [asdict(result) for result in results],
            "orders": {
                name: [{**asdict(order), "outcome": order.outcome} for order in of_score]
                for name, of_score in orders.items()
            },
        },
    )


def of_arm(results: Sequence[Result], arm: str, score: str) -> list[float]:
    """The values of an arm's runs."""
    return [result.scores[score] for result in results if result.arm == arm and score in result.scores]


def _values(compared: Comparison, results: Sequence[Result], score: str) -> dict[str, dict[int, float]]:
    return {
        arm: {result.seed: result.scores[score] for result in results if result.arm == arm and score in result.scores}
        for arm in compared.arms
    }


def _about(compared: Comparison, results: Sequence[Result]) -> str:
    base = compared.base
    scale = f" at scale {base.scale}" if base.scale else ""
    seeds = f"{len(compared.seeds)} seed{'s' if len(compared.seeds) > 1 else ''}"
    papers = "".join(f"\n\n[{number}] {paper.source}." for number, paper in enumerate(compared.papers, start=1))
    what = f"Recipe {base.recipe}{scale}, {len(compared.arms)} arms, {seeds}; mean ± standard deviation over seeds."
    rule = RULE + (OF_PAPERS if compared.papers else "")
    failed = sum(bool(result.error) for result in results)
    lost = f" {failed} of {len(results)} runs failed and are named below." if failed else ""
    return "\n\n".join(filter(None, [compared.about.strip(), what + lost, rule])) + papers


def _main(compared: Comparison, results: Sequence[Result]) -> Table:
    columns = ["arm", *(_heading(score) for score in compared.scores)]
    columns += [f"{column} [{n}]" for n, paper in enumerate(compared.papers, start=1) for column in paper.scores]
    best, rows = _best(compared, results), []
    for arm in compared.arms:
        row = [f"**{arm}**" if arm == best else arm]
        row += [mean_and_spread(of_arm(results, arm, score.name)) for score in compared.scores]
        row += [
            str(numbers[arm]) if arm in numbers else "–"
            for paper in compared.papers
            for numbers in paper.scores.values()
        ]
        rows.append(row)
    return Table("Scores", columns, rows)


def _heading(score: ScoreConfig) -> str:
    return f"{score.name} ({'↑' if score.better == 'higher' else '↓'})" if score.judged else score.name


def _orders(orders: Mapping[str, Sequence[Order]]) -> list[Table]:
    rows = [
        [f"{order.first} before {order.second}", score, f"{order.gain:+.4f}", _margin(order.margin), order.outcome]
        for score, of_score in orders.items()
        for order in of_score
    ]
    return [Table("Orders that papers report", ["order", "by", "gain", "seeds make", "it"], rows)] if rows else []


def _margin(margin: float) -> str:
    return f"{margin:.4f}" if margin < float("inf") else "not known"


def _runs(compared: Comparison, results: Sequence[Result]) -> Table:
    columns = ["arm", "seed", *(score.name for score in compared.scores), "speed", "run", "pretraining"]
    rows = [
        [
            result.arm,
            str(result.seed),
            *(mean_and_spread([result.scores[s.name]] if s.name in result.scores else []) for s in compared.scores),
            result.speed or "–",
            result.run_id or "–",
            result.artifact or f"failed: {result.error}",
        ]
        for result in results
    ]
    return Table("Runs", columns, rows)


def _best(compared: Comparison, results: Sequence[Result]) -> str | None:
    """The arm with the best mean of the first judged score."""
    score = next((score for score in compared.scores if score.judged), compared.scores[0])
    means = {arm: statistics.fmean(v) for arm in compared.arms if (v := of_arm(results, arm, score.name))}
    choose = max if score.better == "higher" else min
    return choose(means, key=means.__getitem__) if means else None


def _verdict(
    compared: Comparison,
    results: Sequence[Result],
    blocks: Mapping[str, Block],
    orders: Mapping[str, Sequence[Order]],
) -> str:
    """Which orders hold by each score; without any, which arm is best and what it can be told apart from."""
    sentences = []
    for score in compared.scores:
        if not score.judged:
            continue
        if orders.get(score.name):
            sentences.append(_of_orders(score, orders[score.name]))
        elif not compared.expected:
            sentences.append(_of_best(score, blocks[score.name]))
        else:
            sentences.append(f"By {score.name} nothing can be compared: no seed has it for all arms.")
    outcomes = [order.outcome for of_score in orders.values() for order in of_score]
    if outcomes:
        count = {outcome: outcomes.count(outcome) for outcome in (HOLDS, REVERSED, OPEN)}
        sentences.append(
            f"In all, {count[HOLDS]} of {len(outcomes)} orders hold, {count[REVERSED]} are reversed and {count[OPEN]} "
            f"cannot be told from {_seeds(compared)}."
        )
    sentences += _correlation(compared, blocks)
    failed = dict.fromkeys(result.arm for result in results if result.error)
    if failed:
        sentences.append(f"Runs of {', '.join(failed)} failed.")
    return " ".join(sentences)


def _correlation(compared: Comparison, blocks: Mapping[str, Block]) -> list[str]:
    """How the arms' means of the two scores of `against` go together, as a sentence."""
    if compared.against is None:
        return []
    x, y = (blocks[name].means() if blocks[name].seeds else {} for name in compared.against)
    arms = [arm for arm in x if arm in y]
    if len(arms) < 3 or len({x[arm] for arm in arms}) < 2 or len({y[arm] for arm in arms}) < 2:
        return []
    from scipy.stats import spearmanr

    rank, _ = spearmanr([x[arm] for arm in arms], [y[arm] for arm in arms])
    return [f"Over {len(arms)} arms {compared.against[1]} and {compared.against[0]} have Spearman's ρ = {rank:+.2f}."]


def _seeds(compared: Comparison) -> str:
    return f"{len(compared.seeds)} seeds" if len(compared.seeds) > 1 else "one seed, which shows no spread"


def _of_orders(score: ScoreConfig, orders: Sequence[Order]) -> str:
    phrases = []
    for outcome in (HOLDS, REVERSED, OPEN):
        named = [f"{o.first} before {o.second} ({o.gain:+.3f})" for o in orders if o.outcome == outcome]
        if named:
            phrases.append(f"{', '.join(named)} {outcome if len(named) == 1 else _MANY[outcome]}")
    within = f" (seeds make {orders[0].margin:.3f})" if orders[0].margin < float("inf") else ""
    return f"By {score.name}{within}: {'; '.join(phrases)}."


_MANY = {HOLDS: "hold", REVERSED: "are reversed", OPEN: OPEN}


def _of_best(score: ScoreConfig, block: Block) -> str:
    means = block.means() if block.seeds else {}
    if not means:
        return f"By {score.name} nothing can be compared."
    best = (max if score.better == "higher" else min)(means, key=means.__getitem__)
    lead = f"{'Highest' if score.better == 'higher' else 'Lowest'} {score.name}: {best}"
    if len(block.seeds) < 2 or len(means) < 2:
        return f"{lead} (one seed, so no order can be told)." if len(means) > 1 else f"{lead}."
    others = [arm for arm in means if arm != best]
    apart = [
        o.second for o in judged(block, [(best, a) for a in others], score.better == "higher") if o.outcome != OPEN
    ]
    near = [arm for arm in others if arm not in apart]
    clear = f", beyond the spread of seeds from {', '.join(apart)}" if apart else ""
    open_ = f", not told apart from {', '.join(near)}" if near else ""
    return f"{lead}{clear}{open_}."


def _numbers(
    compared: Comparison, results: Sequence[Result], orders: Mapping[str, Sequence[Order]]
) -> dict[str, float]:
    means = {
        f"{score.name}/{arm}": statistics.fmean(values)
        for score in compared.scores
        for arm in compared.arms
        if (values := of_arm(results, arm, score.name))
    }
    outcomes = [order.outcome for of_score in orders.values() for order in of_score]
    names = {HOLDS: "hold", REVERSED: "reversed", OPEN: "open"}
    return means | {f"orders/{name}": float(outcomes.count(outcome)) for outcome, name in names.items() if outcomes}


def _figures(
    compared: Comparison, results: Sequence[Result], curves: Mapping[str, Sequence[Sequence[Any]]], folder: Path
) -> list[Figure]:
    drawn = []
    series = {
        score.name: {arm: values for arm in compared.arms if (values := of_arm(results, arm, score.name))}
        for score in compared.scores
    }
    shown = {score.name: series[score.name] for score in compared.scores if score.judged and series[score.name]}
    if shown:
        figures.scores_by_arm(shown, folder / SCORES)
        drawn.append(Figure("scores of each arm: seeds and their mean", SCORES))
    if compared.against:
        x, y = compared.against
        points = {
            arm: [(r.scores[x], r.scores[y]) for r in results if r.arm == arm and {x, y} <= set(r.scores)]
            for arm in compared.arms
        }
        if any(points.values()):
            figures.against((x, y), points, folder / AGAINST)
            drawn.append(Figure(f"{y} against {x}", AGAINST))
    if curves:
        figures.losses_by_arm(curves, folder / CURVES)
        drawn.append(Figure("loss of each arm", CURVES))
    return drawn
