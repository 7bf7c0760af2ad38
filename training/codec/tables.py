"""The distributions of a codec as whole numbers, and symbols coded by them: no rounding between symbols and bytes.

    codec.json    for every channel of the latents `lowest`, and for every class of places (`training.codec.contexts`)
                  `counts`: how often of TOTAL the values lowest, lowest + 1, … occur; last, anything else (escape)

A channel is coded class by class. A value outside its table is written as the escape, and in 16 plain bits after its
class. Tables are made once, when a network is exported: what it learned of a channel (`Tables.of`), and how that is
another thing for each class of places, counted in training images (`Tables.by_class`). Everybody who codes with it
reads the same numbers.

The range coder is `constriction`'s. It takes probabilities as floats and makes them integers of 24 bits, n symbols a
table:  start_i = i + ⌊(2²⁴ − n) · Σ_{j<i} p_j⌋.  With p = counts / 2¹⁶ every one of these sums and products is a
multiple of 2⁻¹⁶ below 2²⁴: exact in a double, in any order, on any machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data_prep.errors import UserError
from data_prep.opening.files import read_json
from training.codec.contexts import FINEST, SILENT, Activity, Contexts, fitted
from training.models.autoencoders.compression import LARGEST, CompressiveAutoencoder, LogisticMixtures

FILE = "codec.json"
FORMAT = 2
TOTAL = 1 << 16
WIDEST = 1 << 11  # farthest value of a table from 0
TAIL = 2.0**-17  # probability left out of a table on either side
PLAIN = 1 << 16  # values written without a table
NO_CONTEXTS = Contexts()
PLACES = 1 << 15  # of training images, beyond which classes hardly change and memory grows
_FARTHEST = 1 << 40  # of the activity of a place
LEARNED = 16.0  # places that a learned distribution counts as


@dataclass(frozen=True)
class Table:
    """One channel's: for every class counts that add up to TOTAL, each at least 1, the last one the escape's."""

    lowest: int
    counts: tuple[tuple[int, ...], ...]
    contexts: Contexts = NO_CONTEXTS

    def symbols(self, values: np.ndarray) -> np.ndarray:
        """Places in the counts of values int32."""
        escape = len(self.counts[0]) - 1
        symbols = values - np.int32(self.lowest)
        symbols[(symbols < 0) | (symbols >= escape)] = escape
        return symbols

    def problem(self, channel: int) -> str:
        """What is wrong with it as the table of that channel; empty where nothing is."""
        numbers = [self.lowest, *self.contexts.own, *self.contexts.around, *self.contexts.limits]
        numbers += [count for counts in self.counts for count in counts]
        if not all(type(number) is int for number in numbers):
            return "a number is not whole"
        is_normalised = all(sum(counts) == TOTAL and min(counts) >= 1 for counts in self.counts)
        lengths = {len(counts) for counts in self.counts}
        if not is_normalised or lengths != {len(self.counts[0])} or len(self.counts[0]) < 2:
            return f"counts of a channel do not add up to {TOTAL}"
        if abs(self.lowest) > WIDEST or len(self.counts[0]) > 2 * WIDEST + 2:
            return f"a channel has values farther than {WIDEST:,} from 0"
        weights = (self.contexts.own, self.contexts.around)
        num_channels_before = channel if self.contexts.limits else 0
        if len(self.counts) != self.contexts.classes or {len(part) for part in weights} != {num_channels_before}:
            return "contexts of a channel do not fit it"
        if any(not 0 <= weight <= FINEST for part in weights for weight in part):
            return f"a weight of a channel's contexts is none from 0 to {FINEST:,}"
        if any(abs(limit) > _FARTHEST for limit in self.contexts.limits):
            return "a class begins at what no place reaches"
        return ""


@dataclass(frozen=True)
class Tables:
    """The tables of all channels."""

    channels: tuple[Table, ...]

    @classmethod
    def of(cls, prior: LogisticMixtures) -> Tables:
        """Tabulate what a prior has learned, in double precision; one class a channel."""
        import torch

        values = torch.arange(-WIDEST, WIDEST + 1, dtype=torch.float64)
        exact = LogisticMixtures(*prior.weights.shape).double()
        exact.load_state_dict(prior.state_dict())
        with torch.no_grad():
            bits = exact(values.expand(1, len(prior.weights), len(values)).cpu())[0]
        return cls(tuple(_table(probabilities.numpy()) for probabilities in torch.exp2(-bits)))

    @classmethod
    def fitted(cls, model: CompressiveAutoencoder, images: Iterable[Tensor]) -> Tables:
        """Tables of a trained model, by as many batches of training images [B, C, H, W] of one size as are needed."""
        import torch

        training = model.training
        model.eval()
        latents: list[np.ndarray] = []
        with torch.no_grad():
            for batch in images:
                latents.append(model.encode(batch).cpu().numpy())
                if sum(batch_latents[:, 0].size for batch_latents in latents) >= PLACES:
                    break
        model.train(training)
        return cls.of(model.prior).by_class(np.concatenate(latents).astype(np.int32), model.options.classes)

    def by_class(self, latents: np.ndarray, classes: int) -> Tables:
        """With so many classes of places at most, counted in latents int32 [N, C, h, w] of training images.

        Rare values are left to the channel's distribution, which counts as LEARNED places of every class. A
        channel has classes only where those counted in one half of the images save bits in the other.
        """
        activity = Activity(len(latents), *latents.shape[2:])
        telling: list[int] = []
        channels = []
        for number, table in enumerate(self.channels):
            values = np.ascontiguousarray(latents[:, number], np.int32)
            contexts = fitted(activity, values, telling, classes)
            channels.append(_with_classes(table, contexts, activity.classes(contexts), values.ravel()))
            activity.add(values)
            if np.abs(values).mean() >= SILENT:
                telling.append(number)
        return Tables(tuple(channels))

    def save(self, folder: Path) -> None:
        """Write FILE."""
        channels = [asdict(table) for table in self.channels]
        (folder / FILE).write_text(json.dumps({"format": FORMAT, "total": TOTAL, "channels": channels}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Tables:
        """Read what `save` wrote. Raises UserError where it is missing or cannot be used."""
        path = folder / FILE
        try:
            content = read_json(path)
            if (content["format"], content["total"]) != (FORMAT, TOTAL):
                raise ValueError(f"format {content['format']}, total {content['total']}")
            tables = tuple(_read(channel) for channel in content["channels"])
            for number, table in enumerate(tables):
                if problem := table.problem(number):
                    raise ValueError(problem)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise UserError(f"{path}: not the tables of a codec: {error}; train one with Sesame.") from None
        return cls(tables)

    def bits(self, latents: np.ndarray) -> float:
        """Bits of whole numbers [C, h, w] by the tables; the bytes of `encode` are at most two words more."""
        activity, num_bits = Activity(1, *latents.shape[1:]), 0.0
        for table, channel in zip(self.channels, latents, strict=True):
            values = channel.astype(np.int32).ravel()
            symbols, counts = table.symbols(values), np.array(table.counts)
            frequencies = counts[activity.classes(table.contexts), symbols]
            num_escapes = int((symbols == counts.shape[1] - 1).sum())
            num_bits += float(np.log2(TOTAL / frequencies).sum()) + math.log2(PLAIN) * num_escapes
            activity.add(values)
        return num_bits

    def encode(self, latents: np.ndarray) -> bytes:
        """Bytes of whole numbers [C, h, w], each at most LARGEST either way."""
        encoder = _library().queue.RangeEncoder()
        activity = Activity(1, *latents.shape[1:])
        for table, channel in zip(self.channels, latents.astype(np.int32, casting="same_kind"), strict=True):
            values = channel.ravel()
            classes = activity.classes(table.contexts)
            for number, counts in enumerate(table.counts):
                class_values = values[classes == number]
                symbols = table.symbols(class_values)
                encoder.encode(symbols, _model(counts))
                outside = symbols == len(counts) - 1
                if outside.any():
                    encoder.encode(class_values[outside] + np.int32(LARGEST), _library().model.Uniform(PLAIN))
            activity.add(values)
        return encoder.get_compressed().astype("<u4").tobytes()

    def decode(self, raw: bytes, height: int, width: int) -> np.ndarray:
        """The whole numbers [C, height, width] int32 of `encode`. ValueError where the bytes are not its."""
        if len(raw) % 4:
            raise ValueError("no whole number of words")
        plain = _library().model.Uniform(PLAIN)
        decoder = _library().queue.RangeDecoder(np.frombuffer(raw, "<u4").astype(np.uint32))
        activity = Activity(1, height, width)
        latents = np.empty((len(self.channels), height * width), np.int32)
        try:
            for table, values in zip(self.channels, latents, strict=True):
                classes = activity.classes(table.contexts)
                for number, counts in enumerate(table.counts):
                    places = np.flatnonzero(classes == number)
                    symbols = decoder.decode(_model(counts), len(places))
                    outside = symbols == len(counts) - 1
                    class_values = symbols + np.int32(table.lowest)
                    if outside.any():
                        class_values[outside] = decoder.decode(plain, int(outside.sum())) - np.int32(LARGEST)
                    values[places] = class_values
                activity.add(values)
        except AssertionError as error:  # constriction's word for bytes that no encoder made
            raise ValueError(str(error)) from None
        if not decoder.maybe_exhausted():
            raise ValueError("something follows the last symbol")
        return latents.reshape(-1, height, width)


def _with_classes(table: Table, contexts: Contexts, classes: np.ndarray, values: np.ndarray) -> Table:
    """Of values and their classes, both [places], or the table as it is."""
    symbols, half = table.symbols(values), len(values) // 2
    learned = np.array(table.counts[0], np.float64)

    def counted(selection: slice) -> tuple[tuple[int, ...], ...]:
        weights = np.tile(LEARNED / TOTAL * learned, (contexts.classes, 1))
        np.add.at(weights, (classes[selection], symbols[selection]), 1)
        return tuple(map(_shared_out, weights))

    shares = np.array(counted(slice(half)))[classes[half:], symbols[half:]] / learned[symbols[half:]]
    if not contexts.limits or np.log2(shares).sum() <= 0:
        return table
    return Table(table.lowest, counted(slice(None)), contexts)


def _read(channel: dict[str, Any]) -> Table:
    contexts = Contexts(**{name: tuple(values) for name, values in channel["contexts"].items()})
    return Table(channel["lowest"], tuple(map(tuple, channel["counts"])), contexts)


@lru_cache(maxsize=1 << 14)
def _model(counts: tuple[int, ...]) -> Any:
    return _library().model.Categorical(np.array(counts, np.float64) / TOTAL, perfect=False)


def _library() -> Any:
    import constriction  # a single binary module, whose parts cannot be imported

    return constriction.stream  # type: ignore[attr-defined]


def _table(probabilities: np.ndarray) -> Table:
    """Of the probabilities [2 · WIDEST + 1] of the values from −WIDEST on."""
    below, above = np.cumsum(probabilities), np.cumsum(probabilities[::-1])[::-1]
    inside = np.flatnonzero((below > TAIL) & (above > TAIL))
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (WIDEST, WIDEST)
    inner = probabilities[first : last + 1]
    return Table(first - WIDEST, (_shared_out(np.append(inner, max(0.0, 1 - inner.sum()))),))


def _shared_out(probabilities: np.ndarray) -> tuple[int, ...]:
    """TOTAL in proportion, at least 1 each, what is left over to the largest remainders."""
    shares = probabilities / probabilities.sum() * (TOTAL - len(probabilities))
    counts = 1 + np.floor(shares).astype(np.int64)
    remainder = TOTAL - int(counts.sum())
    counts[np.argsort(counts - 1 - shares, kind="stable")[:remainder]] += 1
    return tuple(counts.tolist())
