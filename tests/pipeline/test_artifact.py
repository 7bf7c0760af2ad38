"""A manifest that was harmed is named, whatever part of it; one that was not is read as it was written."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from pipeline.artifact import FORMAT, FileEntry, Manifest, output_digest, read_manifest, write_manifest
from pipeline.stage import Stage
from pipeline.store.store import MANIFEST, Store

SAID = {
    "loss": 0.1 + 0.2,
    "least": 5e-324,
    "rows": 2**70,
    "name": "naïve “ë” 🦀 \ud800",  # as in the name of a file that is not UTF-8
    "none": None,
    "list": [True, -0.0, {}],
}
SAYS = Stage("says", 1, lambda config, inputs, out, context: {**SAID, "config": config})


def test_a_flipped_byte_of_a_manifest_is_named_or_changes_nothing(tmp_path: Path) -> None:
    """Any of it: of the config, summary and provenance, too, which no other digest covers."""
    artifact, _ = Store(tmp_path).produce(SAYS, {"lr": 1e-3, "words": ["a", "b"]})
    path = tmp_path / artifact.key / MANIFEST
    content = path.read_bytes()
    harmless = 0
    for at, bit in itertools.product(range(len(content)), range(8)):
        data = bytearray(content)
        data[at] ^= 1 << bit
        try:
            assert read_manifest(bytes(data), artifact.key, str(path)) == artifact.manifest
            harmless += 1
        except UserError as error:
            assert f"{path} is damaged (" in str(error)
            assert f"); delete the artifact {artifact.key} and rerun" in str(error) and "\n" not in str(error)
    assert harmless < 100, "the case of an escape's hexadecimal digits, of an exponent's e"
    path.write_bytes(content.replace(b"0.001", b"0.002"))
    with pytest.raises(UserError, match=r"its own digest is not that of what it says\); delete the artifact says-"):
        Store(tmp_path).produce(SAYS, {"lr": 1e-3, "words": ["a", "b"]})
    with pytest.raises(UserError, match=r"is damaged \(summary\.loss: inf has no canonical form\)"):
        read_manifest(content.replace(b"0.30000000000000004", b"1e999"), artifact.key, str(path))


def test_an_early_manifest_has_no_digest_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact, _ = store.produce(SAYS, {"text": "a"})
    manifest = dict(artifact.manifest)
    assert manifest.pop("digest")
    (tmp_path / artifact.key / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True))
    again, reused = store.produce(SAYS, {"text": "a"})
    assert reused and again.output_digest == artifact.output_digest
    assert again.manifest == manifest and store.verify(again) == []


@settings(max_examples=200)
@given(
    summary=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
            max_leaves=6,
        ),
    )
)
def test_what_a_manifest_says_is_read_as_it_was_written(summary: dict[str, Any]) -> None:
    files = {"a": FileEntry(size=1, digest="0")}
    manifest = Manifest(
        format=FORMAT, key=f"says-{'0' * 16}", stage="says", version=1, attempt=f"{'1' * 8}T{'1' * 12}-{'0' * 8}",
        config=summary, inputs={}, files=files, summary=summary, output_digest=output_digest(files), provenance=summary,
    )  # fmt: skip
    read = read_manifest(write_manifest(manifest), manifest["key"], "there")
    assert write_manifest(read) == write_manifest(manifest)
