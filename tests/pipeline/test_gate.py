"""The gate: an empty place is taken, a held one only by a score of the same evaluation that is not worse."""

from __future__ import annotations

import pytest

from pipeline.gate import Score, decide

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("champion", "score", "moves"),
    [
        (Score(0.5, "e"), 0.5, True),
        (Score(0.5, "e"), 0.4999, False),
        (Score(0.5, "e"), INFINITE, False),
        (Score(0.5, "other"), 0.9, False),
        (None, 0.9, False),
        (Score(NAN, "e"), 0.9, False),
        (Score(-2.0, "e"), -1.5, True),
    ],
)
def test_a_held_place(champion: Score | None, score: float, moves: bool) -> None:
    assert decide(Score(score, "e"), champion).takes_over == moves


def test_an_empty_place() -> None:
    assert decide(Score(0.0, "e"), None, held=False).takes_over
    assert not decide(Score(NAN, "e"), None, held=False).takes_over


def test_of_losses_less_is_better() -> None:
    decision = decide(Score(2.0, "e", "lower", 0.1), Score(1.0, "e", "lower", 0.2), "version 1")
    assert not decision.takes_over and decision.reason == "2 ± 0.1 is higher than the 1 ± 0.2 of version 1"
    assert decide(Score(0.9, "e", "lower"), Score(1.0, "e", "lower")).takes_over


def test_near_a_wanted_value_is_as_good_as_there() -> None:
    champion = Score(0.012, "e", target=0.01, tolerance=0.003)
    assert decide(Score(0.3, "e", target=0.3, tolerance=0.003), champion).takes_over, "each is held to its own"
    assert decide(Score(0.008, "e", target=0.01, tolerance=0.003), champion).takes_over
    exact = Score(0.01, "e", target=0.01, tolerance=0.003)
    assert decide(Score(0.0129, "e", target=0.01, tolerance=0.003), exact).takes_over, "both are near enough"
    assert not decide(Score(0.0131, "e", target=0.01, tolerance=0.003), exact).takes_over
    decision = decide(Score(0.0, "e", target=0.01, tolerance=0.003), champion)
    assert not decision.takes_over and "0 is farther off than the 0.012" in decision.reason
