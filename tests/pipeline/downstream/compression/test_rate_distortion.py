"""What codecs are judged by: known values, and differences of curves whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.downstream.compression.codecs import Saving, _verdict
from pipeline.downstream.compression.rate_distortion import (
    JPEG,
    JPEG2000,
    SHORTEST_SIDE,
    STANDARDS,
    WEBP,
    RatePoint,
    bd_rate,
    coded,
    is_multiscale,
    mean,
    measured,
    psnr,
    similarity,
)

# rate (kbit/s) and PSNR (dB) of two video encoders: the example that implementations of Bjøntegaard's difference share
FIRST = [(686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)]
SECOND = [(893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)]


def points(pairs: list[tuple[float, float]]) -> list[RatePoint]:
    return [RatePoint(rate, quality, 1 - 10 ** (-quality / 20)) for rate, quality in pairs]


def photograph(height: int = 180, width: int = 200, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 60 * np.sin(x / (7 + number) + y / 23) + 40 * np.cos(y / 11) for number in range(channels)]
    return np.clip(np.stack(waves) + np.random.default_rng(0).normal(0, 6, (channels, height, width)), 0, 255).astype(
        np.uint8
    )


def test_psnr_of_known_errors() -> None:
    wanted = np.full((3, 4, 5), 100, np.uint8)
    assert psnr(wanted + np.uint8(1), wanted) == pytest.approx(20 * math.log10(255))
    assert psnr(wanted - np.uint8(16), wanted) == pytest.approx(20 * math.log10(255 / 16))
    assert psnr(wanted, wanted) == math.inf


def test_the_shared_example_of_two_encoders() -> None:
    """Against Bjøntegaard's own way, one cubic through four points, integrated exactly."""
    cubics = [np.polynomial.Polynomial.fit([q for _, q in of], np.log([r for r, _ in of]), 3) for of in (FIRST, SECOND)]
    low, high = 31.42, 40.28
    areas = [cubic.integ()(high) - cubic.integ()(low) for cubic in cubics]
    wanted = 100 * math.expm1((areas[1] - areas[0]) / (high - low))
    assert 30 < wanted < 40
    assert bd_rate(points(SECOND), points(FIRST)) == pytest.approx(wanted, abs=0.3)
    there, back = bd_rate(points(SECOND), points(FIRST)), bd_rate(points(FIRST), points(SECOND))
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


@pytest.mark.parametrize("quality", ["psnr", "similarity"])
def test_a_share_of_the_bits_everywhere_is_that_share(quality: str) -> None:
    anchor = points(FIRST)
    less = [point._replace(bpp=0.7 * point.bpp) for point in anchor]
    assert bd_rate(less, anchor, quality) == pytest.approx(-30)
    assert bd_rate(anchor, anchor, quality) == pytest.approx(0)
    assert bd_rate(less[::-1], anchor, quality) == pytest.approx(-30), "the order of points does not matter"


def test_only_what_both_reach_counts() -> None:
    line = [RatePoint(2.0**n, 30.0 + 6 * n, 0.9) for n in range(5)]
    above = [RatePoint(2.0**n, 30.0 + 6 * n, 0.9) for n in range(5, 8)]
    assert math.isnan(bd_rate(above, line))
    half = [point._replace(bpp=point.bpp / 2) for point in line[2:]]
    assert bd_rate(half, line) == pytest.approx(-50)
    assert math.isnan(bd_rate(line[:1], line))


def test_where_bits_buy_nothing_there_is_no_rate() -> None:
    line = [RatePoint(2.0**n, 30.0 + 6 * n, 0.9) for n in range(5)]
    empty = [RatePoint(2.0**n, math.inf, 1.0) for n in range(5)]  # as of an image of one colour
    worse = [RatePoint(1.0, 40.0, 0.9), RatePoint(2.0, 39.0, 0.8)]
    for curve in (empty, worse, []):
        assert math.isnan(bd_rate(curve, line)) and math.isnan(bd_rate(line, curve))


def test_a_point_that_costs_more_and_is_worse_is_left_out() -> None:
    anchor = points(FIRST)
    worse = [*anchor, RatePoint(200.0, 33.0, 0.5)]
    assert bd_rate(worse, anchor) == pytest.approx(0)


def test_similarity_is_one_of_equals_and_falls() -> None:
    large, small = photograph(), photograph(40, 50)
    assert is_multiscale(large) and not is_multiscale(small)
    for picture in (large, small, photograph(SHORTEST_SIDE, SHORTEST_SIDE, 1)):
        noisy = np.clip(picture + np.random.default_rng(1).normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
        assert similarity(picture, picture) == pytest.approx(1)
        assert 0.2 < similarity(noisy, picture) < 0.98
    assert math.isnan(similarity(photograph(10, 60), photograph(10, 60)))


@pytest.mark.parametrize("name", STANDARDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_standard_codecs_give_more_quality_for_more_bits(name: str, channels: int) -> None:
    curve, picture = STANDARDS[name], photograph(channels=channels)
    ends = []
    for setting in (curve.settings[0], curve.settings[-1]):
        size, decoded = coded(picture, curve, setting)
        assert decoded.shape == picture.shape and decoded.dtype == np.uint8
        ends.append(measured(picture, decoded, size))
        assert ends[-1].bpp == 8 * size / picture[0].size
    assert ends[0].bpp < 0.6 * ends[1].bpp and ends[0].psnr + 3 < ends[1].psnr
    assert ends[0].similarity < ends[1].similarity


def test_means_are_of_each_measure() -> None:
    assert mean([RatePoint(1.0, 30.0, 0.8), RatePoint(3.0, 40.0, 0.9)]) == pytest.approx(RatePoint(2.0, 35.0, 0.85))
    assert list(STANDARDS[JPEG].settings) == sorted(STANDARDS[JPEG].settings)


def test_a_saving_is_told_with_what_so_many_images_leave_open() -> None:
    five = Saving.of([-22.2, -32.6, -9.6, 17.0, -8.4])
    assert (round(five.mean, 2), round(five.low, 1), round(five.high, 1)) == (-11.16, -34.3, 11.9)
    assert (five.num_images, five.num_worse) == (5, 1) and str(five) == "-11.2 (-34.3 to +11.9)"
    others = {JPEG2000: Saving.of([-40.0, -42.0]), WEBP: Saving.of([-38.0, -36.0, math.nan])}
    text = _verdict({"ours": five, **others})
    assert text.startswith("JPEG2000 needs the fewest bits for equal PSNR. BD-rate against JPEG over 5 images (95 % ")
    assert text.endswith("do not tell whether ours needs fewer bits than JPEG or more; it needs more on 1 of 5.")
    worse = _verdict({"ours": Saving.of([4.0, 5.0, 6.0]), **others})
    assert worse.endswith("Ours is worse than JPEG: it needs 5.0 % more bits; it needs more on 3 of 3.")
    better = _verdict({"ours": Saving.of([-4.0, -5.0, -6.0]), **others})
    assert better.endswith("Ours needs fewer bits than JPEG; it needs more on 0 of 3.")
    single, none = Saving.of([-3.0]), Saving.of([math.nan])
    assert str(single) == "-3.0" and single.high == math.inf and "do not tell" in _verdict({"ours": single, **others})
    assert (str(none), none.num_images) == ("–", 0) and none.to_json()["mean"] is None
    assert "nothing can be said" in _verdict({"ours": none, **others})
    bound = Saving.of([1.0, 3.0] * 500)
    assert bound.high - bound.mean == pytest.approx(1.96 / math.sqrt(1000), rel=2e-3)
