"""The compressor: its distributions, its transform, its loss; the codec: the same whole numbers back, or a sentence."""

from __future__ import annotations

import json
import math
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from tests.training import tiny_arrays as tiny
from training.codec.contexts import Activity, Contexts
from training.codec.tables import FILE, LARGEST, TOTAL, Table, Tables
from training.config import NetworkConfig
from training.inference.codec import CHECKSUM, HEADER, OVERHEAD, Codec, CodedImage
from training.inference.networks.arrays import open_model
from training.models.autoencoders.autoencoder import save_model
from training.models.autoencoders.compression import CompressiveAutoencoder, DivisiveNormalisation, LogisticMixtures
from training.models.autoencoders.config import AutoencoderConfig
from training.objectives.arrays.compression import CompressionOptions

FIRST = (100, 9_000, 40_000, 16_000, 300, 136)
TABLES = Tables((Table(-2, (FIRST,)), Table(3, ((65_535, 1),)), Table(0, ((1, 65_535),))))
BY_CLASS = Tables(
    (
        TABLES.channels[0],
        Table(3, ((65_535, 1), (1, 65_535)), Contexts((2,), (1,), (7,))),
        Table(-2, (FIRST, (6, 1_000, 2_530, 2_000, 60_000 - 64, 64), FIRST), Contexts((0, 5), (3, 0), (1, 40))),
    )
)


def compressor(weight: float = 0.01, channels: int = 3, **config: object) -> CompressiveAutoencoder:
    torch.manual_seed(3)
    network = AutoencoderConfig(
        **{"architecture": "conv", "hidden": [12, 16], "bottleneck": 10, "latent": "grid", **config}  # type: ignore[arg-type]
    )
    return CompressiveAutoencoder(network, (channels, 16, 16), CompressionOptions(distortion_weight=weight)).eval()


def kept(folder: Path, model: CompressiveAutoencoder) -> Codec:
    save_model(folder, model)
    images = np.stack([noise(16, 16, model.shape[0], seed=n) // (1 << n % 6) for n in range(96)])
    Tables.fitted(model, [torch.from_numpy(images / np.float32(255))]).save(folder)
    return Codec.open(folder)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return kept(tmp_path_factory.mktemp("codec"), compressor())


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width)).astype(np.uint8)


# -- the model --------------------------------------------------------------------------------------------------------


def test_bins_have_the_mass_of_the_mixture() -> None:
    torch.manual_seed(0)
    prior = LogisticMixtures(2).double()
    for parameter in prior.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    y = torch.arange(-400.0, 401.0, dtype=torch.float64).expand(1, 2, -1)
    mass = torch.exp2(-prior(y))
    assert torch.allclose(mass.sum(2), torch.ones(1, 2, dtype=torch.float64), atol=1e-9)
    weights = torch.softmax(10 * prior.weights, 1)
    edges = torch.tensor([0.5, 1.5], dtype=torch.float64)
    scale = torch.exp(10 * prior.log_scales)
    reached = (weights[:, :, None] * torch.sigmoid((edges - 10 * prior.means[:, :, None]) / scale[:, :, None])).sum(1)
    assert torch.allclose(mass[0, :, 401], reached[:, 1] - reached[:, 0])
    far = prior.float()(torch.full((1, 2, 1), 1e4))
    assert torch.isfinite(far).all() and (far > 100).all(), "no underflow however far out"


def test_gradients_of_the_rate_are_those_of_differences() -> None:
    prior = LogisticMixtures(1).double()
    y = torch.randn(1, 1, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prior, (y,))


def test_normalisation_and_its_inverse_are_near_each_other_at_first() -> None:
    x = 0.3 * torch.randn(2, 6, 4, 4)
    normalised = DivisiveNormalisation(6, inverse=False)(x)
    assert torch.allclose(DivisiveNormalisation(6, inverse=True)(normalised), x, atol=5e-3)
    assert not torch.equal(normalised, x)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_begins_near_a_transform_and_its_inverse(channels: int) -> None:
    model = compressor(30.0, channels, hidden=[4 * channels, 16 * channels], bottleneck=16 * channels)
    ramp = torch.linspace(0.3, 0.7, 16).expand(1, channels, 16, 16)
    x = ramp + 0.05 * torch.rand(1, channels, 16, 16)
    with torch.no_grad():
        error = (model(x) - x).square().mean()
    assert error < 0.05 * x.var()


