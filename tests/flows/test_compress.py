"""`sesame compress` and `sesame decompress`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from data_prep.errors import UserError
from flows.cli import app
from tests.training.tiny_arrays import photographs
from training.codec.tables import Tables
from training.inference.codec import Codec
from training.models.autoencoders.autoencoder import save_model
from training.models.autoencoders.compression import CompressiveAutoencoder
from training.models.autoencoders.config import AutoencoderConfig
from training.objectives.arrays.compression import CompressionOptions


def model(folder: Path, seed: int = 0) -> Path:
    """A codec that has learned nothing yet, as training exports it."""
    torch.manual_seed(seed)
    network = AutoencoderConfig(architecture="conv", hidden=[8, 12], bottleneck=6, latent="grid")
    trained = CompressiveAutoencoder(network, (3, 16, 16), CompressionOptions())
    save_model(folder / "model", trained)
    Tables.of(trained.prior).save(folder / "model")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two in a folder, one of them in a folder below."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for name, side in (("a.png", 41), ("below/b.png", 19)):
        Image.fromarray(photographs(1, side=side)[0].transpose(1, 2, 0)).save(folder / name)
    return folder


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    trained, pixels = str(model(tmp_path / "trained")), np.full((24, 24, 4), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    done = CliRunner().invoke(app, ["compress", trained, str(tmp_path / "a.png"), str(tmp_path / "a.ssm")])
    assert done.exit_code == 0 and done.stdout.rstrip().endswith("; without transparency (shown on white)")
    frames = [Image.fromarray(picture.transpose(1, 2, 0)) for picture in photographs(3, side=24)]
    frames[0].save(tmp_path / "b.webp", save_all=True, append_images=frames[1:])
    done = CliRunner().invoke(app, ["compress", trained, str(tmp_path / "b.webp"), str(tmp_path / "b.ssm"), "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["files"][0]["lost"] == ["further frames: 2"]


def test_a_folder_goes_there_and_back(pictures: Path, tmp_path: Path) -> None:
    trained = str(model(tmp_path / "trained"))
    done = CliRunner().invoke(app, ["compress", trained, str(pictures), str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    outcome = json.loads(done.stdout.splitlines()[-1])
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert files == [tmp_path / "out" / "a.ssm", tmp_path / "out" / "below" / "b.ssm"]
    assert [each["bytes"] for each in outcome["files"]] == [path.stat().st_size for path in files]
    assert outcome["files"][0]["bpp"] == pytest.approx(8 * files[0].stat().st_size / 41**2)
    back = CliRunner().invoke(app, ["decompress", trained, str(tmp_path / "out"), str(tmp_path / "back")])
    assert back.exit_code == 0 and back.stdout.count("bits per pixel") == 2
    codec = Codec.open(tmp_path / "trained" / "model")
    for name in ("a.png", "below/b.png"):
        picture, shown = (
            np.asarray(Image.open(folder / name)).transpose(2, 0, 1) for folder in (pictures, tmp_path / "back")
        )
        assert np.array_equal(shown, codec.rebuilt(picture))


def test_the_pictures_that_were_compressed_are_not_written_over(pictures: Path, tmp_path: Path) -> None:
    trained, before = str(model(tmp_path / "trained")), (pictures / "a.png").read_bytes()
    done = CliRunner().invoke(app, ["compress", trained, str(pictures), str(pictures)])
    assert done.exit_code == 0 and (pictures / "a.ssm").is_file(), done.output
    back = CliRunner().invoke(app, ["decompress", trained, str(pictures), str(pictures)])
    assert back.exit_code == 1 and "perhaps the image it was made of" in back.stderr
    assert (pictures / "a.png").read_bytes() == before


def test_one_picture_goes_to_a_file_or_into_a_folder(pictures: Path, tmp_path: Path) -> None:
    from flows import compress

    trained = str(model(tmp_path / "trained"))
    (tmp_path / "there").mkdir()
    compress.compress(trained, str(pictures / "a.png"), str(tmp_path / "x.ssm"), False)
    compress.compress(trained, str(pictures / "a.png"), str(tmp_path / "there"), False)
    assert (tmp_path / "x.ssm").read_bytes() == (tmp_path / "there" / "a.ssm").read_bytes()


def test_what_cannot_be_done_is_told_and_the_rest_is_done(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import compress

    first_model, second_model = (str(model(tmp_path / f"trained-{seed}", seed)) for seed in (1, 2))
    files = tmp_path / "files"
    compress.compress(first_model, str(pictures / "a.png"), str(files / "one.ssm"), False)
    compress.compress(second_model, str(pictures / "a.png"), str(files / "two.ssm"), False)
    (files / "cut.ssm").write_bytes((files / "one.ssm").read_bytes()[:-3])
    (pictures / "bad.png").write_bytes(b"no image")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        compress.decompress(first_model, str(files), str(tmp_path / "back"), False)
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert f"sesame: {files / 'cut.ssm'}: it is damaged or cut short" in errors
    assert f"sesame: {files / 'two.ssm'}: it was compressed with model" in errors
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["one.png"]
    with pytest.raises(SystemExit):
        compress.compress(first_model, str(pictures), str(tmp_path / "again"), True)
    output = capsys.readouterr()
    assert f"sesame: {pictures / 'bad.png'}: not a PNG, JPEG, WebP, TIFF, BMP or GIF image" in output.err
    assert json.loads(output.out)["failed"] == 1 and len(json.loads(output.out)["files"]) == 2


def test_mistakes_of_use_are_sentences(pictures: Path, tmp_path: Path) -> None:
    from flows import compress

    trained = str(model(tmp_path / "trained"))
    file, twice, empty = tmp_path / "file.ssm", tmp_path / "twice", tmp_path / "empty"
    file.write_bytes(b"")
    twice.mkdir()
    empty.mkdir()
    for name in ("a.png", "a.jpg"):
        Image.open(pictures / "a.png").save(twice / name)
    mistakes = [
        (tmp_path / "nothing", tmp_path / "x.ssm", "there is no such file or folder"),
        (pictures / "a.png", tmp_path / "x.jpg", r"what is made ends in \.ssm"),
        (pictures, file, "name a folder"),
        (twice, tmp_path / "y", "would both become"),
        (empty, tmp_path / "y", r"holds no file that ends in \.png, \.jpg"),
    ]
    for source, out, message in mistakes:
        with pytest.raises(UserError, match=message):
            compress.compress(trained, str(source), str(out), False)
    assert not (tmp_path / "y").exists()
    with pytest.raises(UserError, match="holds no model of an auto-encoder"):
        compress.compress(str(empty), str(pictures), str(tmp_path / "y"), False)
