"""The image of the README: `python -m tests.benchmarks.figure`, after `make quickstart` with the same SESAME_HOME."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.home import Home
from pipeline.records import read_records
from pipeline.reports.data import COLOURS
from pipeline.runs import DONE, all_runs
from training.job import METRICS

OUT = Path(__file__).with_name("quickstart.svg")
MODELS = {
    "pretrained": "pretrained",
    "scratch": "the same network,\nrandom weights",
    "window": "logistic regression\non a window of words",
    "unigram": "unigram tagger",
}


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {"svg.hashsalt": "sesame", "font.size": 9, "axes.titlesize": 10}
    run = max(
        (run for run in all_runs(Home.find().runs) if run.recipe == "quickstart" and run.status == DONE),
        key=lambda run: run.started,
    )
    records = read_records(Path(run.stages["pretrain"].path) / METRICS)
    report = json.loads((Path(run.stages["punctuation"].path) / "report.json").read_text())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=(1, 1.2))
    for name, style in (("train/mlm", "-"), ("validation/mlm", "o")):
        points = [(record["step"], record[name]) for record in records if name in record]
        left.plot(*zip(*points, strict=True), style, color=COLOURS[0], label="held out" if style == "o" else "training")
    left.set(title="Masked words, loss in nats", xlabel="step")
    left.legend(frameon=False)
    scores = report["numbers"]
    labels = [int(name.rpartition("_")[2]) for name in scores if name.startswith("F1/pretrained_")]
    for place, count in enumerate(sorted(labels)):
        heights = [scores[f"F1/{model}_{count}"] for model in MODELS]
        bars = right.barh(
            [number - 0.2 + 0.4 * place for number in range(len(MODELS))],
            heights,
            0.38,
            color=COLOURS[1 + place],
            label=f"{count} labels",
        )
        right.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    right.set(title="Restoring punctuation, F1", yticks=range(len(MODELS)), yticklabels=MODELS.values())
    right.invert_yaxis()
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(OUT, metadata={"Date": None})
    print(OUT)


if __name__ == "__main__":
    main()
