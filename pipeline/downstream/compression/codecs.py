"""Our codecs and standard ones on whole test images, and the report that compares them."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.images import units
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.records import Reject
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.compression import figures as compression_figures
from pipeline.downstream.compression import rate_distortion as rd
from pipeline.downstream.compression.job import Config
from pipeline.downstream.rows import batches, rows_of
from pipeline.downstream.train_in_memory import trained
from pipeline.reports.report import Figure, Report, Table
from pipeline.stage import Context
from training.codec.tables import Tables
from training.inference.codec import OVERHEAD, Codec
from training.inference.networks.arrays import open_model
from training.loop import EXPORT_BATCH
from training.models.autoencoders.autoencoder import save_model
from training.models.autoencoders.compression import CompressiveAutoencoder
from training.objectives.arrays.compression import Compression

OURS = "ours"
RIVALS = (OURS, rd.JPEG2000, rd.WEBP)  # of JPEG
MODELS = "models"
Images = dict[str, np.ndarray]
"""uint8 [C, H, W] by name."""


class Saving(NamedTuple):
    """BD-rates of a codec against JPEG: the mean over images, its 95 % interval, and on how many images it is worse."""

    mean: float
    low: float
    high: float
    num_images: int
    """Of those on which both codecs reach a common quality."""
    num_worse: int

    @classmethod
    def of(cls, rates: Sequence[float]) -> Saving:
        """NaN: no common quality. One image leaves any mean possible."""
        from scipy.stats import t

        finite = np.array([rate for rate in rates if math.isfinite(rate)])
        if not len(finite):
            return cls(math.nan, math.nan, math.nan, 0, 0)
        half = math.inf
        if len(finite) > 1:
            half = float(t.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))
        mean = float(finite.mean())
        return cls(mean, mean - half, mean + half, len(finite), int((finite > 0).sum()))

    def __str__(self) -> str:
        if self.num_images < 2:
            return _percent(self.mean)
        return f"{_percent(self.mean)} ({_percent(self.low)} to {_percent(self.high)})"

    def to_json(self) -> dict[str, float | None]:
        return {name: value if math.isfinite(value) else None for name, value in self._asdict().items()}


class CodedImage(NamedTuple):
    """One image coded by one of our codecs."""

    point: rd.RatePoint
    payload: float
    """Bits per pixel without header and checksum."""
    estimate: float
    """Bits per pixel by the probabilities of the tables."""
    learned: float
    """Bits per pixel by the learned distributions, one a channel."""
    seconds: tuple[float, float]
    """For coding and for decoding."""
    decoded: np.ndarray


def compare(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """See `pipeline.downstream.compression.job.run`."""
    train = np.asarray(rows_of(inputs["shards"], "train")["input"])
    images = _images(job, train, context)
    ours: dict[float, dict[str, CodedImage]] = {}
    for weight, folder in _models(job, settings, inputs["pretrained"], train, out_dir / MODELS, context):
        context.progress(f"coding with λ = {weight:g}")
        codec = Codec.open(folder)
        ours[weight] = {name: _coded(codec, image) for name, image in images.items()}
    ours = dict(sorted(ours.items()))
    others = {name: _standard(name, images, context) for name in rd.STANDARDS}
    by_image = {
        name: {
            OURS: [coded[name].point for coded in ours.values()],
            **{other: points[name] for other, points in others.items()},
        }
        for name in images
    }
    curves = {codec: [rd.mean(column) for column in _columns(by_image, codec)] for codec in (OURS, *others)}
    measure = "MS-SSIM" if all(map(rd.is_multiscale, images.values())) else "SSIM or MS-SSIM"
    figures = _figures(job, images, ours, curves, measure, out_dir / "figures")
    return _report(job, images, ours, by_image, curves, measure, figures)


def _figures(
    job: Config,
    images: Images,
    ours: Mapping[float, Mapping[str, CodedImage]],
    curves: Mapping[str, Sequence[rd.RatePoint]],
    measure: str,
    folder: Path,
) -> list[Figure]:
    """Rate against distortion, and some images next to their decoded versions at the middle λ and by JPEG."""
    compression_figures.curves(curves, measure, folder / "rate-distortion.png")
    weights = list(ours)
    middle = weights[(len(weights) - 1) // 2]
    beside: dict[str, dict[str, tuple[np.ndarray, str]]] = {}
    for name, image in list(images.items())[: job.shown]:
        coded = ours[middle][name]
        jpeg, jpeg_made = _jpeg_like(image, coded.point.bpp)
        beside[name] = {
            "original": (image, ""),
            f"ours, λ = {middle:g}": (coded.decoded, _caption(coded.point)),
            rd.JPEG: (jpeg_made, _caption(jpeg)),
        }
    compression_figures.side_by_side(beside, folder / "images.png")
    return [Figure("rate and distortion", "rate-distortion.png"), Figure("at about equal bits", "images.png")]


def _report(
    job: Config,
    images: Images,
    ours: Mapping[float, Mapping[str, CodedImage]],
    by_image: Mapping[str, Mapping[str, list[rd.RatePoint]]],
    curves: Mapping[str, list[rd.RatePoint]],
    measure: str,
    figures: list[Figure],
) -> Report:
    saved, saved_similarity = (
        {codec: Saving.of([bd(of, codec, quality) for of in by_image.values()]) for codec in RIVALS}
        for quality in ("psnr", "similarity")
    )
    points = {weight: rd.mean([coded.point for coded in of.values()]) for weight, of in ours.items()}
    return Report(
        title=job.name,
        about=_about(images, measure),
        tables=[_codecs(ours, measure), _savings(by_image, saved, saved_similarity, measure)],
        figures=figures,
        verdict=_verdict(saved),
        numbers={
            **{f"bd_rate/{codec.lower()}": saving.mean for codec, saving in saved.items() if saving.num_images},
            **{f"bpp/{weight:g}": point.bpp for weight, point in points.items()},
            **{f"psnr/{weight:g}": point.psnr for weight, point in points.items()},
        },
        notes={
            "task": job.task,
            "curves": curves,
            "images": by_image,
            "bd_rate": {codec: saving.to_json() for codec, saving in saved.items()},
            "bd_rate_similarity": {codec: saving.to_json() for codec, saving in saved_similarity.items()},
        },
    )


def _about(images: Images, measure: str) -> str:
    pixels = sum(image[0].size for image in images.values())
    standards = "; ".join(f"{name}: {curve.described}" for name, curve in rd.STANDARDS.items())
    return (
        f"{len(images)} whole images that were not trained on ({', '.join(images)}), {pixels / 1e6:.2f} megapixels; "
        f"means over images. bpp: bits per pixel of whole files, coded and decoded again; of ours the header and "
        f"checksum are {OVERHEAD} bytes; the estimate is what the tables ask for, without classes of places what one "
        f"distribution a channel would, as it was learned. PSNR in dB of 8-bit images. Others: {standards}. BD-rate: "
        f"bits more than {rd.JPEG}'s for equal PSNR or {measure}, over what both reach, by image (–: they reach "
        "nothing alike); negative is better. Images differ much: beside a mean stands the 95 % interval that so "
        "many of them leave for it (Student's t), if others are like these."
    )


def _codecs(ours: Mapping[float, Mapping[str, CodedImage]], measure: str) -> Table:
    """A line for each λ: means over images."""
    rows = []
    for weight, by_name in ours.items():
        coded = list(by_name.values())
        point = rd.mean([image.point for image in coded])
        bits = [np.mean([getattr(image, part) for image in coded]) for part in ("payload", "estimate", "learned")]
        seconds = [np.mean([image.seconds[direction] for image in coded]) for direction in (0, 1)]
        rows.append(
            [
                f"{weight:g}",
                f"{point.bpp:.4f}",
                *(f"{value:.4f}" for value in bits),
                f"{point.psnr:.2f}",
                f"{point.similarity:.4f}",
                *(f"{value:.2f}" for value in seconds),
            ]
        )
    sizes = ["λ", "bpp", "without header", "estimate", "without classes"]
    return Table("Codecs", [*sizes, "PSNR", measure, "s to code", "s to decode"], rows)


def _savings(
    by_image: Mapping[str, Mapping[str, list[rd.RatePoint]]],
    saved: Mapping[str, Saving],
    saved_similarity: Mapping[str, Saving],
    measure: str,
) -> Table:
    rows = [
        ["mean, by PSNR", *map(str, saved.values())],
        [f"mean, by {measure}", *map(str, saved_similarity.values())],
        *([name, *(_percent(bd(of, codec, "psnr")) for codec in RIVALS)] for name, of in by_image.items()),
    ]
    return Table(f"BD-rate against {rd.JPEG} (%)", ["images", *RIVALS], rows)


def bd(curves: Mapping[str, list[rd.RatePoint]], codec: str, quality: str) -> float:
    """BD-rate of a codec against JPEG on an image; NaN where ours has one λ, or their qualities do not overlap."""
    return rd.bd_rate(curves[codec], curves[rd.JPEG], quality) if len(curves[codec]) > 1 else math.nan


def _images(job: Config, train: np.ndarray, context: Context) -> Images:
    """The test images by name, uint8 [C, H, W]. UserError where one cannot be read or was trained on."""
    patch = train.shape[2:]
    train_patches = {row.tobytes() for row in train}
    images: Images = {}
    for source in job.images:
        for read in units.all_images(source, ImagesConfig(channels=train.shape[1]), context.downloads):  # type: ignore[arg-type]
            if isinstance(read, Reject):
                raise UserError(f"downstream.{job.name}.images: {read.source} {read.reason}; mend it or leave it out.")
            pixels = read.pixels
            if min(pixels.shape[1:]) < rd.WINDOW:
                raise UserError(
                    f"downstream.{job.name}.images: {read.source} has a side of less than {rd.WINDOW} pixels, too few "
                    "to be judged; leave it out."
                )
            patches = [
                pixels[:, top : top + patch[0], left : left + patch[1]].tobytes()
                for top in range(0, pixels.shape[1] - patch[0] + 1, patch[0])
                for left in range(0, pixels.shape[2] - patch[1] + 1, patch[1])
            ]
            if 2 * sum(patch_bytes in train_patches for patch_bytes in patches) > len(patches):
                raise UserError(f"downstream.{job.name}.images: {read.source} was trained on; name other images.")
            name = read.label if source.package and read.label else Path(read.source).stem
            images[name if name not in images else f"{name} {len(images)}"] = pixels
    if not images:
        raise UserError(f"downstream.{job.name}.images: there is no image in what is named; name others.")
    return images


def _models(
    job: Config,
    settings: dict[str, Any],
    pretrained: Artifact,
    train: np.ndarray,
    out: Path,
    context: Context,
) -> list[tuple[float, Path]]:
    """λ and folder of every codec: the recipe's and those trained here."""
    model: Any = open_model(pretrained.path / MODEL)
    if not isinstance(model, CompressiveAutoencoder):
        raise UserError(f"downstream.{job.name}: needs objective compression, and this recipe's is {model.kind}.")
    own = model.options.distortion_weight
    models = [(own, out / f"{own:g}")]
    shutil.copytree(pretrained.path / MODEL, models[0][1])
    others = sorted(set(job.distortion_weights) - {own})
    for number, weight in enumerate(others):

        def progress(done: float, number: int = number, weight: float = weight) -> None:
            context.progress(f"training with λ = {weight:g}", (number + done) / len(others))

        objective = settings["objective"]
        weighted = {**objective, "options": {**objective.get("options", {}), "distortion_weight": weight}}
        other = trained(
            {**settings, "objective": weighted}, {"input": train}, settings["seed"], context, progress=progress
        ).model
        models.append((weight, out / f"{weight:g}"))
        save_model(models[-1][1], other)
        sample = np.linspace(0, len(train) - 1, min(len(train), Compression.export_rows)).astype(int)
        batches_of_patches = (
            torch.from_numpy(scaled(train[sample[part]])) for part in batches(len(sample), EXPORT_BATCH)
        )
        Tables.fitted(other, batches_of_patches).save(models[-1][1])
    return models


