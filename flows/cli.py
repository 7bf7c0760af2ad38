"""The command line. It only parses; the commands are in modules that are imported when one is run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.exit_codes import FAILED
from flows.inference import command_line as asked
from flows.machine import environment

app = typer.Typer(
    name="sesame",
    help="Self-supervised learning: unlabelled data in, useful networks out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="A recipe's name, or the path of your own YAML file.")]
AnyRecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe's or comparison's name, or the path of your own YAML file.")
]
ScaleOption = Annotated[str | None, typer.Option("--scale", "-s", help="Size of the run: one of the recipe's scales.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting: train.steps=500.")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", "-w", min=1, help="Training processes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON object as the last output.")]
ArtifactArgument = Annotated[str, typer.Argument(help="An artifact's key, or the beginning of it.")]
RunArgument = Annotated[str, typer.Argument(help="A run's id, the beginning of it, or `last`.")]


@app.command()
def recipes() -> None:
    """List the recipes, then the comparisons: what each reproduces, on which data, at which scales."""
    from flows import commands

    commands.recipes()


@app.command()
def show(recipe: AnyRecipeArgument, scale: ScaleOption = None, set_: SetOption = None) -> None:
    """Print a recipe as it would run, every default filled in."""
    from flows import commands

    commands.show(recipe, scale, set_ or [])


@app.command()
def settings(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A section or key: train, downstream.anomaly …")] = "",
) -> None:
    """List the settings of recipes: keys, kinds and names to choose from, defaults."""
    from flows.show import settings as shown

    shown.show(path)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe, a comparison, or a published system: gpt3-175b, …")],
    scale: ScaleOption = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs for a published system (default: the fewest).")] = None,
    gpu: Annotated[str, typer.Option(help="Their kind: H100, H200, A100, …")] = "H100",
) -> None:
    """Show what a run would do: stages stored or to run, why, memory, time; or the cluster of a published system."""
    from flows import commands

    commands.plan(recipe, scale, set_ or [], workers, gpus, gpu)


@app.command()
def run(
    recipe: AnyRecipeArgument,
    scale: ScaleOption = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Continue from the end of a run with fewer train.steps.")
    ] = False,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="[KEY@]STEP|FOLDER",
            help="Continue from a checkpoint of this or another run, or from a network: a folder, a run or a model.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a recipe, or all runs of a comparison: make what is missing, reuse the rest, and report."""
    from flows import commands

    commands.run(recipe, scale, set_ or [], workers, extend, from_, json)


@app.command()
def submit(
    recipe: RecipeArgument,
    address: Annotated[
        str,
        typer.Option(
            envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
            metavar="URL",
            help="Ray's server of jobs: http://HOST:8265.",
        ),
    ],
    scale: ScaleOption = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
    extend: Annotated[bool, typer.Option("--extend", help="As for `run`.")] = False,
    from_: Annotated[str | None, typer.Option("--from", metavar="[KEY@]STEP|FOLDER", help="As for `run`.")] = None,
    home: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Home on the cluster (default: its SESAME_HOME).")
    ] = None,
) -> None:
    """Run a recipe on a Ray cluster, as a job: its log and exit code come here, and Ctrl-C stops it."""
    from flows import commands

    commands.submit(recipe, address, scale, set_ or [], workers, extend, from_, home)


@app.command()
def sweep(
    recipe: RecipeArgument,
    over: Annotated[list[str], typer.Option(metavar="PATH=VALUE,VALUE", help="A setting and its values.")],
    scale: ScaleOption = None,
    set_: SetOption = None,
    workers: WorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Pretrain with every combination of some settings and compare the held-out losses."""
    from flows import commands

    commands.sweep(recipe, over, scale, set_ or [], workers, json)


@app.command()
def resume(run: RunArgument, json: JsonOption = False) -> None:
    """Resume a run that failed or was interrupted, from its newest checkpoint."""
    from flows import commands

    commands.resume(run, json)


@app.command()
def runs() -> None:
    """List the runs."""
    from flows import commands

    commands.list_runs()


@app.command()
def report(run: RunArgument = "last") -> None:
    """Show a run's report."""
    from flows import commands

    commands.report(run)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN…", help="Runs, jobs of runs (RUN/JOB), or files of predictions.")
    ],
    json: JsonOption = False,
) -> None:
    """Compare the predictions of runs with those of the first one: scores, differences, significance."""
    from flows.show import differences

    differences.show(runs, json)


