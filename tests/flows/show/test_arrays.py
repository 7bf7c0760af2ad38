"""`sesame peek` and `stats` on tables and pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from data_prep.corruptions.noise import NoiseConfig
from data_prep.errors import UserError
from flows.show import arrays
from pipeline.artifact import Artifact
from tests.pipeline import tiny_arrays

MASKING = NoiseConfig(kind="masking", level=0.5)


@pytest.fixture(scope="module", params=["table", "images"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("arrays")
    path = tiny_arrays.recipe(folder, request.param, downstream="[]")
    return tiny_arrays.make(path, folder, "train.steps=1")


def said(made: dict[str, Artifact], rows: range, noise: NoiseConfig | None, split: str = "train") -> str:
    console = Console(file=io.StringIO(), width=140, color_system="truecolor", force_terminal=True)
    transform = made["transform"].path if "transform" in made else None
    arrays.peek(made["shards"], transform, split, rows, console, noise, 0, "tiny-arrays")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rows_are_shown_beside_what_the_network_sees(made: dict[str, Artifact]) -> None:
    clean, noisy = (said(made, range(2, 5), noise) for noise in (None, MASKING))
    assert "rows 2–4 of" in clean and "sees" not in clean
    assert "sees" in noisy and "rebuilds" in noisy
    assert noisy == said(made, range(2, 5), MASKING), "the same noise each time"


def test_a_table_is_shown_in_its_own_units(made: dict[str, Artifact]) -> None:
    if made["ingest"].summary["kind"] != "table":
        pytest.skip("pictures have no columns")
    text = said(made, range(3), None)
    assert all(name in text for name in ("x0", "x4", "colour"))
    assert any(colour in text for colour in tiny_arrays.COLOURS)


def test_a_picture_is_drawn_in_its_greys() -> None:
    picture = np.zeros((1, 4, 4), np.float32)
    picture[0, 0, 0] = 1
    text = arrays.drawn(picture)
    assert text.plain.count("▀") == 8
    assert str(text.spans[0].style) == "#ffffff on #000000"


def test_no_such_split_or_row(made: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="has no split 'dev'; it has test, train, validation"):
        said(made, range(1), None, "dev")
    with pytest.raises(UserError, match=r"so none is number 5,000"):
        said(made, range(5000, 5001), None)


def test_stats_count_every_row(made: dict[str, Artifact]) -> None:
    for name in ("ingest", "shards"):
        found = arrays.gather(made[name])
        splits = found["splits"].values()
        assert sum(split["rows"] for split in splits) == made["ingest"].summary["kept"]
        assert all(sum(split["classes"].values()) == split["rows"] for split in splits)
        console = Console(file=io.StringIO(), width=140)
        arrays.show(made[name], found, console)
        assert "validation" in console.file.getvalue()  # type: ignore[attr-defined]
