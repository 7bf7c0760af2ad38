"""Figures a person looks at, as PNG files. Colours are Okabe and Ito's, which most colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS_PER_INCH = 130


def _axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return path


def training_curves(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """loss.png, accuracy.png and throughput.png from a run's records, for the metrics they hold."""
    return [
        *_curves(records, folder / "loss.png", "Loss", "loss (nats per target)", _losses(records)),
        *_curves(records, folder / "accuracy.png", "Accuracy", "share correct", _ending(records, "_accuracy")),
        *_curves(records, folder / "throughput.png", "Throughput", "tokens per second", ["tokens_per_second"]),
    ]


def _losses(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of terms: every metric that has an accuracy beside it, in training and on held-out rows."""
    terms = [name.removesuffix("_accuracy") for name in _ending(records, "_accuracy")]
    return terms or ["loss"]


def _ending(records: Sequence[dict[str, Any]], suffix: str) -> list[str]:
    return sorted({name for record in records for name in record if name.endswith(suffix)})


def _curves(records: Sequence[dict[str, Any]], path: Path, title: str, y: str, names: Sequence[str]) -> list[Path]:
    series = {n: [(r["step"], r[n]) for r in records if n in r] for n in names}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return []
    figure, axes = _axes(title, "optimizer step", y)
    colours: dict[str, str] = {}
    for name, points in series.items():
        held_out = name.startswith("validation_")
        base = name.removeprefix("validation_")
        colour = colours.setdefault(base, COLOURS[len(colours) % len(COLOURS)])
        style = {"marker": "o", "linestyle": "--", "markersize": 4} if held_out else {"linewidth": 1.4}
        label = base.replace("_", " ") + (" (held out)" if held_out else "")
        axes.plot(*zip(*points, strict=True), color=colour, label=label, **style)
    axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return [_save(figure, path)]


def learning_curve(report: dict[str, Any], path: Path) -> Path:
    """Score over the number of labels: mean and standard deviation over the seeds for every model, baselines beside."""
    figure, axes = _axes(f"{report['title']} (test)", "labelled training examples", report["metric"])
    for index, model in enumerate(report["models"]):
        cells = [cell for cell in report["cells"] if cell["model"] == model]
        x = [cell["labels"] for cell in cells]
        mean = [cell["mean"] for cell in cells]
        spread = [cell["std"] for cell in cells]
        baseline = cells[0]["kind"] == "baseline"
        axes.errorbar(
            x,
            mean,
            yerr=spread,
            label=model,
            color=COLOURS[index % len(COLOURS)],
            marker="s" if baseline else "o",
            linestyle=":" if baseline else "-",
            capsize=3,
        )
    axes.set_xscale("log")
    labels = sorted({cell["labels"] for cell in report["cells"]})
    axes.set_xticks(labels, [f"{n:,}" for n in labels], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return _save(figure, path)