@given(height=st.integers(1, 67), width=st.integers(1, 67))
@settings(max_examples=25, deadline=None)
def test_images_of_any_size_come_back_in_it(height: int, width: int) -> None:
    model = compressor()
    with torch.no_grad():
        x = torch.rand(1, 3, height, width)
        code = model.encode(x)
        assert code.shape == (1, 10, *model.grid(height, width))
        assert torch.equal(code, code.round())
        assert model(x).shape == x.shape


def test_training_is_noisy_and_evaluation_rounds() -> None:
    model = compressor()
    x = torch.rand(2, 3, 16, 16)
    rounded = model.encode(x)
    model.train()
    noisy = (model.encode(x) - model.latents(x)).detach()
    assert noisy.abs().max() <= 0.5 and noisy.std() == pytest.approx(1 / math.sqrt(12), abs=0.05)
    model.eval()
    assert torch.equal(model.encode(x), rounded)


def test_the_loss_is_bits_and_the_error_of_bytes() -> None:
    model = compressor(0.02)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        losses = model.losses(x, x)
        error = (255 * (model(x) - x)).square().flatten(1).sum(1)
        bits = model.prior(model.encode(x)).flatten(1).sum(1)
    assert torch.allclose(losses["distortion"], 0.02 * error, rtol=1e-4)
    assert torch.allclose(losses["rate"], bits)


def test_more_weight_on_errors_buys_more_bits_and_fewer_errors() -> None:
    rows = tiny.photographs(64)
    by_weight = {}
    for weight in (0.0005, 0.02):
        training = tiny.training(
            "compression", options={"distortion_weight": weight}, rows=rows, steps=60, log_every=30
        )
        start = training.evaluate()
        training.run()
        by_weight[weight] = training.evaluate()
        assert by_weight[weight]["validation/loss"] < 0.8 * start["validation/loss"]
    cheap, dear = by_weight[0.0005], by_weight[0.02]
    assert cheap["validation/rate"] < 0.7 * dear["validation/rate"]
    assert cheap["validation/squared-error"] > 1.5 * dear["validation/squared-error"]


@pytest.mark.parametrize(
    ("config", "message"),
    [({"latent": "vector"}, r"network\.config\.latent"), ({"output": "sigmoid"}, r"network\.config\.output")],
)
def test_what_does_not_fit_is_refused(config: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny.training("compression", network=NetworkConfig(architecture="conv", config={**tiny.CODEC.config, **config}))


# -- tables and bytes -------------------------------------------------------------------------------------------------


def test_tables_are_whole_numbers_that_add_up() -> None:
    prior = compressor().prior
    tables = Tables.of(prior)
    for table in tables.channels:
        [counts] = table.counts
        assert sum(counts) == TOTAL and min(counts) >= 1
        values = table.lowest + torch.arange(len(counts) - 1.0)
        wanted = torch.exp2(-prior(values.expand(1, 10, -1)))[0, 0]
        assert np.allclose(np.array(counts[:-1]) / TOTAL, wanted.detach(), atol=len(counts) / TOTAL)


latents = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).choice(
        [-LARGEST, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, LARGEST], (3, 1 + seed % 7, 1 + seed % 5)
    )
)


@given(latents, st.sampled_from([TABLES, BY_CLASS]))
@settings(max_examples=120, deadline=None)
def test_any_whole_numbers_come_back(values: np.ndarray, tables: Tables) -> None:
    raw = tables.encode(values.astype(np.int32))
    assert np.array_equal(tables.decode(raw, *values.shape[1:]), values)
    assert tables.bits(values) == pytest.approx(_asked(tables, values), abs=1e-6)
    spare = 8 * len(raw) - _asked(tables, values)
    assert -1 < spare < 72, "the tables' bits, and less than two words and the coder's rounding"


def _classes_by_hand(contexts: Contexts, before: np.ndarray) -> np.ndarray:
    """Of every place, from the channels before [c, h, w]."""
    _, height, width = before.shape
    classes = np.zeros((height, width), int)
    for y in range(height) if contexts.limits else ():
        for x in range(width):
            activity = 0
            for values, own, around in zip(before.tolist(), contexts.own, contexts.around, strict=True):
                for v in range(max(0, y - 1), min(height, y + 2)):
                    for u in range(max(0, x - 1), min(width, x + 2)):
                        activity += (own if (v, u) == (y, x) else around) * min(abs(values[v][u]), 8)
            classes[y, x] = sum(limit <= activity for limit in contexts.limits)
    return classes


