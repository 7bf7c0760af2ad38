"""The figure of how often experts of a mixture are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.reports.data import save
from training.monitor.names import held_out, numbered

FILE = "expert-use.png"
FEW = 16  # experts, whose numbers are listed


def draw(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Of each layer of experts, the share of held-out tokens that each of them is chosen by, over the steps.

    As multiples of an even share. Nothing is drawn where there are no experts.
    """
    evaluations = [(r["step"], shares) for r in records if (shares := numbered(held_out(r)))]
    if not evaluations:
        return []
    layers = {name: len(shares) for name, shares in evaluations[-1][1].items()}
    steps = [step for step, _ in evaluations]
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (6.4, 1.0 + 1.5 * len(layers))
    figure, panels = pyplot.subplots(len(layers), 1, figsize=size, layout="constrained", sharex=True, squeeze=False)
    mesh: Any = None
    for axes, (name, count) in zip(panels[:, 0], layers.items(), strict=True):
        shares = [[of[name][number] * count for _, of in evaluations] for number in range(count)]
        mesh = axes.pcolormesh([0, *steps], range(count + 1), shares, cmap="RdBu_r", vmin=0, vmax=2)
        axes.set_title(name.rpartition("/")[2].replace("-", ", layer "), loc="left", fontsize=10)
        axes.set_ylabel("expert")
        if count <= FEW:
            axes.set_yticks([number + 0.5 for number in range(count)], [str(number) for number in range(count)])
    panels[-1, 0].set_xlabel("optimizer step")
    figure.colorbar(mesh, ax=list(panels[:, 0]), label="chosen, in even shares", extend="max")
    return [save(figure, folder / FILE)]
