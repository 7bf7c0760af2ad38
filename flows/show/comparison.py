"""Prints comparisons: what one would do (`sesame plan`), and its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.show.plan import peak, span
from flows.show.readable import size
from flows.show.summary import grid, short
from pipeline.home import Home
from pipeline.reports.report import PAGE, Report

if TYPE_CHECKING:
    from pipeline.recipe.comparison import Compared


def plan(compared: Compared, home: Home, gpu: str, out: Console) -> None:
    """Print each run: what of it is to do, and what pretraining needs; and their sum. gpu: kind of GPU."""
    from pipeline import dag
    from pipeline.estimate.calibration import Measured
    from pipeline.estimate.estimate import Estimate, estimate
    from pipeline.recipe.recipe import Recipe

    table = Table("arm", "seed", "to do", "pretraining", "memory", box=None, header_style="bold", pad_edge=False)
    needs: dict[str, Estimate] = {}  # by arm: a seed changes neither time nor memory
    measured: Measured = {}  # arms that differ in neither time nor memory share what is measured
    seconds, unknown = 0.0, 0
    for trial in compared.trials:
        recipe = compared.recipe(trial)
        planned = dag.plan(dag.nodes(recipe, home.downloads), home.store())
        missing = [item.node.name for item in planned if item.artifact is None]
        row = [trial.arm, str(trial.seed), ", ".join(missing) or "nothing, all of it is stored"]
        if "pretrain" in missing and isinstance(recipe, Recipe):
            if trial.arm not in needs:
                with out.status("timing a few steps, once for this machine", spinner="dots"):
                    needed = estimate(recipe, planned, home.path, peak(gpu), measured)
                needs |= {trial.arm: needed} if needed is not None else {}
            if trial.arm in needs:
                time, memory = needs[trial.arm].seconds[-1], needs[trial.arm].memory.total
                seconds += time
                row += [span(time), size(int(memory))]
            else:
                unknown += 1
                row.append("known when the shards are made")
        table.add_row(*row)
    out.print(table)
    known = f"{span(seconds)} of pretraining" if seconds else "no pretraining that is known"
    rest = f", and {unknown} runs whose shards are not made yet" if unknown else ""
    out.print(Text(f"\n{len(compared.trials)} runs, one after another: {known}{rest}; jobs come on top", "bold"))


def result(made: Report, folder: Path, out: Console) -> None:
    """Print the scores, the verdict, and where the page is."""
    out.print(Text(f"\n{made.title}", "bold"))
    out.print(grid(made.tables[0]))
    out.print(Text(f"\n{made.verdict}"))
    out.print(Text("\nreport   ", "bold").append(short(folder / PAGE), "not bold"), soft_wrap=True)
