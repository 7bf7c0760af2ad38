"""Texts of any script in figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from pipeline.reports import fonts
from pipeline.reports.data import new_axes, save
from pipeline.reports.fonts import give_fonts

HEBREW = "שלום"  # in DejaVu Sans, not in DejaVu Sans Mono; matplotlib brings both


@pytest.fixture
def axes() -> Iterator[Any]:
    _, axes = new_axes("Title", "x", "y")
    yield axes
    pyplot.close("all")


def test_another_installed_font_has_what_a_texts_own_lacks(axes: Any, tmp_path: Path) -> None:
    text = axes.text(0, 0, f"abc {HEBREW}", family="monospace")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        axes.figure.savefig(tmp_path / "without.png")
    assert any("missing from font" in str(warning.message) for warning in said)
    assert give_fonts([text]) == set()
    assert text.get_fontfamily() == ["monospace", "DejaVu Sans"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(tmp_path / "with.png")


def test_what_fonts_have_is_left_as_it_is(axes: Any) -> None:
    text = axes.text(0, 0, "plain, ä, Ω\n\tж")
    families = text.get_fontfamily()
    assert give_fonts([text]) == set()
    assert text.get_fontfamily() == families


def test_characters_of_no_font_are_counted_below_the_figure(
    axes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_best", lambda lacking: None)
    axes.text(0, 0, HEBREW, family="monospace")
    axes.text(0, 1, HEBREW[:2] * 3, family="monospace")
    figure = axes.figure
    save(figure, tmp_path / "figure.png")
    assert figure.get_supxlabel() == "a box is a character that no font installed here has (4 of them)"


def test_a_figure_whose_characters_all_have_glyphs_has_no_note(axes: Any, tmp_path: Path) -> None:
    save(axes.figure, tmp_path / "figure.png")
    assert axes.figure.get_supxlabel() == ""
