"""How many bits a trained compressor needs for pictures it never saw, and what comes back, beside other codecs.

For the recipe's λ and each of `distortion_weights` there is a codec; its models lie in the job's `models/`. A picture
is coded to a file's bytes and decoded from them again, header and checksum included. Points of the curves that are
drawn are means over the pictures at one setting; BD-rates are means of the pictures' own, for settings of different
codecs share bits among pictures differently. See `pipeline.downstream.compression.rate_distortion` for the measures.
"""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.images import units
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.records import Reject
from pipeline.artifact import Artifact
from pipeline.downstream.compression import figures as compression_figures
from pipeline.downstream.compression import rate_distortion as rd
from pipeline.downstream.job import batches, rows_of
from pipeline.downstream.train_in_memory import trained
from pipeline.recipe.jobs.autoencoders import CompressionConfig
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL

OURS = "ours"
RIVALS = (OURS, rd.JPEG2000, rd.WEBP)  # of JPEG
MODELS = "models"
Pictures = dict[str, np.ndarray]


class Found(NamedTuple):
    """What a codec of ours did with one picture."""

    point: rd.Point
    payload: float
    """Bits per pixel without header and checksum."""
    estimate: float
    """Bits per pixel that the tables ask for."""
    learned: float
    """Bits per pixel that the learned distributions ask for, one a channel."""
    seconds: tuple[float, float]
    """Of coding and of decoding."""
    made: np.ndarray


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.codec.codec import OVERHEAD, Codec

    job = CompressionConfig.model_validate(config["job"])
    train = np.asarray(rows_of(inputs["shards"], "train")["input"])
    pictures = _pictures(job, train, context)
    ours: dict[float, dict[str, Found]] = {}
    for weight, folder in _models(job, config, inputs, train, out_dir / MODELS, context):
        context.progress(f"coding with λ = {weight:g}")
        codec = Codec.open(folder)
        ours[weight] = {name: _coded(codec, picture, OVERHEAD) for name, picture in pictures.items()}
    weights = sorted(ours)
    others = {name: _standard(name, pictures, context) for name in rd.STANDARDS}
    by_picture = {
        name: {
            OURS: [ours[weight][name].point for weight in weights],
            **{other: others[other][name] for other in others},
        }
        for name in pictures
    }
    curves = {codec: [rd.mean(column) for column in _columns(by_picture, codec)] for codec in (OURS, *others)}

    figures = out_dir / "figures"
    measure = "MS-SSIM" if all(map(rd.is_multiscale, pictures.values())) else "SSIM or MS-SSIM"
    compression_figures.curves(curves, measure, figures / "rate-distortion.png")
    middle = weights[(len(weights) - 1) // 2]
    shown = {name: pictures[name] for name in list(pictures)[: job.shown]}
    beside = {name: _jpeg_like(picture, ours[middle][name].point.bpp) for name, picture in shown.items()}
    compression_figures.side_by_side(
        {
            name: {
                "original": (picture, ""),
                f"ours, λ = {middle:g}": (ours[middle][name].made, _said(ours[middle][name].point)),
                rd.JPEG: (beside[name][1], _said(beside[name][0])),
            }
            for name, picture in shown.items()
        },
        figures / "pictures.png",
    )
    saved, saved_similarity = (
        {codec: _known_mean([bd(of, codec, quality) for of in by_picture.values()]) for codec in RIVALS}
        for quality in ("psnr", "similarity")
    )
    rows = []
    for weight in weights:
        found = list(ours[weight].values())
        point = rd.mean([one.point for one in found])
        rows.append(
            [
                f"{weight:g}",
                f"{point.bpp:.4f}",
                *(
                    f"{np.mean([getattr(one, part) for one in found]):.4f}"
                    for part in ("payload", "estimate", "learned")
                ),
                f"{point.psnr:.2f}",
                f"{point.similarity:.4f}",
                *(f"{np.mean([one.seconds[way] for one in found]):.2f}" for way in (0, 1)),
            ]
        )
    pixels = sum(picture[0].size for picture in pictures.values())
    standards = "; ".join(f"{name}: {curve.told}" for name, curve in rd.STANDARDS.items())
    return {
        "title": job.name,
        "task": job.task,
        "about": f"{len(pictures)} whole pictures that were not trained on ({', '.join(pictures)}), "
        f"{pixels / 1e6:.2f} megapixels; means over pictures. bpp: bits per pixel of whole files, coded and decoded "
        f"again; of ours the header and checksum are {OVERHEAD} bytes; the estimate is what the tables ask for, "
        "without classes of places what one distribution a channel would, as it was learned. PSNR in dB of 8-bit "
        "pictures. Others: "
        f"{standards}. BD-rate: bits more than {rd.JPEG}'s for equal PSNR or {measure}, over what both reach, by "
        "picture (–: they reach nothing alike); negative is better.",
        "heads": [
            "λ",
            "bpp",
            "without header",
            "estimate",
            "without classes",
            "PSNR",
            measure,
            "s to code",
            "s to decode",
        ],
        "rows": rows,
        "tables": {
            f"BD-rate against {rd.JPEG} (%)": (
                ["pictures", *RIVALS],
                [
                    ["mean, by PSNR", *map(_percent, saved.values())],
                    [f"mean, by {measure}", *map(_percent, saved_similarity.values())],
                    *(
                        [name, *(_percent(bd(of, codec, "psnr")) for codec in RIVALS)]
                        for name, of in by_picture.items()
                    ),
                ],
            )
        },
        "figures": {"rate and distortion": "rate-distortion.png", "at about equal bits": "pictures.png"},
        "verdict": _verdict(saved),
        "found": {
            "curves": curves,
            "pictures": by_picture,
            "bd_rate": _known(saved),
            "bd_rate_similarity": _known(saved_similarity),
        },
        "summary": {
            **{f"bd_rate_{codec.lower()}": value for codec, value in saved.items() if math.isfinite(value)},
            **{f"bpp_{weight:g}": rd.mean([one.point for one in ours[weight].values()]).bpp for weight in weights},
            **{f"psnr_{weight:g}": rd.mean([one.point for one in ours[weight].values()]).psnr for weight in weights},
        },
    }


def bd(curves: dict[str, list[rd.Point]], codec: str, quality: str) -> float:
    """BD-rate of a codec against JPEG on a picture; NaN where ours has one λ, or they reach nothing alike."""
    return rd.bd_rate(curves[codec], curves[rd.JPEG], quality) if len(curves[codec]) > 1 else math.nan


def _pictures(job: CompressionConfig, train: np.ndarray, context: Context) -> Pictures:
    """The test pictures by name, uint8 [C, H, W]. UserError where one cannot be read or was trained on."""
    patch = train.shape[2:]
    known = {row.tobytes() for row in train}
    found: Pictures = {}
    for source in job.pictures:
        for one in units.whole(source, ImagesConfig(channels=train.shape[1]), context.downloads):  # type: ignore[arg-type]
            if isinstance(one, Reject):
                raise UserError(f"downstream.{job.name}.pictures: {one.source} {one.reason}; mend it or leave it out.")
            pixels = one.pixels
            if min(pixels.shape[1:]) < rd.WINDOW:
                raise UserError(
                    f"downstream.{job.name}.pictures: {one.source} has a side of less than {rd.WINDOW} pixels, too few "
                    "to be judged; leave it out."
                )
            pieces = [
                pixels[:, top : top + patch[0], left : left + patch[1]].tobytes()
                for top in range(0, pixels.shape[1] - patch[0] + 1, patch[0])
                for left in range(0, pixels.shape[2] - patch[1] + 1, patch[1])
            ]
            if 2 * sum(piece in known for piece in pieces) > len(pieces):
                raise UserError(f"downstream.{job.name}.pictures: {one.source} was trained on; name other pictures.")
            name = one.label if source.package and one.label else Path(one.source).stem
            found[name if name not in found else f"{name} {len(found)}"] = pixels
    if not found:
        raise UserError(f"downstream.{job.name}.pictures: there is no picture in what is named; name others.")
    return found


def _models(
    job: CompressionConfig,
    config: dict[str, Any],
    inputs: dict[str, Artifact],
    train: np.ndarray,
    out: Path,
    context: Context,
) -> list[tuple[float, Path]]:
    """λ and folder of every codec: the recipe's, and those trained here."""
    import torch

    from training.codec.tables import Tables
    from training.loop import EXPORT_BATCH
    from training.models.autoencoder import open_model, save_model
    from training.models.compression import CompressiveAutoencoder
    from training.objectives.compression import Compression

    model: Any = open_model(inputs["pretrained"].path / MODEL)
    if not isinstance(model, CompressiveAutoencoder):
        raise UserError(f"downstream.{job.name}: needs objective compression, and this recipe's is {model.kind}.")
    own = model.options.distortion_weight
    found = [(own, out / f"{own:g}")]
    shutil.copytree(inputs["pretrained"].path / MODEL, found[0][1])
    others = sorted(set(job.distortion_weights) - {own})
    for number, weight in enumerate(others):

        def told(done: float, number: int = number, weight: float = weight) -> None:
            context.progress(f"training with λ = {weight:g}", (number + done) / len(others))

        objective = config["objective"]
        asked = {**objective, "options": {**objective["options"], "distortion_weight": weight}}
        other = trained({**config, "objective": asked}, {"input": train}, config["seed"], context, progress=told).model
        found.append((weight, out / f"{weight:g}"))
        save_model(found[-1][1], other)
        some = np.linspace(0, len(train) - 1, min(len(train), Compression.export_rows)).astype(int)
        seen = (torch.from_numpy(scaled(train[some[part]])) for part in batches(len(some), EXPORT_BATCH))
        Tables.fitted(other, seen).save(found[-1][1])
    return found


def _coded(codec: Any, picture: np.ndarray, overhead: int) -> Found:
    """Code a picture to bytes, and decode it from them again."""
    started = time.perf_counter()
    raw = codec.encode(picture)
    between = time.perf_counter()
    made = codec.decode(raw)
    seconds = (between - started, time.perf_counter() - between)
    pixels = picture[0].size
    payload = 8 * (len(raw) - overhead) / pixels
    estimate, learned = (bits / pixels for bits in codec.estimate(picture))
    return Found(rd.measured(picture, made, len(raw)), payload, estimate, learned, seconds, made)


def _standard(name: str, pictures: Pictures, context: Context) -> dict[str, list[rd.Point]]:
    """Points of a codec of Pillow's on every picture, by its settings."""
    curve = rd.STANDARDS[name]
    found = {}
    for number, (called, picture) in enumerate(pictures.items()):
        context.progress(f"{name}: {called}", number / len(pictures))
        files = (rd.coded(picture, curve, setting) for setting in curve.settings)
        found[called] = [rd.measured(picture, made, size) for size, made in files]
    return found


def _columns(by_picture: dict[str, dict[str, list[rd.Point]]], codec: str) -> list[list[rd.Point]]:
    """The points of all pictures, setting by setting."""
    return [list(column) for column in zip(*(of[codec] for of in by_picture.values()), strict=True)]


def _jpeg_like(picture: np.ndarray, bpp: float) -> tuple[rd.Point, np.ndarray]:
    """The JPEG file of a picture whose bits per pixel come nearest, and what it shows."""

    def at(quality: float) -> tuple[int, np.ndarray]:
        return rd.coded(picture, rd.STANDARDS[rd.JPEG], quality)

    size, made = min(map(at, range(1, 96)), key=lambda one: abs(8 * one[0] / picture[0].size - bpp))
    return rd.measured(picture, made, size), made


def _said(point: rd.Point) -> str:
    return f"{point.bpp:.3f} bpp, {point.psnr:.1f} dB"


def _known(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _known_mean(values: list[float]) -> float:
    """Of pictures whose number is known; NaN if none is."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(value: float) -> str:
    return f"{value:+.1f}" if math.isfinite(value) else "–"


def _verdict(saved: dict[str, float]) -> str:
    if not math.isfinite(saved[OURS]):
        return "With one λ, or no quality that both reach, nothing can be said against JPEG; name more λ."
    ordered = sorted([*((value, name) for name, value in saved.items()), (0.0, rd.JPEG)])
    told = ", ".join(f"{name} {_percent(value)} %" for value, name in ordered)
    return f"{ordered[0][1]} needs the fewest bits for equal PSNR; BD-rate against {rd.JPEG}: {told}."