def _coded(codec: Codec, image: np.ndarray) -> CodedImage:
    """Code an image to bytes and decode it again."""
    started = time.perf_counter()
    raw = codec.encode(image)
    encoded_at = time.perf_counter()
    decoded = codec.decode(raw)
    seconds = (encoded_at - started, time.perf_counter() - encoded_at)
    pixels = image[0].size
    payload = 8 * (len(raw) - OVERHEAD) / pixels
    estimate, learned = (bits / pixels for bits in codec.estimate(image))
    return CodedImage(rd.measured(image, decoded, len(raw)), payload, estimate, learned, seconds, decoded)


def _standard(name: str, images: Images, context: Context) -> dict[str, list[rd.RatePoint]]:
    """Points of one of Pillow's codecs on every image, by its settings."""
    curve = rd.STANDARDS[name]
    points = {}
    for number, (label, image) in enumerate(images.items()):
        context.progress(f"{name}: {label}", number / len(images))
        files = (rd.coded(image, curve, setting) for setting in curve.settings)
        points[label] = [rd.measured(image, decoded, size) for size, decoded in files]
    return points


def _columns(by_image: Mapping[str, Mapping[str, list[rd.RatePoint]]], codec: str) -> list[list[rd.RatePoint]]:
    """The points of all images, setting by setting."""
    return [list(column) for column in zip(*(of[codec] for of in by_image.values()), strict=True)]


