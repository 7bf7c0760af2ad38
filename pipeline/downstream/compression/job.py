"""The job `compression`: rate and distortion of a trained codec on unseen images, compared with standard codecs.

There is a codec for the recipe's λ and for each of `distortion_weights`; they are stored in the job's `models/`. Images
are coded to whole files, header and checksum included, and decoded again, as they are by the other codecs. Points of
the curves are means over the images at one setting; BD-rates are means of each image's BD-rate, because codecs
distribute bits among images differently. See `rate_distortion` for the measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.sources.config import SourceConfig, digest, snapshot
from pipeline.downstream.config import (
    JobConfig,
    Problem,
    kind_problems,
    objective_problems,
    split_problems,
    training_settings,
)

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 2
READS = ("pretrained", "shards")


class Config(JobConfig):
    """Rate and distortion of a trained codec, compared with JPEG, JPEG2000 and WebP."""

    task: Literal["compression"]
    """Which job it is."""
    images: list[SourceConfig] = Field(min_length=1)
    """Test images of any size, none of which was trained on."""
    distortion_weights: list[float] = Field(default_factory=list)
    """Further values of λ; for each, another codec is trained with the recipe's budget."""
    shown: int = Field(default=3, ge=1)
    """Number of images in the figure."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Images and the objective compression."""
    yield from kind_problems(recipe, job, ("images",))
    yield from objective_problems(recipe, job, "compression")
    yield from split_problems(job.images, "images")


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """Training settings of codecs, and a digest of the test images."""
    from data_prep.images import units

    files = snapshot(job.images, units.accepts(recipe.data.images))
    return {"snapshot": digest(files, downloads), **training_settings(recipe)}


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Code and decode every test image with every codec; store the trained codecs in `models/`.

    inputs: `pretrained`, a compressive auto-encoder in `model/`; `shards`, column `input` uint8 [R, C, H, W] of the
    split train. Rates are bits per pixel of whole files, distortions PSNR in dB of 8-bit images and (MS-)SSIM in 0 … 1,
    savings per cent of bits against JPEG for equal quality (Ballé et al. 2017; Bjøntegaard 2001). UserError for an
    image that cannot be read, is too small to be judged, or was trained on.
    """
    from pipeline.downstream.compression.codecs import compare

    return compare(job, settings, inputs, out_dir, context)