@given(latents)
@settings(max_examples=40, deadline=None)
def test_classes_are_told_by_the_channels_before(values: np.ndarray) -> None:
    activity = Activity(1, *values.shape[1:])
    for number, table in enumerate(BY_CLASS.channels):
        assert np.array_equal(
            activity.classes(table.contexts), _classes_by_hand(table.contexts, values[:number]).ravel()
        )
        activity.add(values[number].ravel())


def _places(count: int, seed: int) -> np.ndarray:
    """Latents [count, 3, 6, 6] of images that are busy in one half; the last channel is noise on its own."""
    random = np.random.default_rng(seed)
    busy = np.where(np.arange(6) < 3, 4.0, 0.3)
    latents = random.normal(size=(count, 3, 6, 6)) * np.stack([busy, busy, np.ones(6)])[:, None, :]
    return np.round(latents).astype(np.int32)


def test_classes_save_bits_where_places_differ_and_cost_hardly_any_where_not() -> None:
    counts = tuple(5 + int(60_000 * weight) for weight in np.exp(-0.5 * (np.arange(-20, 21) / 3) ** 2) / 7.53)
    without_classes = Tables((Table(-20, ((*counts, TOTAL - sum(counts)),)),) * 3)
    tables, unseen = without_classes.by_class(_places(400, 0), 12), _places(50, 1)
    assert [table.contexts.classes > 1 for table in tables.channels] == [False, True, True]
    bits = [
        [_asked(Tables(of.channels[: n + 1]), latents[: n + 1]) for n in range(3)]
        for of in (without_classes, tables)
        for latents in unseen
    ]
    assert without_classes.by_class(_places(400, 0), 1) == without_classes
    before, after = np.diff(np.array(bits), axis=1).reshape(2, 50, 2).sum(1)
    assert after[0] < 0.75 * before[0]  # busy places have a table of their own, quiet ones another
    half = Tables((*tables.channels[:2], _counted(_places(400, 0)[:, 2], without_classes.channels[2])))
    alone = sum(_asked(half, latents) - _asked(Tables(half.channels[:2]), latents[:2]) for latents in unseen)
    assert after[1] < 1.02 * alone  # what tells nothing


def test_classes_that_cost_bits_are_left_out() -> None:
    """Every channel is noise of the distribution that its table has: classes would only count chance."""
    weights = np.exp(-0.5 * (np.arange(-20, 21) / 3) ** 2)
    counts = tuple(1 + int(65_000 * weight / weights.sum()) for weight in weights)
    learned = Tables((Table(-20, ((*counts, TOTAL - sum(counts)),)),) * 3)
    noise_alone = np.round(3 * np.random.default_rng(0).normal(size=(60, 3, 6, 6))).astype(np.int32)
    assert learned.by_class(noise_alone, 12) == learned


def test_no_more_images_are_asked_for_than_classes_need() -> None:
    model, asked = compressor(), []

    def images() -> Iterator[torch.Tensor]:
        for number in range(100):
            asked.append(number)
            yield torch.from_numpy(np.stack([noise(64, 64, seed=number)] * 64) / np.float32(255))

    assert len(Tables.fitted(model, images()).channels) == 10
    assert len(asked) == 2 and not model.training  # 64 images of 16 × 16 places are half of what is needed


def _counted(values: np.ndarray, table: Table) -> Table:
    """One distribution of these values."""
    met = 1 + np.bincount(table.symbols(values.ravel()), minlength=len(table.counts[0]))
    shares = (met * TOTAL) // met.sum() + 1
    shares[np.argmax(shares)] += TOTAL - shares.sum()
    return Table(table.lowest, (tuple(shares.tolist()),))


