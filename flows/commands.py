"""The commands. Heavy libraries are imported only by the commands that need them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from data_prep.errors import UserError
from flows import making
from flows.exit_codes import FAILED, INTERRUPTED, TERMINATED, usage
from flows.machine import prefect_server
from flows.machine.environment import prepare
from flows.machine.signals import terminated, terminations_as_interrupts
from flows.show.console import elapsed, new_console, say
from pipeline import runs as records
from pipeline.home import Home
from pipeline.recipe.init import PRETRAINING_ALONE
from pipeline.recipe.load import recipes as packaged
from pipeline.recipe.recipe import Experiment, Recipe

if TYPE_CHECKING:
    from pipeline.recipe.comparison import Compared

out = new_console()


def _with_workers(settings: Sequence[str], workers: int | None) -> Sequence[str]:
    """`--workers N` is short for a setting."""
    return settings if workers is None else [*settings, f"placement.workers={workers}"]


def _load(recipe: str, scale: str | None, settings: Sequence[str]) -> Experiment:
    """Load a recipe; a mistake in it is a usage error."""
    from pipeline.recipe.load import load

    with usage():
        return load(recipe, scale, settings)


def _comparison(name: str, scale: str | None, settings: Sequence[str]) -> Compared | None:
    """A comparison, checked as a whole; None if it is a recipe. A mistake in it is a usage error."""
    from pipeline.recipe import comparison

    with usage():
        return comparison.find(name, scale, settings) if comparison.is_comparison(name) else None


def sweep(
    recipe: str, over: Sequence[str], scale: str | None, settings: Sequence[str], workers: int | None, as_json: bool
) -> None:
    from flows import compare

    with usage():
        swept = compare.sweep_of(recipe, scale, _with_workers(settings, workers), over)
    compare.run(swept, as_json)


def recipes() -> None:
    from pipeline.recipe.comparison import comparisons

    table = Table("recipe", "reproduces", "data", "scales", box=None, header_style="bold", pad_edge=False)
    for recipe in packaged():
        name = Text(recipe.name, "bold cyan").append(f"\n{recipe.title}", "not bold default")
        table.add_row(name, recipe.reproduces, recipe.data, "\n".join(recipe.scales) or "one")
    for comparison in comparisons():
        name = Text(comparison.name, "bold cyan").append(f"\n{comparison.title}", "not bold default")
        table.add_row(name, comparison.reproduces, f"arms of {comparison.base}", "\n".join(comparison.scales) or "one")
    out.print(table)


def show(recipe: str, scale: str | None, settings: Sequence[str]) -> None:
    loaded = _comparison(recipe, scale, settings) or _load(recipe, scale, settings)
    out.print(loaded.to_yaml(), end="", soft_wrap=True)


def plan(
    recipe: str, scale: str | None, settings: Sequence[str], workers: int | None, gpus: int | None, gpu: str
) -> None:
    from flows.show import comparison as shown_comparison
    from flows.show import plan as shown
    from pipeline.estimate.published_systems import SYSTEMS

    with usage():
        shown.check_gpu(gpu)
        if recipe in SYSTEMS:
            if scale or settings or workers:
                raise UserError(f"{recipe} is a published system: it takes --gpus and --gpu alone.")
            shown.system(recipe, gpus, gpu, out)
            return
        if gpus is not None:
            raise UserError("--gpus is for published systems; a recipe's workers are set by --workers.")
    settings = _with_workers(settings, workers)
    comparison = _comparison(recipe, scale, settings)
    home = Home.find()
    if comparison is not None:
        prepare(home.prefect)
        shown_comparison.plan(comparison, home, gpu, out)
        return
    loaded = _load(recipe, scale, settings)
    prepare(home.prefect)
    from flows import starting

    for earlier in (first := starting.to_train(loaded, settings, home)):
        shown.recipe(earlier, home, gpu, out)
    if first:
        out.print(f"{loaded.name} starts from what is trained above; its own stages are planned once that is stored.")
        return
    if more := starting.stored_settings(loaded, settings, home):
        loaded = _load(recipe, scale, [*settings, *more])
    shown.recipe(loaded, home, gpu, out)


def run(
    recipe: str,
    scale: str | None,
    settings: Sequence[str],
    workers: int | None,
    extend: bool,
    start: str | None,
    as_json: bool,
) -> None:
    settings = _with_workers(settings, workers)
    comparison = _comparison(recipe, scale, settings)
    if comparison is not None:
        from flows import compare

        with usage():
            if extend or start:
                raise UserError(f"{comparison.where}: a comparison takes neither --extend nor --from.")
        compare.run(comparison, as_json)
        return
    settings = [*_started(recipe, start), *settings]
    loaded = _load(recipe, scale, settings)
    more = _network_of_first(loaded, settings, as_json)
    if extend or start:
        more += _branch(loaded, extend, start)
    if more:
        settings = [*settings, *more]
        loaded = _load(recipe, scale, settings)
    _run(loaded, (recipe, scale, settings), as_json)


def submit(
    recipe: str,
    address: str,
    scale: str | None,
    settings: Sequence[str],
    workers: int | None,
    extend: bool,
    start: str | None,
    home: str | None,
) -> None:
    settings = [*_with_workers(settings, workers)]
    loaded = _load(recipe, scale, [*_started(recipe, start), *settings])
    from flows import submit as submission

    if loaded.placement.ray_address is None:
        settings.append("placement.ray_address=auto")
    arguments = [f"--scale={scale}"] if scale else []
    arguments += [f"--set={setting}" for setting in settings]
    arguments += ["--extend"] if extend else []
    arguments += [f"--from={start}"] if start else []
    request = submission.Request(loaded, recipe, arguments, home)
    try:
        with terminations_as_interrupts():
            code = submission.submit(request, submission.connect(address), say)
    except KeyboardInterrupt:
        code = TERMINATED if terminated.is_set() else INTERRUPTED
    sys.exit(code)


def _started(recipe: str, start: str | None) -> list[str]:
    """Settings that take the network that --from names; none where it names a step, or nothing."""
    from flows import starting

    with usage():
        return starting.asked_settings(recipe, start)


def _network_of_first(recipe: Experiment, settings: Sequence[str], as_json: bool) -> list[str]:
    """Settings that take the network that the recipe names, which is made first; none if it names none."""
    from flows import starting

    home, console = Home.find(), new_console(stderr=True) if as_json else out

    def make(earlier: Recipe, name_or_path: str) -> records.Run:
        prepare(home.prefect)
        console.print(Text(f"{recipe.name} starts from the network of {earlier.name}, which is trained first", "bold"))
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            return making.carry_out(home, earlier, (name_or_path, earlier.scale, [PRETRAINING_ALONE]), console)

    return starting.made_settings(recipe, settings, home, make)


def _branch(recipe: Experiment, extend: bool, start: str | None) -> list[str]:
    """Settings that make a recipe continue from a checkpoint."""
    from pipeline import start_from

    home = Home.find()
    with usage():
        if extend and start:
            raise UserError("--extend and --from both say where to start; give one of them.")
        if start and start_from.FROM.fullmatch(start) is None:
            return []  # it names a network
        if not isinstance(recipe, Recipe):
            raise UserError(f"{recipe.name} trains no network that could go on; --from takes the name of a network.")
        if start:
            return start_from.start_settings(recipe, home.store(), home.downloads, start)
        return start_from.extension_settings(recipe, home.store(), home.downloads)


def resume(run: str, as_json: bool) -> None:
    home = Home.find()
    with usage():
        record = records.find(home.runs, run)
    _run(records.recipe_of(home.runs, record), (str(home.runs / f"{record.run_id}.yaml"), None, ()), as_json)


def _run(recipe: Experiment, asked: tuple[str, str | None, Sequence[str]], as_json: bool) -> None:
    home = Home.find()
    prepare(home.prefect)
    # With --json, standard output only has the object, whatever libraries print.
    console = new_console(stderr=True) if as_json else out
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        record = making.made(home, recipe, asked, console)
    if as_json:
        print(json.dumps(record.public()))
    else:
        from flows.show.summary import summarise

        summarise(record, console)


def list_runs() -> None:
    found_runs = records.all_runs(Home.find().runs)
    if not found_runs:
        out.print("no runs yet; `sesame run quickstart` makes one")
        return
    styles = {records.DONE: "green", records.FAILED: "red", records.INTERRUPTED: "yellow", records.RUNNING: "cyan"}
    table = Table("run", "scale", "status", "started", "took", "made", box=None, header_style="bold", pad_edge=False)
    table.columns[0].no_wrap = True
    for record in found_runs:
        num_made = sum(not stage.reused for stage in record.stages.values())
        table.add_row(
            record.run_id,
            record.scale or "–",
            Text(record.status, styles[record.status]),
            time.strftime("%m-%d %H:%M", time.localtime(record.started)),
            elapsed(record.seconds),
            f"{num_made} of {len(record.stages)}",
        )
    out.print(table)


def report(run: str) -> None:
    home = Home.find()
    with usage():
        record = records.find(home.runs, run)
    stage = record.stages.get("report")
    if stage is None:
        raise UserError(f"run {record.run_id} {record.status} before its report; `sesame resume {record.run_id}`.")
    artifact = home.store().resolve(stage.artifact)
    out.print(Markdown((artifact.path / "report.md").read_text(encoding="utf-8"), hyperlinks=False))
    out.print(Text(f"\n{artifact.path / 'report.md'}", "dim"))


def score(
    model: str, files: Sequence[str], out_file: str | None, ledger: str | None, hook: str | None, as_json: bool
) -> None:
    if (out_file is None) == (ledger is None):
        with usage():
            raise UserError("give either --out FILE, for all rows, or --ledger FOLDER, for those that are new.")
    home = Home.find()
    prepare(home.prefect)
    if ledger is not None:
        prefect_server.begin(home.prefect)
        from flows import score as scores

        prefect_server.wait(home.prefect)
        outcome = scores.score(model, list(files), ledger, hook)
    else:
        from flows import score as scores

        folder, console = scores.detector_of(model, home), new_console(stderr=True)
        with console.status("scoring") as status:
            out_path = Path(str(out_file)).expanduser()
            tally = scores.to_file(
                folder, files, out_path, home.downloads, lambda message: status.update(Text(message))
            )
        outcome = {"rows": tally.rows, "alarms": tally.alarms, "rejected": tally.rejected, "out": out_file}
        outcome |= {"lost": tally.lost, "left_out": scores.left_out(folder, files)}
    _say_scored(outcome, as_json)
    if outcome["rejected"] and not outcome["rows"]:
        sys.exit(FAILED)  # not one row could be read


def _say_scored(outcome: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(outcome))
        return
    alarms = f"{outcome['alarms']:,} alarm{'' if outcome['alarms'] == 1 else 's'}"
    hint = " (the column `rejected` says why)" if outcome["rejected"] else ""
    out.print(f"{outcome['rows']:,} rows, {alarms}, {outcome['rejected']:,} rows that could not be read{hint}")
    if "out" in outcome:
        from flows.show.scores import show_alarms

        show_alarms(Path(outcome["out"]).expanduser(), out)
    for line in (*outcome.get("news", ()), *outcome.get("lost", ()), outcome["left_out"]):
        if line:
            out.print(Text(line, "yellow"))
    for name, rows in outcome.get("known", {}).items():
        out.print(Text(f"{name}: {rows:,} rows are as they were scored before, here or elsewhere; not scored again"))


def sample(model: str, file: str, count: int, seed: int) -> None:
    from flows.inference import sample as samples

    shape = samples.draw(model, count, Path(file).expanduser(), seed)
    what = f"images of {'×'.join(map(str, shape[1:]))} pixels" if len(shape) == 3 else f"rows of {shape[0]} features"
    out.print(f"{file}: {count:,} {what}", soft_wrap=True)


def doctor() -> None:
    from flows.machine import doctor as examination

    results = examination.examine(Home.find().path)
    examination.show(results, out)
    if any(result.ok is False for result in results):
        sys.exit(FAILED)