def _jpeg_like(image: np.ndarray, bpp: float) -> tuple[rd.RatePoint, np.ndarray]:
    """The JPEG file of an image with the nearest bits per pixel, and the decoded image."""

    def at(quality: float) -> tuple[int, np.ndarray]:
        return rd.coded(image, rd.STANDARDS[rd.JPEG], quality)

    size, decoded = min(map(at, range(1, 96)), key=lambda file: abs(8 * file[0] / image[0].size - bpp))
    return rd.measured(image, decoded, size), decoded


def _caption(point: rd.RatePoint) -> str:
    return f"{point.bpp:.3f} bpp, {point.psnr:.1f} dB"


def _percent(value: float) -> str:
    return f"{value:+.1f}" if math.isfinite(value) else "–"


def _verdict(saved: Mapping[str, Saving]) -> str:
    ours = saved[OURS]
    if not ours.num_images:
        return "With one λ, or no quality that both reach, nothing can be said against JPEG; name more λ."
    ordered = sorted([*((saving.mean, name) for name, saving in saved.items() if saving.num_images), (0.0, rd.JPEG)])
    rates = ", ".join(f"{name} {saved[name]} %" for _, name in ordered if name in saved)
    return (
        f"{ordered[0][1]} needs the fewest bits for equal PSNR. BD-rate against {rd.JPEG} over {ours.num_images} "
        f"image{'s' * (ours.num_images > 1)} (95 % interval): {rates}. {_beside_jpeg(ours)}"
    )


def _beside_jpeg(ours: Saving) -> str:
    """Whether our codec is better than JPEG or worse, as far as the images tell."""
    worse = f"it needs more on {ours.num_worse} of {ours.num_images}"
    if ours.low > 0:
        return f"Ours is worse than {rd.JPEG}: it needs {ours.mean:.1f} % more bits; {worse}."
    if ours.high < 0:
        return f"Ours needs fewer bits than {rd.JPEG}; {worse}."
    return f"These images do not tell whether ours needs fewer bits than {rd.JPEG} or more; {worse}."
