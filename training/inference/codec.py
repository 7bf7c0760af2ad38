"""A trained compressor as a codec of images: `.ssm` files, which only the model that made them opens.

    image uint8 [C, H, W] ──► ŷ, whole numbers [bottleneck, h, w] ──► bytes ──► ŷ, the same ones ──► image

    offset  bytes
         0      4   magic "SSM" and a byte 0x1A, at which text editors stop
         4      1   version
         5      8   digest of the model: its settings, weights and tables
        13      1   channels
        14      4   height, width: uint16 each
        18      …   ŷ by the range coder, in words of 32 bits; see `training.codec.tables`
        −4      4   CRC-32 of all before it

Numbers are little-endian. ŷ comes back to the bit on any machine. The image made of it is the network's, whose
floats may differ in their last digits from machine to machine, and so may a pixel by one step.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_prep.errors import UserError
from data_prep.images.pixels import MAX_PIXELS
from training.codec.tables import FILE, Tables
from training.inference.networks.arrays import open_model
from training.models.autoencoders.autoencoder import CONFIG, WEIGHTS
from training.models.autoencoders.compression import BYTE, CompressiveAutoencoder

SUFFIX = ".ssm"
MAGIC, VERSION = b"SSM\x1a", 1
HEADER = struct.Struct("<4sB8sBHH")
CHECKSUM = struct.Struct("<I")
OVERHEAD = HEADER.size + CHECKSUM.size
LONGEST_SIDE = (1 << 16) - 1


class CodedImage(NamedTuple):
    """The contents of a compressed file."""

    height: int
    width: int
    latents: np.ndarray
    """int32 [bottleneck, h, w]"""


class Codec:
    """A model of `training.models.autoencoders.compression` with its tables; `channels` says what images it takes."""

    def __init__(self, model: CompressiveAutoencoder, tables: Tables, digest: bytes) -> None:
        self.model, self.tables, self.digest = model, tables, digest
        self.channels = model.shape[0]
        self.device = next(model.parameters()).device

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> Codec:
        """The codec in a folder that training exported. Raises UserError if there is none."""
        model: Any = open_model(folder, device)
        if not isinstance(model, CompressiveAutoencoder):
            raise UserError(f"{folder}: holds a model of kind {model.kind}; objective compression makes those needed.")
        tables = Tables.load(folder)
        if len(tables.channels) != model.config.bottleneck:
            raise UserError(f"{folder / FILE}: has tables of {len(tables.channels)} channels, the model has others.")
        model_digest = hashlib.blake2b(digest_size=8)
        for name in (CONFIG, WEIGHTS, FILE):
            model_digest.update(hashlib.blake2b((folder / name).read_bytes()).digest())
        return cls(model, tables, model_digest.digest())

    def encode(self, image: np.ndarray) -> bytes:
        """The compressed file of an image, uint8 [C, H, W]. Raises UserError if it does not fit the model."""
        channels, height, width = image.shape
        fits = 0 < min(height, width) <= max(height, width) <= LONGEST_SIDE and height * width <= MAX_PIXELS
        if channels != self.channels or not fits:
            raise UserError(
                f"an image of {width} × {height} pixels and {channels} channels: this model takes {self.channels} "
                f"channels; a side has 1 to {LONGEST_SIDE:,} pixels, and an image at most {MAX_PIXELS:,}."
            )
        return self.packed(CodedImage(height, width, self.latents(image)))

    def decode(self, raw: bytes) -> np.ndarray:
        """The image in a compressed file, uint8 [C, H, W]. Raises UserError where it cannot be decoded."""
        return self.image(self.unpacked(raw))

    def latents(self, image: np.ndarray) -> np.ndarray:
        """ŷ int32 [bottleneck, h, w] of an image."""
        with torch.no_grad():
            values = self.model.encode(self._tensor(image))[0].cpu().numpy()
        if not np.isfinite(values).all():
            raise UserError("the model gives values for this image that are not finite; it was not trained well.")
        return values.astype(np.int32)

    def image(self, coded: CodedImage) -> np.ndarray:
        """The network's reconstruction from ŷ, uint8 [C, H, W]."""
        code = torch.from_numpy(coded.latents.astype(np.float32))[None].to(self.device)
        with torch.no_grad():
            return as_bytes(self.model.decode(code, (coded.height, coded.width)))

    def rebuilt(self, image: np.ndarray) -> np.ndarray:
        """The network's reconstruction of an image, without writing a file."""
        with torch.no_grad():
            return as_bytes(self.model(self._tensor(image)))

    def estimate(self, image: np.ndarray) -> tuple[float, float]:
        """Bits of ŷ by the tables, and by the learned distributions, which have no classes."""
        with torch.no_grad():
            code = self.model.encode(self._tensor(image))
            return self.tables.bits(code[0].cpu().numpy()), float(self.model.bits(code))

    def packed(self, coded: CodedImage) -> bytes:
        """The compressed file of latents."""
        header = HEADER.pack(MAGIC, VERSION, self.digest, self.channels, coded.height, coded.width)
        body = header + self.tables.encode(coded.latents)
        return body + CHECKSUM.pack(zlib.crc32(body))

    def unpacked(self, raw: bytes) -> CodedImage:
        """The latents in a compressed file. Raises UserError where it cannot be read."""
        if raw[: len(MAGIC)] != MAGIC:
            raise UserError("it is not an image compressed by Sesame; give a file that `sesame compress` made.")
        if len(raw) < OVERHEAD or zlib.crc32(raw[: -CHECKSUM.size]) != CHECKSUM.unpack(raw[-CHECKSUM.size :])[0]:
            raise UserError("it is damaged or cut short: its checksum does not fit; copy it again.")
        _, version, digest, channels, height, width = HEADER.unpack(raw[: HEADER.size])
        if version != VERSION:
            raise UserError(f"it has version {version}, and this is Sesame for version {VERSION}; use a newer one.")
        if digest != self.digest:
            raise UserError(
                f"it was compressed with model {digest.hex()}, and this is model {self.digest.hex()}; give that one."
            )
        if channels != self.channels or not 0 < height * width <= MAX_PIXELS:
            raise UserError(f"it claims {width} × {height} pixels of {channels} channels; it was not made by Sesame.")
        try:
            latents = self.tables.decode(raw[HEADER.size : -CHECKSUM.size], *self.model.grid(height, width))
        except ValueError as error:
            raise UserError(f"its symbols cannot be decoded ({error}); it was not made by Sesame.") from None
        return CodedImage(height, width, latents)

    def _tensor(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(image.astype(np.float32) / BYTE)[None].to(self.device)


def as_bytes(image: torch.Tensor) -> np.ndarray:
    """uint8 [C, H, W] of one image float32 [1, C, H, W]."""
    return torch.round(BYTE * image[0].clamp(0, 1)).to(torch.uint8).cpu().numpy()