def _starts(counts: tuple[int, ...]) -> list[int]:
    """Where each symbol's interval begins, and the last one ends, of 2²⁴: whole numbers alone; see `codec_tables`."""
    before = [0, *accumulate(counts)]
    return [n + ((1 << 24) - len(counts)) * before[n] // TOTAL for n in range(len(counts))] + [1 << 24]


def _decoded_by_hand(raw: bytes, tables: Tables, places: int) -> list[list[int]]:
    """A range decoder (Martin 1979; 64 bits of state, words of 32) in Python's whole numbers."""
    words = [int(word) for word in np.frombuffer(raw, "<u4")] + [0, 0]
    lower, span, point, position = 0, (1 << 64) - 1, words[0] << 32 | words[1], 2
    channels = []
    for table in tables.channels:
        symbols, starts = [], _starts(table.counts[0])
        for _ in range(places):
            scale = span >> 24
            symbol = bisect_right(starts, ((point - lower) % (1 << 64)) // scale) - 1
            lower = (lower + scale * starts[symbol]) % (1 << 64)
            span = scale * (starts[symbol + 1] - starts[symbol])
            if span < 1 << 32:
                lower, span = lower << 32 & (1 << 64) - 1, span << 32
                point = point << 32 & (1 << 64) - 1 | (words[position] if position < len(words) else 0)
                position += 1
            symbols.append(symbol)
        channels.append(symbols)
    return channels


def test_the_bytes_are_those_of_whole_numbers_alone() -> None:
    tables = Tables((TABLES.channels[0], Table(0, (tuple([13] * 5000 + [TOTAL - 65_000]),))))
    values = np.stack([np.random.default_rng(0).integers(-2, 3, 400), np.random.default_rng(1).integers(0, 5000, 400)])
    raw = tables.encode(values.reshape(2, 20, 20).astype(np.int32))
    by_hand = _decoded_by_hand(raw, tables, 400)
    assert np.array_equal(by_hand, values - np.array([[-2], [0]]))


def test_bytes_stay_what_they_were() -> None:
    values = np.array([[[0, 1, -1, 0]], [[3, 3, 7, 3]], [[0, 0, -5, 1]]], np.int32)
    assert TABLES.encode(values).hex() == GOLDEN


GOLDEN = "dae2979cbbb33d2c0ecb9a01009fce7b"


# -- files ------------------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 67), width=st.integers(1, 67), kind=st.sampled_from(["noise", "constant", "ramp"]))
@settings(max_examples=40, deadline=None)
def test_files_hold_the_whole_numbers_and_give_the_models_own_image(
    codec: Codec, height: int, width: int, kind: str
) -> None:
    image = noise(height, width, seed=height)
    if kind == "constant":
        image[:] = 7 * height % 256
    elif kind == "ramp":
        image[:] = np.linspace(0, 255, width).astype(np.uint8)
    raw = codec.encode(image)
    coded = codec.unpacked(raw)
    assert (coded.height, coded.width) == (height, width)
    assert np.array_equal(coded.latents, codec.latents(image))
    decoded = codec.decode(raw)
    assert decoded.dtype == np.uint8 and decoded.shape == image.shape
    assert np.array_equal(decoded, codec.rebuilt(image))
    assert codec.encode(image) == raw
    spare = 8 * (len(raw) - OVERHEAD) - _asked(codec.tables, coded.latents)
    assert -1 < spare < 72, "the tables' bits, and less than two words and the coder's rounding"


def _asked(tables: Tables, latents: np.ndarray) -> float:
    """Bits that the tables ask for latents [C, h, w]: −log2 of each count's share, 16 more for what is outside."""
    asked = 0.0
    for number, (table, channel) in enumerate(zip(tables.channels, latents, strict=True)):
        counts = np.array(table.counts)
        classes = _classes_by_hand(table.contexts, latents[:number]).ravel()
        symbols = channel.ravel() - table.lowest
        outside = (symbols < 0) | (symbols >= counts.shape[1] - 1)
        asked -= np.log2(counts[classes, np.where(outside, -1, symbols)] / TOTAL).sum() - 16 * outside.sum()
    return asked


def test_tables_ask_for_the_bits_of_the_learned_distributions(codec: Codec) -> None:
    for channel, table in enumerate(Tables.of(codec.model.prior).channels):
        likely = np.flatnonzero(np.array(table.counts[0][:-1]) >= TOTAL // 100)
        y = torch.zeros(1, len(codec.tables.channels), len(likely), dtype=torch.float64)
        y[0, channel] = torch.from_numpy(table.lowest + likely)
        bits = codec.model.prior(y)[0, channel].detach().numpy()
        assert len(likely) > 1
        assert np.allclose(-np.log2(np.array(table.counts[0])[likely] / TOTAL), bits, atol=0.02)


def test_any_change_of_a_byte_and_any_cut_is_refused(codec: Codec) -> None:
    raw = codec.encode(noise(9, 14))
    for place in range(len(raw)):
        with pytest.raises(UserError, match=r"damaged|not an image compressed"):
            codec.decode(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
        with pytest.raises(UserError, match=r"damaged|not an image compressed"):
            codec.decode(raw[:place])
    with pytest.raises(UserError, match="damaged"):
        codec.decode(raw + b"\0")


def _resealed(codec: Codec, header: bytes, payload: bytes) -> bytes:
    return header + payload + CHECKSUM.pack(zlib.crc32(header + payload))


def test_forged_files_are_refused(codec: Codec) -> None:
    raw = codec.encode(noise(40, 40))
    header, payload = raw[: HEADER.size], raw[HEADER.size : -CHECKSUM.size]
    magic, version, digest, channels, height, width = HEADER.unpack(header)
    forged = {
        "has version 9": HEADER.pack(magic, 9, digest, channels, height, width),
        "of 1 channels": HEADER.pack(magic, version, digest, 1, height, width),
        "65535 × 65535": HEADER.pack(magic, version, digest, channels, 65_535, 65_535),
        "0 × 40": HEADER.pack(magic, version, digest, channels, 40, 0),
    }
    for message, other in forged.items():
        with pytest.raises(UserError, match=message):
            codec.decode(_resealed(codec, other, payload))
    for other in (payload + payload, payload[:-2], b"\xff" * len(payload)):
        with pytest.raises(UserError, match="symbols cannot be decoded"):
            codec.decode(_resealed(codec, header, other))


def test_another_model_is_refused(codec: Codec, tmp_path: Path) -> None:
    other = kept(tmp_path, compressor(0.02))
    with pytest.raises(UserError, match=f"compressed with model {codec.digest.hex()}, and this is model"):
        other.decode(codec.encode(noise(8, 8)))


def test_a_model_reads_its_files_wherever_it_lies(codec: Codec, tmp_path: Path) -> None:
    again = kept(tmp_path, compressor())
    raw = codec.encode(noise(20, 31))
    assert again.digest == codec.digest
    assert np.array_equal(again.decode(raw), codec.decode(raw))


def test_latents_out_of_all_tables_are_kept(codec: Codec) -> None:
    latents = np.full((10, 2, 3), LARGEST, np.int32)
    latents[::2] = -LARGEST
    assert np.array_equal(codec.unpacked(codec.packed(CodedImage(8, 12, latents))).latents, latents)


def test_what_no_codec_takes_is_told(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this model takes 3 channels"):
        codec.encode(noise(8, 8, channels=1))
    with pytest.raises(UserError, match="a side has 1 to 65,535 pixels"):
        codec.encode(np.zeros((3, 1, 65_536), np.uint8))
    with pytest.raises(UserError, match="an image at most 67,108,864"):
        codec.encode(np.broadcast_to(np.uint8(0), (3, 8200, 8200)))
    save_model(tmp_path, compressor())
    with pytest.raises(UserError, match=r"codec\.json: not the tables of a codec"):
        Codec.open(tmp_path)
    none = {"own": [], "around": [], "limits": []}
    channel = {"lowest": 0, "counts": [[TOTAL - 1, 1]], "contexts": none}
    for wrong, message in (
        ({"counts": [[TOTAL, 1]]}, "do not add up to 65536"),
        ({"counts": [[TOTAL - 0.5, 0.5]]}, "a number is not whole"),
        ({"counts": [[TOTAL - 1, 1]] * 2}, "contexts of a channel do not fit"),
        ({"counts": [[TOTAL - 1, 1]] * 2, "contexts": {**none, "limits": [4]}}, "contexts of a channel do not fit"),
        ({"contexts": {"weights": []}}, "unexpected keyword"),
    ):
        tables = {"format": 2, "total": TOTAL, "channels": [channel] * 9 + [{**channel, **wrong}]}
        (tmp_path / FILE).write_text(json.dumps(tables))
        with pytest.raises(UserError, match=message):
            Codec.open(tmp_path)
    TABLES.save(tmp_path)
    with pytest.raises(UserError, match="tables of 3 channels"):
        Codec.open(tmp_path)
    training = tiny.training("conv")
    training.export(tmp_path / "plain")
    with pytest.raises(UserError, match="holds a model of kind autoencoder"):
        Codec.open(tmp_path / "plain")


def test_what_is_exported_is_a_codec(tmp_path: Path) -> None:
    training = tiny.training("compression", steps=3)
    training.run()
    training.export(tmp_path)
    codec = Codec.open(tmp_path)
    image = tiny.images(1)[0]
    assert np.array_equal(codec.decode(codec.encode(image)), codec.rebuilt(image))
    assert open_model(tmp_path).kind == "compression"
