"""Digests of what was learned from: of what a row holds, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.corpus.documents import Corpus, SplitConfig
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from pipeline.scoring import training_rows
from tests.data_prep.ingesting import ingest
from tests.pipeline import detectors


def test_rows_of_a_table_are_told_by_their_values() -> None:
    rows = detectors.rows(50)
    digests = training_rows.of_rows(rows)
    assert digests.dtype == np.uint64 and len(np.unique(digests)) == 50
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(training_rows.of_rows(rows.take(pa.array(order))), digests[order])
    assert np.array_equal(training_rows.of_rows(rows.select(rows.schema.names[::-1])), digests)
    changed = rows.set_column(0, "a", pa.array(np.append(rows["a"].to_numpy()[:-1], 9.0)))
    assert np.flatnonzero(training_rows.of_rows(changed) != digests).tolist() == [49]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_told_by_their_pixels(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, channels, 4, 3)).astype(np.uint8)
    digests = training_rows.of_rows(images)
    assert len(np.unique(digests)) == 20
    assert np.array_equal(training_rows.of_rows(images[::-2]), digests[::-2]), "wherever they lie in memory"


def test_documents_are_told_by_their_text(tmp_path: Path) -> None:
    """Not by their names or the split that they are in."""
    texts = [f"This is text {number}. It is about {number * number} things." for number in range(30)]
    digests_of = {}
    for name, documents, split in (("a", texts, 0.3), ("b", texts[::-1], 0.6)):
        (tmp_path / name).mkdir()
        for number, text in enumerate(documents):
            (tmp_path / name / f"{number}.txt").write_text(text)
        source = SourceConfig(path=str(tmp_path / name))
        config = SplitConfig(validation=0.1, test=split)
        ingest([source], CleanConfig(), config, 0, tmp_path / f"{name}-corpus", tmp_path / "downloads")
        splits = [Corpus(tmp_path / f"{name}-corpus", which) for which in ("train", "validation", "test")]
        assert all(len(part) for part in splits)
        digests = [training_rows.of_documents(part) for part in splits]
        assert [len(part) for part in digests] == [len(part) for part in splits]
        digests_of[name] = np.concatenate(digests)
    assert len(np.unique(digests_of["a"])) == 30
    assert set(digests_of["a"]) == set(digests_of["b"])


def test_what_was_saved_is_found(tmp_path: Path) -> None:
    assert not len(training_rows.load(tmp_path)), "none were kept"
    training_rows.save(tmp_path / "new", np.array([5, 3, 5, 1], np.uint64))
    assert training_rows.load(tmp_path / "new").tolist() == [1, 3, 5]
    (tmp_path / "new" / training_rows.FILE).write_bytes(b"no array")
    with pytest.raises(UserError, match=r"training_rows\.npy cannot be read"):
        training_rows.load(tmp_path / "new")
