"""What of settings makes a result what it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data_prep.settings import Settings, changed_default, identity


class Small(Settings):
    kind: Literal["small"]
    """Which."""
    size: int = 3
    """How large."""


class Large(Settings):
    kind: Literal["large"]
    """Which."""
    parts: list[Small] = Field(default_factory=list)
    """Of what."""


class Whole(Settings):
    steps: int
    """How many."""
    rate: float = 1.0
    """How fast."""
    shape: Annotated[Small | Large, Field(discriminator="kind")] = Small(kind="small")
    """What."""
    mode: str = changed_default("new", unused="old")
    """How."""
    names: dict[str, Small] = Field(default_factory=dict)
    """By name."""


def test_what_is_as_before_there_was_such_a_setting_is_left_out() -> None:
    assert identity(Whole(steps=5, mode="old")) == {"steps": 5}
    assert identity(Whole(steps=5)) == {"steps": 5, "mode": "new"}, "the default was changed: what it was before is out"
    assert identity(Whole(steps=5, rate=2.0, mode="old")) == {"steps": 5, "rate": 2.0}


def test_what_tells_branches_apart_stays() -> None:
    large = Large(kind="large", parts=[Small(kind="small"), Small(kind="small", size=4)])
    whole = Whole(steps=1, shape=large, names={"a": Small(kind="small")}, mode="old")
    assert identity(whole) == {
        "steps": 1,
        "shape": {"kind": "large", "parts": [{"kind": "small"}, {"kind": "small", "size": 4}]},
        "names": {"a": {"kind": "small"}},
    }
    assert Whole.model_validate(identity(whole) | {"mode": "old"}) == whole


def test_a_field_may_be_left_out_by_name() -> None:
    assert identity(Whole(steps=5, mode="old", rate=2.0), without=("rate",)) == {"steps": 5}
