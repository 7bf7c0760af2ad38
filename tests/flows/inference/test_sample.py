"""`sesame sample`: new examples from models that can be drawn from, one sentence for those that cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_prep.errors import UserError
from data_prep.tables.transform.transform import FILE, Transform
from flows.cli import app
from flows.inference import sample
from pipeline.artifact import Artifact
from tests.pipeline import tiny_arrays
from tests.said import said

VAE = {"objective": "{name: vae}", "downstream": "[]", "placement": "{threads: 1}"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def pictures(home: Path) -> dict[str, Artifact]:
    return tiny_arrays.make(tiny_arrays.recipe(home, "images", **VAE), home)


def test_the_command_draws_pictures_by_an_artifact(
    pictures: dict[str, Artifact], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME_HOME", str(home))
    out = tmp_path / "new" / "grid.png"
    result = CliRunner().invoke(app, ["sample", pictures["pretrain"].key, "-n", "9", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert said("9 images of 8×8 pixels", result.output)
    with Image.open(out) as image:
        assert image.mode == "L" and image.width == image.height >= sample.SMALLEST_SIDE
        assert np.asarray(image).std() > 1
    with pytest.raises(UserError, match="holds no model"):
        sample.draw(pictures["ingest"].key, 4, out, 0)


def test_the_seed_names_the_examples(pictures: dict[str, Artifact], tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        sample.draw(str(pictures["pretrain"].path), 4, file, seed)
    first, same, other = (file.read_bytes() for file in files)
    assert first == same != other


def test_rows_of_a_table_are_drawn_as_its_columns(tmp_path: Path) -> None:
    artifacts = tiny_arrays.make(tiny_arrays.recipe(tmp_path, **VAE), tmp_path)
    shape = sample.draw(str(artifacts["pretrain"].path), 5, tmp_path / "rows.csv", 0)
    assert shape == (artifacts["transform"].summary["features"],)
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 6 and {"x0", "colour"} <= set(lines[0].replace('"', "").split(","))
    assert len(set(lines)) > 2


def test_the_file_is_of_the_sort_that_examples_are(pictures: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images go to a \.png file"):
        sample.draw(str(pictures["pretrain"].path), 4, tmp_path / "a.csv", 0)
    with pytest.raises(UserError, match="is a folder; name a file"):
        sample.draw(str(pictures["pretrain"].path), 4, tmp_path, 0)
    with pytest.raises(UserError, match="--seed 9223372036854775808: it lies between"):
        sample.draw(str(pictures["pretrain"].path), 4, tmp_path / "a.png", 1 << 63)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_auto_encoder_is_not_drawn_from(home: Path, tmp_path: Path) -> None:
    artifacts = tiny_arrays.make(tiny_arrays.recipe(tmp_path, "images", downstream="[]"), tmp_path, "train.steps=2")
    with pytest.raises(UserError, match="no distribution of codes to draw from") as caught:
        sample.draw(str(artifacts["pretrain"].path), 4, tmp_path / "a.png", 0)
    assert "\n" not in str(caught.value)


def test_columns_of_whole_numbers_get_whole_numbers(tmp_path: Path) -> None:
    columns = {"n": np.arange(-9.0, 11.0), "x": np.arange(20) / 8}
    Transform.fit(lambda: [pa.record_batch(columns)]).save(tmp_path / FILE)
    sample._write_rows(np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32), tmp_path, tmp_path / "a.csv")
    header, *rows = (tmp_path / "a.csv").read_text().replace('"', "").splitlines()
    values = np.array([list(map(float, row.split(","))) for row in rows])
    assert header == "n,x" and (values[:, 0] % 1 == 0).all() and len(set(values[:, 0])) > 5
    assert (values[:, 1] % 1 != 0).all()
