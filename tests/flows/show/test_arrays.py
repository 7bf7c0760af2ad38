"""`sesame inspect` and `stats` on tables and images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from data_prep import kinds
from data_prep.corruptions.noise import NoiseConfig
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.warp import AugmentConfig
from data_prep.errors import UserError
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged
from data_prep.shards.writer import ShardWriter
from data_prep.views import Wave
from flows.show import stats
from flows.show.examples import half_blocks, waveform
from flows.show.inspect import Reading, inspect, read_as_in_training
from pipeline.artifact import Artifact
from tests.pipeline import tiny_arrays
from tests.said import said
from training.config import OrderConfig
from training.data import Corpus, Stream
from training.job import augmented, corruption_on_load

MASKING = NoiseConfig(kind="masking", level=0.5)


@pytest.fixture(scope="module", params=["table", "images"])
def artifacts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("arrays")
    path = tiny_arrays.recipe(folder, request.param, downstream="[]")
    return tiny_arrays.make(path, folder, "train.steps=1")


def shown(artifacts: dict[str, Artifact], rows: range, split: str = "train", **settings: Any) -> str:
    console = Console(file=io.StringIO(), width=140, color_system="truecolor", force_terminal=True)
    transform = artifacts["transform"].path if "transform" in artifacts else None
    arguments: Any = {"preprocessor": transform, "corpus": artifacts["ingest"].path, "epoch": settings.pop("epoch", 0)}
    if settings:
        arguments["reading"] = Reading("tiny-arrays", 0, **{"corruption": NoneConfig(kind="none"), **settings})
    inspect(artifacts["shards"], len(rows), console, split, rows.start, **arguments)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rows_are_shown_beside_what_the_network_sees(artifacts: dict[str, Artifact]) -> None:
    clean, noisy = shown(artifacts, range(2, 5)), shown(artifacts, range(2, 5), corruption=MASKING)
    assert "rows 2–4 of" in clean and "x′" not in clean
    assert "x′" in noisy and "corrupted as training does it in epoch 0" in noisy
    assert noisy == shown(artifacts, range(2, 5), corruption=MASKING), "the same noise each time"
    assert noisy != shown(artifacts, range(2, 5), corruption=MASKING, epoch=1).replace("epoch 1", "epoch 0")


def test_rows_read_are_those_that_training_reads(artifacts: dict[str, Artifact]) -> None:
    warp = AugmentConfig(translate=2) if artifacts["ingest"].summary["kind"] == "images" else AugmentConfig()
    table, name = Shards(artifacts["shards"].path / "train"), "tiny-arrays"
    changed = augmented(warp, corruption_on_load(MASKING))
    stream = Stream([Corpus(name, table)], 0, OrderConfig(), changed)
    samples = np.arange(table.rows, table.rows + 8)
    _, epochs, places = stream.order.locate(samples)
    assert set(epochs.tolist()) == {1}
    settings, reading = artifacts["shards"].config["settings"], Reading(name, 0, MASKING, warp)
    selection, _ = read_as_in_training(table.read(places), places, settings, "train", reading, None, 1)
    trained = stream.read(samples)
    for column in ("input", "seen"):
        assert np.array_equal(np.asarray(selection.rows[column]), np.asarray(trained[column]))


def test_a_picture_is_shown_before_and_after_it_is_changed(artifacts: dict[str, Artifact]) -> None:
    if artifacts["ingest"].summary["kind"] != "images":
        pytest.skip("only images are changed")
    text = shown(artifacts, range(2), augment=AugmentConfig(rotate=30))
    assert "changed and corrupted as training does it" in text and "stored" in text
    assert "stored" not in shown(artifacts, range(2), "validation", augment=AugmentConfig(rotate=30))


def test_a_table_is_shown_in_its_own_units(artifacts: dict[str, Artifact]) -> None:
    if artifacts["ingest"].summary["kind"] != "table":
        pytest.skip("images have no columns")
    text = shown(artifacts, range(3))
    assert all(name in text for name in ("x0", "x4", "colour"))
    assert any(colour in text for colour in tiny_arrays.COLOURS)


def test_a_corpus_of_rows_is_shown_as_its_source_has_it(artifacts: dict[str, Artifact]) -> None:
    console = Console(file=io.StringIO(), width=140)
    inspect(artifacts["ingest"], 2, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0–1 of" in text and ("rows.csv:" in text or "images.npz:" in text) and "kept" not in text


def test_a_picture_is_drawn_in_its_greys() -> None:
    picture = np.zeros((1, 4, 4), np.float32)
    picture[0, 0, 0] = 1
    text = half_blocks(picture)
    assert text.plain.count("▀") == 8
    assert str(text.spans[0].style) == "#ffffff on #000000"


def test_a_new_kind_is_shown_without_another_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "frames", "tests.flows.show.frames_kind")
    frames = np.zeros((120, 80), np.float32)
    frames[:60, :40] = 1  # low and early
    writer = ShardWriter(tmp_path / "train", rows_per_shard=8)
    writer.write({"input": Ragged.from_rows([frames, frames[:50]])})
    writer.close()
    files = {"train/index.json": {"size": 1, "digest": "0"}}
    manifest: Any = {
        "stage": "shards",
        "config": {"kind": "frames", "settings": {}},
        "inputs": {},
        "files": files,
        "summary": {},
        "output_digest": "",
        "provenance": {},
    }
    console = Console(file=io.StringIO(), width=140)
    inspect(Artifact("shards-0123456789abcdef", tmp_path, manifest), 2, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "row 0" in text and "row 1" in text and said("120 frames of 80, 1.20 s", text)
    lines = [line for line in text.splitlines() if "█" in line]
    assert lines[0].count("█") == 30 and lines[0].index("█") < 6


def test_a_wave_is_drawn_by_its_peaks() -> None:
    wave = waveform(Wave(np.sin(np.linspace(0, 60, 4000)) * np.linspace(0, 1, 4000), 8000)).plain.splitlines()
    assert wave[-1] == "4,000 samples, 0.50 s"
    assert wave[0].lstrip()[0] != "█" or wave[0].index(wave[0].lstrip()[0]) > 70, "only the loud end reaches the top"
    assert wave[-2].count("█") > 60


def test_no_such_split_or_row(artifacts: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="has no split 'dev'; it has test, train, validation"):
        shown(artifacts, range(1), "dev")
    with pytest.raises(UserError, match=r"so none is number 5,000"):
        shown(artifacts, range(5000, 5001))


def test_stats_count_every_row(artifacts: dict[str, Artifact]) -> None:
    for name in ("ingest", "shards"):
        counts = stats.gather(artifacts[name])
        splits = counts["splits"].values()
        assert sum(split["rows"] for split in splits) == artifacts["ingest"].summary["kept"]
        assert all(sum(split["classes"].values()) == split["rows"] for split in splits)
        console = Console(file=io.StringIO(), width=140)
        stats.show(artifacts[name], counts, console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "validation" in text and "█" in text and ("Columns of training rows" in text or "standard dev" in text)


def test_shards_have_a_page_tables_and_a_figure(artifacts: dict[str, Artifact]) -> None:
    files = artifacts["shards"].manifest["files"]
    assert {"stats.md", "stats.json", "figures/splits.png", "tables/splits.json"} <= set(files)
    page = (artifacts["shards"].path / "stats.md").read_text()
    assert "![splits](figures/splits.png)" in page and "| train |" in page
