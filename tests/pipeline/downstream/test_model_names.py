"""What numbers call models, and models whose numbers could be taken for each other's."""

from __future__ import annotations

import pytest

from pipeline.downstream.model_names import problems, slug


def test_numbers_call_a_folder_by_its_last_part() -> None:
    assert [slug(name) for name in ("pretrained", "/a/of mine", "english")] == ["pretrained", "of-mine", "english"]
    assert list(problems(["pretrained", "scratch", "/a/one", "/a/two", "english"], ["majority"])) == []
    assert list(problems(["pretrained", "frozen"], trains=True)) == []


@pytest.mark.parametrize(
    ("models", "text"),
    [
        (["/a/model", "/b/model"], "/a/model and /b/model are both called 'model' in numbers; link it under another"),
        (["/a/of mine", "/b/of-mine"], "/a/of mine and /b/of-mine are both called 'of-mine' in numbers"),
        (["pretrained", "/a/pretrained"], "pretrained and /a/pretrained are both called 'pretrained' in numbers"),
        (["/a/pretrained"], "the recipe's own network, pretrained, and /a/pretrained are both called 'pretrained'"),
        (["english", "english"], "names 'english' twice"),
        (["majority"], "'majority' is one of baselines, too"),
        (["frozen"], "'frozen' is of fine-tuning, and here no network learns"),
    ],
)
def test_models_that_numbers_would_confuse_are_refused(models: list[str], text: str) -> None:
    ((path, said),) = problems(models, ["majority"])
    assert path == ".models" and said.startswith(text)
