"""Draws new examples from a trained model: images into one PNG, rows of a table into CSV."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from data_prep.tables.transform.transform import FILE, Transform
from flows.checkpoint import model_folder
from flows.show.outputs import check_output
from pipeline.reports.images import mosaic

SMALLEST_SIDE = 560  # pixels of a grid; small images are enlarged, each pixel to a square


def draw(model: str, count: int, out: Path, seed: int) -> tuple[int, ...]:
    """Write `count` examples of a model (see `flows.checkpoint`) to `out`; returns the shape of one.

    The same seed gives the same examples. Raises UserError if there is no such model, if it cannot be sampled
    (see `training.inference.sampling`), or where `out` has the wrong suffix for its examples.
    """
    import torch

    from training.inference.sampling import open_sampler

    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed {seed}: it lies between 0 and {(1 << 63) - 1}.")
    check_output(out)
    folder = model_folder(model)
    samples = np.asarray(open_sampler(folder).sample(count, torch.Generator().manual_seed(seed))["input"])
    are_images = samples.ndim == 4
    suffix = ".png" if are_images else ".csv"
    if out.suffix.lower() != suffix:
        raise UserError(f"--out {out}: {'images' if are_images else 'rows of a table'} go to a {suffix} file.")
    draft = out.with_name(f".{out.stem}.{secrets.token_hex(4)}{suffix}")
    try:
        if are_images:
            _write_images(samples, draft)
        else:
            _write_rows(samples, folder, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return samples.shape[1:]


def _write_images(samples: np.ndarray, out: Path) -> None:
    from PIL import Image

    grid = np.rint(255 * mosaic(samples)).astype(np.uint8)
    image = Image.fromarray(grid)
    times = max(1, -(-SMALLEST_SIDE // max(image.size)))
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(out)


def _write_rows(samples: np.ndarray, folder: Path, out: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv

    batch = Transform.load(folder / FILE).invert(samples)
    csv.write_csv(pa.Table.from_batches([batch]), out)
