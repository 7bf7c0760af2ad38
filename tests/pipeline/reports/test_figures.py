"""Figures show what they are given: the numbers along their axes, not the size of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex

from data_prep.stats.blocks import Bars, Curves, Histogram, Note
from pipeline.downstream.compression import figures as codecs
from pipeline.downstream.compression.rate_distortion import RatePoint
from pipeline.downstream.document_anomaly import figures as documents
from pipeline.reports import blocks, data, detection, expert_use, images
from pipeline.reports.data import COLOURS

PATH = Path("figure.png")
Draw = Callable[..., Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that are drawn, which are not saved."""
    figures: list[Any] = []

    def save(figure: Any, path: Path) -> Path:
        figures.append(figure)
        return path

    for module in (blocks, data, detection, expert_use, images, codecs, documents):
        monkeypatch.setattr(module, "save", save)
    yield figures
    pyplot.close("all")


def lines(axes: Any) -> dict[str, list[tuple[float, float]]]:
    """Points of the lines of axes, by what they are called."""
    return {line.get_label(): [tuple(point) for point in line.get_xydata().tolist()] for line in axes.get_lines()}


def called(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def shown(axes: Any) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


# -- training ---------------------------------------------------------------------------------------------------------

RECORDS: list[dict[str, Any]] = [
    {"step": 10, "train/mlm": 4.0, "train/mlm_accuracy": 0.1, "train/loss": 5.0, "workers/tokens_per_second": 900.0},
    {"step": 20, "train/mlm": 3.0, "train/mlm_accuracy": 0.3, "train/loss": 4.0, "workers/tokens_per_second": 1000.0},
    {"step": 20, "validation/mlm": 3.5, "validation/mlm_accuracy": 0.25, "validation/loss": 4.5},
]


def test_training_curves_are_the_records(drawn: list[Any], tmp_path: Path) -> None:
    paths = data.training_curves(RECORDS, tmp_path)
    assert [path.name for path in paths] == ["loss.png", "accuracy.png", "throughput.png"]
    loss, accuracy, speed = (figure.axes[0] for figure in drawn)
    assert lines(loss) == {"mlm": [(10, 4.0), (20, 3.0)], "mlm (held out)": [(20, 3.5)]}
    assert lines(accuracy) == {
        "mlm accuracy": [(10, 0.1), (20, 0.3)],
        "mlm accuracy (held out)": [(20, 0.25)],
    }
    assert list(lines(speed).values()) == [[(10, 900.0), (20, 1000.0)]]
    assert speed.get_ylabel() == "tokens per second" and loss.get_ylim()[0] == 0
    solid, dashed = loss.get_lines()
    assert (solid.get_color(), solid.get_linestyle(), dashed.get_linestyle()) == (COLOURS[0], "-", "--")
    assert dashed.get_color() == COLOURS[0], "of one term, one colour"


def test_losses_below_zero_are_not_cut_off(drawn: list[Any], tmp_path: Path) -> None:
    records = [{"step": step, "train/loss": value, "validation/loss": 2.0} for step, value in ((1, 1.0), (2, -3.0))]
    data.training_curves(records, tmp_path)
    (figure,) = drawn
    assert lines(figure.axes[0]) == {"loss": [(1, 1.0), (2, -3.0)], "loss (held out)": [(1, 2.0), (2, 2.0)]}
    assert figure.axes[0].get_ylim()[0] < -3


def test_every_run_of_an_arm_has_a_line_of_its_colour(drawn: list[Any]) -> None:
    curves = {
        "lr 1": [
            [{"step": 5, "validation/loss": 3.0}, {"step": 9, "validation/loss": 2.0, "train/loss": 7.0}],
            [{"step": 5, "validation/loss": 3.1}, {"step": 9, "validation/loss": 2.1}],
        ],
        "lr 2": [[{"step": 5, "train/loss": 4.0}, {"step": 9, "train/loss": 3.5, "validation/loss": 9.0}], []],
    }
    data.losses_by_arm(curves, PATH)
    first, second, third = drawn[0].axes[0].lines
    assert lines(drawn[0].axes[0])["lr 1"] == [(5, 3.0), (9, 2.0)] and second.get_ydata().tolist() == [3.1, 2.1]
    assert lines(drawn[0].axes[0])["lr 2"] == [(5, 4.0), (9, 3.5)]
    assert first.get_color() == second.get_color() != third.get_color()


def test_scores_are_points_with_their_mean(drawn: list[Any]) -> None:
    data.scores_by_arm({"F1": {"mask": [0.2, 0.3], "random": [0.1]}, "loss": {"mask": [4.0, 5.0]}}, PATH)
    of_f1, of_loss = drawn[0].axes
    assert [text.get_text() for text in of_f1.get_yticklabels()] == ["mask", "random"]
    points = [path.get_offsets().tolist() for path in of_f1.collections]
    assert points == [[[0.2, 0.0], [0.3, 0.0]], [[0.25, 0.0]], [[0.1, 1.0]]], "a single value is its own mean"
    assert of_loss.get_title(loc="left") == "loss"


def test_one_score_is_drawn_against_another(drawn: list[Any]) -> None:
    data.against(("loss", "F1"), {"small": [(5.0, 0.1), (4.8, 0.2)], "failed": [], "large": [(4.0, 0.4)]}, PATH)
    axes = drawn[0].axes[0]
    assert [path.get_offsets().tolist() for path in axes.collections] == [[[5.0, 0.1], [4.8, 0.2]], [[4.0, 0.4]]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("loss", "F1")


def test_a_learning_curve_has_means_and_spreads(drawn: list[Any]) -> None:
    cells = [
        {"model": model, "kind": kind, "labels": labels, "mean": mean, "std": std}
        for model, kind, labels, mean, std in (
            ("pretrained", "network", 10, 0.5, 0.1), ("tfidf", "baseline", 10, 0.4, 0.0),
            ("pretrained", "network", 1000, 0.9, 0.05), ("tfidf", "baseline", 1000, 0.7, 0.0),
        )
    ]  # fmt: skip
    data.learning_curve("Topics", "accuracy", cells, PATH)
    axes = drawn[0].axes[0]
    ours, theirs = axes.containers
    assert [bars.get_label() for bars in axes.containers] == ["pretrained", "tfidf"]
    assert ours.lines[0].get_xydata().tolist() == [[10, 0.5], [1000, 0.9]]
    assert theirs.lines[0].get_xydata().tolist() == [[10, 0.4], [1000, 0.7]]
    spread = [segment[:, 1].tolist() for segment in ours.lines[2][0].get_segments()]
    assert np.allclose(spread, [[0.4, 0.6], [0.85, 0.95]])
    assert (ours.lines[0].get_linestyle(), theirs.lines[0].get_linestyle()) == ("-", ":")
    assert axes.get_xscale() == "log" and [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "1,000"]


# -- images -----------------------------------------------------------------------------------------------------------


def test_a_grid_shows_every_image_in_its_row(drawn: list[Any]) -> None:
    rows = {name: np.random.default_rng(seed).random((3, 1, 4, 5)) for seed, name in enumerate(("input", "rebuilt"))}
    rows["input"][0, 0, 0, 0] = 7.0  # beyond white
    images.image_grid(rows, PATH)
    axes = drawn[0].axes
    assert len(axes) == 6
    for place, name in enumerate(rows):
        for column in range(3):
            assert np.array_equal(shown(axes[3 * place + column]), np.clip(rows[name][column, 0], 0, 1))
        assert axes[3 * place].get_ylabel() == name
    assert axes[0].get_images()[0].get_clim() == (0, 1), "one scale for all"


def test_tiles_are_the_images_in_order(drawn: list[Any]) -> None:
    grids = {"samples": np.random.default_rng(0).random((5, 3, 2, 2)), "test images": np.empty((0, 3, 2, 2))}
    images.tiles(grids, PATH)
    (axes,) = drawn[0].axes
    canvas = shown(axes)
    assert canvas.shape == (6, 10, 3) and axes.get_title(loc="left") == "samples"
    for number, (top, left) in enumerate(((0, 0), (0, 4), (0, 8), (4, 0), (4, 4))):
        patch = canvas[top : top + 2, left : left + 2]
        assert np.allclose(patch, grids["samples"][number].transpose(1, 2, 0)), number
    assert (canvas[4:, 8:] == 1).all() and (canvas[2:4] == 1).all(), "white where there is none"


def test_maps_have_a_colour_for_every_class(drawn: list[Any]) -> None:
    points = {"PCA": np.arange(8.0).reshape(4, 2), "t-SNE": -np.arange(8.0).reshape(4, 2)}
    labels = np.array([1, 0, 1, -1])
    images.maps(points, labels, ["cat", "dog"], PATH)
    for axes, (title, places) in zip(drawn[0].axes, points.items(), strict=True):
        assert axes.get_title(loc="left") == title
        by_name = {of.get_label(): np.asarray(of.get_offsets()) for of in axes.collections}
        assert list(by_name) == ["none", "cat", "dog"]
        assert np.array_equal(by_name["cat"], places[[1]]) and np.array_equal(by_name["dog"], places[[0, 2]])
        assert len({to_hex(of.get_facecolor()[0]) for of in axes.collections}) == 3
    assert called(drawn[0]) == ["none", "cat", "dog"]
    images.maps({"rows": points["PCA"]}, None, [], PATH)
    assert np.array_equal(np.asarray(drawn[1].axes[0].collections[0].get_offsets()), points["PCA"])


def test_error_curves_show_phases_and_the_error_of_the_mean(drawn: list[Any]) -> None:
    curves = {"machines": [(10, 9.0), (20, 4.0)], "plain": [(10, 8.0), (20, 6.0)]}
    images.error_curves(curves, {"rbm-1": 5, "fine-tuning": 20}, 12.0, PATH)
    axes = drawn[0].axes[0]
    by_name = lines(axes)
    assert by_name["machines"] == [(10, 9.0), (20, 4.0)] and by_name["plain"] == [(10, 8.0), (20, 6.0)]
    assert {y for _, y in by_name["the mean of all rows"]} == {12.0}
    assert [text.get_text() for text in axes.texts] == ["rbm-1 "] and axes.texts[0].get_position()[0] == 5
    assert [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"] == [5]
    assert axes.get_yscale() == "log"


def test_heat_maps_and_bars_have_their_values_where_they_are_named(drawn: list[Any]) -> None:
    values = np.arange(6.0).reshape(2, 3)
    images.heat_map(values, ["a", "b", "c"], ["x", "y"], "Meaning", "bit", "bits", PATH)
    axes, bar = drawn[0].axes
    assert np.array_equal(shown(axes), values) and bar.get_ylabel() == "bits"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["x", "y"]
    images.bars({"one": {"noisy": 10.0, "restored": 14.0}, "two": {"restored": 12.0}}, "PSNR", "dB", PATH)
    axes = drawn[1].axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert heights["restored"] == [14.0, 12.0] and heights["noisy"][0] == 10.0 and np.isnan(heights["noisy"][1])
    middles = [bar.get_x() + bar.get_width() / 2 for bars in axes.containers for bar in bars]
    assert np.round(middles).tolist() == [0, 1, 0, 1], "beside the group's tick"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["one", "two"]


# -- detectors --------------------------------------------------------------------------------------------------------


def test_curves_of_detectors_are_those_given_and_ours_stand_out(drawn: list[Any]) -> None:
    grid = np.linspace(0, 1, 5)
    methods = {"knn": (grid, grid**2), "ours": (grid, np.sqrt(grid)), "pca": (grid, grid)}
    detection.curves(methods, ["ours"], "ROC", "false alarms", "recall", PATH)
    axes = drawn[0].axes[0]
    for name, (x, y) in methods.items():
        assert np.allclose(lines(axes)[name], np.stack([x, y], 1))
    widths = {line.get_label(): line.get_linewidth() for line in axes.get_lines()}
    assert widths["ours"] > widths["knn"] == widths["pca"]
    assert [[0.0, 0.0], [1.0, 1.0]] in [line.get_xydata().tolist() for line in axes.get_lines()], "chance"
    detection.curves(methods, ["ours"], "PR", "recall", "precision", PATH, level=0.3)
    axes = drawn[1].axes[0]
    assert 0.3 in [line.get_ydata()[0] for line in axes.get_lines()] and axes.get_ylim()[0] == pytest.approx(0.2)


@pytest.mark.parametrize(("low", "scale"), [(0.0, "linear"), (1.0, "log")])
def test_a_histogram_has_shares_of_each_kind_and_thresholds(drawn: list[Any], low: float, scale: str) -> None:
    scores = low + np.array([0.0, 0.0, 1.0, 99.0, 99.0, 98.0])
    anomalous = np.array([False, False, False, False, True, True])
    detection.histogram(scores, anomalous, {"by quantile": 50.0, "by tail": 70.0}, "Scores", "score", PATH)
    axes = drawn[0].axes[0]
    normal, odd = axes.containers
    assert [bars[0].get_label() for bars in axes.containers] == ["normal", "anomalies"]
    assert sum(bar.get_height() for bar in normal) == pytest.approx(1) == sum(bar.get_height() for bar in odd)
    assert normal[0].get_height() == pytest.approx(0.5 if scale == "log" else 0.75)
    assert normal[-1].get_height() == pytest.approx(0.25)
    assert {name: x[0][0] for name, x in lines(axes).items()} == {
        "threshold by quantile": 50.0,
        "threshold by tail": 70.0,
    }
    assert axes.get_xscale() == scale


def test_areas_are_in_order_with_their_spreads(drawn: list[Any]) -> None:
    means, spreads = {"ours": 0.9, "knn": 0.95, "pca": 0.7}, {"ours": 0.01, "knn": 0.02, "pca": 0.05}
    detection.areas(means, spreads, ["ours"], PATH)
    axes = drawn[0].axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["pca", "ours", "knn"], "the best on top"
    for place, (name, bars) in enumerate(zip(names, axes.containers, strict=True)):
        assert bars.lines[0].get_xydata().tolist() == [[means[name], place]]
        low, high = bars.lines[2][0].get_segments()[0][:, 0]
        assert (low, high) == pytest.approx((means[name] - spreads[name], means[name] + spreads[name]))
        assert bars.lines[0].get_color() == (COLOURS[1] if name == "ours" else COLOURS[0])


def test_reasons_are_bars_the_largest_on_top(drawn: list[Any]) -> None:
    rows = [("row 1", [("x", 0.6), ("y", 0.3)]), ("row 2", [("z", 0.9)]), ("row 3", [("x", 0.2)])]
    detection.reasons(rows, PATH)
    for axes, (title, columns) in zip(drawn[0].axes, rows, strict=False):
        assert axes.get_title(loc="left") == title
        assert [bar.get_width() for bar in axes.patches] == [share for _, share in reversed(columns)]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == [name for name, _ in reversed(columns)]


def test_known_and_new_kinds_are_on_one_line(drawn: list[Any]) -> None:
    means = {"ours": (0.8, 0.85), "boosting": (0.99, 0.6)}
    detection.known_and_new(means, ["ours"], PATH)
    axes = drawn[0].axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["boosting", "ours"]
    by_name = {of.get_label(): np.asarray(of.get_offsets()).tolist() for of in axes.collections}
    assert by_name == {"known kinds": [[0.99, 0], [0.8, 1]], "new kinds": [[0.6, 0], [0.85, 1]]}


def test_reconstructions_are_below_their_images_with_scores(drawn: list[Any]) -> None:
    random = np.random.default_rng(0)
    kinds = {
        name: detection.ImageGroup(
            random.random((2, 1, 4, 4)), random.random((2, 1, 4, 4)), random.random((2, 4, 4)),
            np.array([1.5, 2000.0]), np.array([False, True]),
        )
        for name in ("normal", "anomalies")
    }  # fmt: skip
    detection.reconstructions(kinds, "squared error", PATH)
    grid = np.array(drawn[0].axes[:14]).reshape(7, 2)
    for number, (kind, group) in enumerate(kinds.items()):
        for column in range(2):
            image, rebuilt, error = grid[4 * number : 4 * number + 3, column]
            assert np.array_equal(shown(image), group.inputs[column, 0])
            assert np.array_equal(shown(rebuilt), group.rebuilt[column, 0])
            assert np.array_equal(shown(error), group.errors[column])
        assert [axes.get_title() for axes in grid[4 * number]] == ["1.5", "2,000"]
        colours = [to_hex(axes.title.get_color()) for axes in grid[4 * number]]
        assert colours == ["#000000", COLOURS[1].lower()], "flagged ones in another colour"
        assert grid[4 * number, 0].get_ylabel() == kind
    limits = {axes.get_images()[0].get_clim() for axes in grid[[2, 6]].flat}
    assert len(limits) == 1, "errors are on one scale"


# -- statistics -------------------------------------------------------------------------------------------------------


def test_blocks_are_drawn_as_they_count(drawn: list[Any]) -> None:
    blocks.draw(
        [
            Histogram(
                "lengths", "Lengths", "tokens", "rows", {"train": ([0, 2, 4], [3, 1]), "validation": ([0, 4], [5])}
            ),
            Bars("sources", "Sources", "rows", {"train": {"web": 3, "books": 5}, "test": {"books": 2}}),
            Curves("words", "Words", "rank", "count", {"train": ([1, 10], [90, 9])}, {"1,000th": 5.0}, "1/x"),
            Note("No figure."),
        ],
        Path("figures"),
    )
    histogram, bars, curves = (figure.axes[0] for figure in drawn)
    filled, train, validation = (patch.get_data() for patch in histogram.patches)
    assert filled.values.tolist() == train.values.tolist() == [0.75, 0.25] and train.edges.tolist() == [0, 2, 4]
    assert validation.values.tolist() == [1.0] and histogram.get_ylabel() == "share of rows"
    assert [patch.get_linestyle() for patch in histogram.patches[1:]] == ["-", "--"]
    widths = {of.get_label(): [(bar.get_x(), bar.get_width()) for bar in of] for of in bars.containers}
    assert widths == {"train": [(0, 3), (0, 5)], "test": [(3, 0), (5, 2)]}
    assert [text.get_text() for text in bars.texts] == [" 3", " 7"]
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["web", "books"]
    assert lines(curves)["train"] == [(1, 90), (10, 9)] and lines(curves)["1/x"] == [(1, 90), (10, 9)]
    assert [text.get_text() for text in curves.texts] == ["1,000th"] and curves.texts[0].get_position()[0] == 5.0


# -- codecs and documents ---------------------------------------------------------------------------------------------


def test_rate_and_distortion_of_every_codec(drawn: list[Any]) -> None:
    points = {
        "ours": [RatePoint(bpp=0.1, psnr=30.0, similarity=0.9), RatePoint(bpp=0.4, psnr=35.0, similarity=0.97)],
        "JPEG": [RatePoint(bpp=0.2, psnr=29.0, similarity=0.88)],
    }
    codecs.curves(points, "MS-SSIM", PATH)
    left, right = drawn[0].axes
    assert lines(left) == {"ours": [(0.1, 30.0), (0.4, 35.0)], "JPEG": [(0.2, 29.0)]}
    assert lines(right) == {"ours": [(0.1, 0.9), (0.4, 0.97)], "JPEG": [(0.2, 0.88)]}
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xscale()) == ("PSNR (dB)", "MS-SSIM", "log")


def test_experts_use_is_shown_in_even_shares_by_layer_and_step(drawn: list[Any]) -> None:
    assert expert_use.draw(RECORDS, PATH) == [] and drawn == []
    shares = {"encoder-1": ([0.5, 0.5], [0.9, 0.1]), "decoder-3": ([0.25, 0.75], [1.0, 0.0])}
    records = [
        {
            "step": step,
            **{f"validation/use/{layer}/{n:03}": at[place][n] for layer, at in shares.items() for n in (0, 1)},
        }
        for place, step in enumerate((10, 30))
    ]
    expert_use.draw([*RECORDS, *records], PATH)
    first, second, _ = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["encoder, layer 1", "decoder, layer 3"]
    mesh = first.collections[0]
    assert mesh.get_array().tolist() == [[1.0, 1.8], [1.0, 0.2]]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [0, 10, 30]
    assert second.collections[0].get_array().tolist() == [[0.5, 2.0], [1.5, 0.0]]


def test_codecs_are_shown_by_the_middle_of_the_same_image(drawn: list[Any]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 200, 300), np.uint8)
    beside = {"a": {"original": (image, ""), "JPEG": (image // 2, "0.2 bpp, 30.0 dB")}}
    codecs.side_by_side(beside, PATH)
    original, coded = drawn[0].axes
    wanted = image[:, 4:196, 54:246].transpose(1, 2, 0)
    assert np.array_equal(shown(original), wanted) and np.array_equal(shown(coded), wanted // 2)
    assert original.get_title(loc="left") == "a: original" and coded.get_xlabel() == "0.2 bpp, 30.0 dB"


def test_scores_of_documents_are_shares_of_each_kind(drawn: list[Any]) -> None:
    normal, unusual = np.array([1.0, 1.0, 3.0]), {"shuffled": np.array([3.0]), "other": np.array([1.0, 3.0])}
    documents.scores(normal, unusual, {"by quantile": 2.0}, "nats", PATH)
    axes = drawn[0].axes[0]
    filled, *outlines = axes.patches[:39], *axes.patches[39:]
    assert [filled[0].get_height(), filled[-1].get_height()] == pytest.approx([2 / 3, 1 / 3])
    heights = [(outline.get_xy()[:, 1].max(), outline.get_label()) for outline in outlines]
    assert heights == [(1.0, "shuffled"), (0.5, "other")]
    assert lines(axes) == {"threshold by quantile": [(2.0, 0.0), (2.0, 1.0)]}


def test_words_are_shaded_by_surprisal(drawn: list[Any]) -> None:
    words = [("plain", -1.0), ("odd", 4.0), ("strange", 80.0), ("x" * 130, 0.0)]
    documents.words([("a.txt", words)], PATH)
    (axes,) = drawn[0].axes
    title, *texts = axes.texts
    assert title.get_text() == "a.txt" and [text.get_text() for text in texts] == [word for word, _ in words]
    boxes = [text.get_bbox_patch() for text in texts]
    assert [box and round(box.get_alpha(), 3) for box in boxes] == [None, 0.375, 0.75, None]
    places = [text.get_position() for text in texts]
    assert places == [(0, 0.6), (6, 0.6), (10, 0.6), (0, 1.6)], "a word that does not fit begins a line"
