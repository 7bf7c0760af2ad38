"""What of settings makes a result what it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, create_model

from data_prep.settings import Settings, changed_default, described_fields, identity, with_new_defaults


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
    mode: str = changed_default("old", now="new")
    """How."""
    names: dict[str, Small] = Field(default_factory=dict)
    """By name."""


class Wider(Small):
    width: int = Field(default=1, description="Said by the field.")
    """Not shown."""
    depth: int = 1
    size: int = 4
    """How large
    in all."""


def test_a_docstring_below_a_field_describes_it() -> None:
    said = {name: field.description for name, field in described_fields(Wider).items()}
    assert said == {"kind": "Which.", "size": "How large\nin all.", "width": "Said by the field.", "depth": None}
    made = described_fields(create_model("Made", __base__=Wider, other=(int, 1)))
    assert (made["kind"].description, made["other"].description) == ("Which.", None)


def test_what_is_as_before_there_was_such_a_setting_is_left_out() -> None:
    assert identity(Whole(steps=5)) == {"steps": 5}
    assert identity(Whole(steps=5, mode="new")) == {"steps": 5, "mode": "new"}
    assert identity(Whole(steps=5, rate=2.0, mode="old")) == {"steps": 5, "rate": 2.0}


class Outer(Settings):
    inner: Whole = Whole(steps=5)
    """With a setting whose default was changed."""
    others: list[Whole] = Field(default_factory=list)
    """More of them."""


def test_recipes_have_the_default_of_today_and_identities_keep_the_old_one() -> None:
    recipe = with_new_defaults(Outer())
    assert recipe.inner.mode == "new" and identity(recipe) == {"inner": {"steps": 5, "mode": "new"}}
    assert Outer.model_validate(identity(recipe)) == recipe, "what is read from an identity is what it was made of"
    old = with_new_defaults(Outer.model_validate({"inner": {"steps": 5, "mode": "old"}, "others": [{"steps": 1}]}))
    assert [whole.mode for whole in (old.inner, *old.others)] == ["old", "new"]
    assert identity(old) == {"others": [{"steps": 1, "mode": "new"}]}, "the key is that of before the change"
    assert Outer.model_validate(identity(old)) == old
    unchanged = Outer(inner=Whole(steps=5, mode="old"))
    assert with_new_defaults(unchanged) is unchanged


def test_what_tells_branches_apart_stays() -> None:
    large = Large(kind="large", parts=[Small(kind="small"), Small(kind="small", size=4)])
    whole = Whole(steps=1, shape=large, names={"a": Small(kind="small")}, mode="old")
    assert identity(whole) == {
        "steps": 1,
        "shape": {"kind": "large", "parts": [{"kind": "small"}, {"kind": "small", "size": 4}]},
        "names": {"a": {"kind": "small"}},
    }
    assert Whole.model_validate(identity(whole)) == whole


def test_a_field_may_be_left_out_by_name() -> None:
    assert identity(Whole(steps=5, mode="old", rate=2.0), without=("rate",)) == {"steps": 5}
