from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifact import Artifact, output_digest
from pipeline.fingerprint import digest
from pipeline.stage import Context, Stage


def stage(name="train", version=1):
    return Stage(name, version, lambda config, inputs, out, context: {})


def artifact(content: str) -> Artifact:
    files = {"file": {"size": len(content), "digest": digest(content)}}
    manifest = {"files": files, "output_digest": output_digest(files), "attempt": content}  # type: ignore[arg-type]
    return Artifact(f"parent-{content}", Path("nowhere"), manifest)  # type: ignore[arg-type]


def test_the_key_names_the_stage_and_hashes_its_identity():
    assert (
        stage().key({"lr": 0.1}, {})
        == "train-" + (digest({"stage": "train", "version": 1, "config": {"lr": 0.1}, "inputs": {}})[:16])
    )


def test_a_golden_key():
    """A changed key forks every store there is."""
    assert stage().key({"b": [1, 2.5, None], "a": {"x": "é"}}, {}) == "train-9deb6677cef21801"


def test_everything_of_the_identity_changes_the_key():
    first, other = artifact("one"), artifact("other")
    keys = [
        stage().key({"lr": 0.1}, {}),
        stage("tune").key({"lr": 0.1}, {}),
        stage(version=2).key({"lr": 0.1}, {}),
        stage().key({"lr": 0.2}, {}),
        stage().key({"lr": 0.1, "eps": 1.0}, {}),
        stage().key({"lr": 0.1}, {"corpus": first}),
        stage().key({"lr": 0.1}, {"corpus": other}),
        stage().key({"lr": 0.1}, {"shards": first}),
        stage().key({"lr": 0.1}, {"corpus": first, "shards": first}),
    ]
    assert len(set(keys)) == len(keys)


def test_only_the_output_of_an_input_matters():
    first, again = artifact("same"), artifact("same")
    again.key, again.manifest["attempt"] = "parent-elsewhere", "later"
    assert stage().key({}, {"corpus": first}) == stage().key({}, {"corpus": again})


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
def test_the_order_of_keys_does_not_matter(config):
    assert stage().key(dict(reversed(config.items())), {}) == stage().key(config, {})


def test_what_cannot_be_hashed_is_named():
    with pytest.raises(TypeError, match=r"config\.train\.path: pathlib"):
        stage().key({"train": {"path": Path("x")}}, {})


@pytest.mark.parametrize("name", ["", "Train", "pre train", "a/b", "..", "a--b", "-a", "a-"])
def test_a_name_is_lower_case_words(name):
    with pytest.raises(ValueError, match="stage name"):
        stage(name)


def test_a_context_outside_a_store_cannot_be_written_to():
    with pytest.raises(OSError, match="Not a directory"):
        (Context().work / "checkpoint").write_text("lost")
    assert not Context().has_downloads
    assert Context(downloads=Path("somewhere")).has_downloads
    Context().progress("nobody listens", 0.5)