@app.command("peek", hidden=True)
@app.command()
def inspect(
    artifact: ArtifactArgument,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Examples to show.")] = 4,
    start: Annotated[int, typer.Option(min=0, help="Number of the first one.")] = 0,
    split: Annotated[str, typer.Option(help="train, longer, validation or test.")] = "train",
    recipe: Annotated[
        str | None, typer.Option(help="Corrupt shards as this recipe does (default: as the newest run did).")
    ] = None,
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of training whose random draws are shown.")] = 0,
) -> None:
    """Show an artifact's examples in readable form, augmented and corrupted as in training."""
    from flows import artifacts

    artifacts.inspect(artifact, rows, start, split, recipe, epoch)


@app.command()
def stats(
    artifact: ArtifactArgument,
    split: Annotated[
        str, typer.Option(help="Which one to show in detail: train, longer, validation or test.")
    ] = "train",
    json: JsonOption = False,
) -> None:
    """Show statistics of shards, a corpus or a tokenizer: tokens, lengths, sources, rejects."""
    from flows import artifacts

    artifacts.stats(artifact, split, json)


@app.command()
def score(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name of a recipe (its best detector), key of an anomaly job, or a detector's folder."
        ),
    ],
    files: Annotated[list[str], typer.Argument(metavar="FILES", help="Files, folders or globs of rows or documents.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Arrow file for the scores of all rows.")
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Instead: folder to which scores of new rows are appended, each row once."),
    ] = None,
    book: Annotated[str | None, typer.Option(metavar="FOLDER", hidden=True)] = None,
    hook: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="With --ledger: gets alarms and drift as JSON on its standard input."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Score rows by how unusual they are: a score, a flag and the reasons for each."""
    from flows import commands

    commands.score(model, files, out, ledger or book, hook, json)


@app.command()
def sample(
    model: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Artifact or folder of a model that can be drawn from.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="PNG for images, CSV for rows of a table.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100_000, help="Examples to draw.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same examples.")] = 0,
) -> None:
    """Draw new examples from a variational auto-encoder, or from discrete codes with a learned prior."""
    from flows import commands

    commands.sample(model, out, count, seed)


for command in (asked.generate, asked.predict, asked.embed, asked.export):
    app.command()(command)


CodecArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Artifact or folder of a model trained with objective compression.")
]


@app.command()
def compress(
    model: CodecArgument,
    source: Annotated[str, typer.Argument(metavar="IN", help="An image (PNG, JPEG, WebP …), or a folder of them.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .ssm file, or a folder for them.")],
    json: JsonOption = False,
) -> None:
    """Compress images with a trained codec."""
    from flows import compress as codec

    codec.compress(model, source, out, json)


@app.command()
def decompress(
    model: CodecArgument,
    source: Annotated[str, typer.Argument(metavar="IN", help="A .ssm file, or a folder of them.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .png file, or a folder for them.")],
    json: JsonOption = False,
) -> None:
    """Decompress images with the model that compressed them."""
    from flows import compress as codec

    codec.decompress(model, source, out, json)


@app.command()
def verify(artifact: ArtifactArgument) -> None:
    """Check every byte of an artifact against what was committed."""
    from flows import artifacts

    artifacts.verify(artifact)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    days: Annotated[float, typer.Option(min=0, help="Only what has been unchanged for this many days.")] = 7,
) -> None:
    """Remove what failed or abandoned attempts left behind."""
    from flows import artifacts

    artifacts.gc(dry_run, days)


@app.command()
def ui(
    mlflow_port: Annotated[int, typer.Option(help="MLflow's port on loopback.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Prefect's port on loopback.")] = 4200,
) -> None:
    """Serve MLflow's and Prefect's pages on this machine until Ctrl-C."""
    from flows.machine import ui as servers

    servers.run(mlflow_port, prefect_port)


@app.command()
def doctor() -> None:
    """Examine this machine: versions, cores, memory, GPUs, disk, ports, and a short self-test."""
    from flows import commands

    commands.doctor()


def main() -> None:
    """Entry point: user errors end with a sentence, bugs with a traceback; exit codes tell them apart."""
    from data_prep.legible import log_legibly, safe

    log_legibly()
    try:
        environment.begin()
        app(standalone_mode=True)
    except Exception as error:
        from data_prep.errors import UserError

        user_error = _in_chain(error, UserError)
        message = str(user_error) if user_error else _disk_message(error)
        if message is None:
            raise
        print(safe(f"sesame: {message}"), file=sys.stderr)
        sys.exit(getattr(user_error, "exit_code", FAILED))


def _in_chain(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    """The first exception of a type in a chain: libraries wrap what our tasks raise."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__
    return None


def _disk_message(error: BaseException) -> str | None:
    """A sentence for a full or read-only disk, which is not a bug either."""
    from data_prep.errors import refusal_of_the_disk

    disk_error = _in_chain(error, OSError)
    return refusal_of_the_disk(disk_error) if disk_error else None


if __name__ == "__main__":
    sys.argv[0] = Path(sys.argv[0]).name
    main()
