"""From photographs to a codec of one's own: patches, and the job that sets it beside other codecs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream.compression import codecs
from pipeline.downstream.compression.job import Config
from pipeline.recipe.load import load_pretraining
from pipeline.stage import Context
from pipeline.stages import ingest
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import whole_report
from tests.said import said
from tests.training.tiny_arrays import photographs
from training.inference.codec import OVERHEAD, Codec

RECIPE = """
name: tiny-compression
data:
  kind: images
  sources: [{{path: {folder}/train}}]
  images: {{channels: 3, patch: 16, labels: none}}
  split: {{validation: 0.1, test: 0}}
network: {{architecture: conv, config: {{hidden: [12, 16], bottleneck: 12, latent: grid}}}}
objective: {{name: compression, options: {{distortion_weight: 0.004}}}}
train: {{global_batch: 8, steps: 40, lr: 3e-3, log_every: 10, precision: fp32, weight_decay: 0.0}}
downstream:
  - name: codec
    task: compression
    images: [{{path: {folder}/test}}]
    distortion_weights: [0.0005, 0.03]
    shown: 2
placement: {{threads: 1}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compression")
    for split, count, side in (("train", 3, 72), ("test", 2, 50)):
        (folder / split).mkdir()
        for number, picture in enumerate(photographs(count, seed=len(split), side=side)):
            Image.fromarray(picture[:, :, : side - 3 * number].transpose(1, 2, 0)).save(
                folder / split / f"{number}.png"
            )
    (folder / "tiny.yaml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def artifacts(home: Path) -> dict[str, Artifact]:
    return tiny_arrays.make(home / "tiny.yaml", home)


def test_photographs_are_cut_into_patches(artifacts: dict[str, Artifact], home: Path) -> None:
    corpus = ArrayCorpus(artifacts["ingest"].path, "train")
    assert corpus.shape == (3, 16, 16)
    assert artifacts["ingest"].summary["rows"] == 4 * 4 + 4 * 4 + 4 * 4
    photograph = np.asarray(Image.open(home / "train" / "0.png")).transpose(2, 0, 1)
    pieces = {photograph[:, y : y + 16, x : x + 16].tobytes() for y in range(0, 64, 16) for x in range(0, 64, 16)}
    patches = {row.tobytes() for row in corpus.read(np.arange(len(corpus))).input}
    assert len(patches & pieces) >= 0.6 * len(pieces)


def test_pictures_smaller_than_a_patch_are_rejected(home: Path, tmp_path: Path) -> None:
    settings = ["data.images.patch=70", "data.max_rejects=1.0", "downstream=[]", "train.steps=1", "data.split={}"]
    artifacts = tiny_arrays.make(home / "tiny.yaml", tmp_path, *settings)["ingest"]
    assert artifacts.summary["rejected"] == 2
    reasons = [f"is 72 × {width} pixels, smaller than data.images.patch 70" for width in (69, 66)]
    assert artifacts.summary["reasons"] == dict.fromkeys(reasons, 1)


def test_corpora_that_are_not_cut_keep_their_keys(home: Path, tmp_path: Path) -> None:
    cut = ingest.config(load_pretraining(home / "tiny.yaml"), tmp_path)
    uncut = ingest.config(load_pretraining(home / "tiny.yaml", overrides=["data.images.patch=null"]), tmp_path)
    assert cut["data"]["images"]["patch"] == 16
    assert uncut["data"]["images"] == {"channels": 3, "labels": "none"}


def test_the_report_sets_real_files_beside_other_codecs(artifacts: dict[str, Artifact], home: Path) -> None:
    report = whole_report(artifacts["codec"])
    rows = [[float(cell) for cell in row[:7]] for row in report.tables[0].rows]
    assert [row[0] for row in rows] == [0.0005, 0.004, 0.03]
    learned, qualities = [row[4] for row in rows], [row[5] for row in rows]
    assert learned == sorted(learned) and qualities == sorted(qualities), "λ buys quality with bits"
    pictures = [np.asarray(Image.open(home / "test" / f"{n}.png")).transpose(2, 0, 1) for n in (0, 1)]
    for weight, bpp, payload, estimate, without, _, _ in rows:
        codec = Codec.open(artifacts["codec"].path / "models" / f"{weight:g}")
        sizes = [len(codec.encode(picture)) for picture in pictures]
        each = [8 * size / picture[0].size for size, picture in zip(sizes, pictures, strict=True)]
        assert bpp == pytest.approx(np.mean(each), abs=1e-4)
        assert bpp - payload == pytest.approx(np.mean([8 * OVERHEAD / p[0].size for p in pictures]), abs=2e-4)
        assert payload == pytest.approx(estimate, abs=0.1)
        assert 0.5 * without < estimate < 1.15 * without  # a few patches tell little of classes
    assert set(report.notes["curves"]) == {"ours", "JPEG", "JPEG2000", "WebP"}
    assert set(report.notes["images"]) == {"0", "1"}
    assert report.notes["bd_rate"]["WebP"] != report.notes["bd_rate"]["JPEG2000"]
    assert said("22 bytes", report.about)


def test_training_pictures_are_no_test(home: Path, tmp_path: Path) -> None:
    job = f"downstream=[{{name: codec, task: compression, images: [{{path: {home}/train}}]}}]"
    with pytest.raises(UserError, match=r"downstream\.codec\.images: train/\S+ was trained on"):
        tiny_arrays.make(home / "tiny.yaml", home, job)
    Image.new("RGB", (8, 40)).save(tmp_path / "narrow.png")
    job = f"downstream=[{{name: codec, task: compression, images: [{{path: {tmp_path}}}]}}]"
    with pytest.raises(UserError, match="a side of less than 11 pixels"):
        tiny_arrays.make(home / "tiny.yaml", home, job)
    (tmp_path / "narrow.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="not a PNG, JPEG, WebP, TIFF, BMP or GIF image; mend it or leave it out"):
        tiny_arrays.make(home / "tiny.yaml", home, job)


@pytest.mark.parametrize("known", range(5))
def test_a_picture_is_no_test_if_most_of_it_was_trained_on(known: int, tmp_path: Path) -> None:
    (picture,) = photographs(1, seed=5, side=32)
    Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / "a.png")
    patches = [picture[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16)]
    train = np.stack([*patches[:known], np.zeros((3, 16, 16), np.uint8)])
    job = Config.model_validate({"task": "compression", "name": "codec", "images": [{"path": str(tmp_path)}]})
    with pytest.raises(UserError, match="was trained on") if known > 2 else contextlib.nullcontext():
        images = codecs._images(job, train, Context(downloads=tmp_path))
        assert list(images) == ["a"] and np.array_equal(images["a"], picture)


def test_other_pictures_are_another_job(home: Path, artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    Image.fromarray(photographs(1, seed=9, side=40)[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    job = f"downstream=[{{name: codec, task: compression, images: [{{path: {tmp_path}}}]}}]"
    first = tiny_arrays.make(home / "tiny.yaml", home, job)["codec"]
    assert first.summary.keys() == {"bd_rate/jpeg2000", "bd_rate/webp", "bpp/0.004", "psnr/0.004"}
    assert "nothing can be said" in whole_report(first).verdict
    Image.fromarray(photographs(1, seed=8, side=40)[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    assert tiny_arrays.make(home / "tiny.yaml", home, job)["codec"].key != first.key
