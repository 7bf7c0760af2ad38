"""Official splits in one folder: never mixed without being told to, and used as they are if asked."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS, Corpus
from data_prep.errors import UserError
from data_prep.ingest import ingest
from data_prep.kinds import kind_of
from data_prep.sources import named_splits
from data_prep.sources.config import SourceConfig

LAYOUTS = {
    "NSL-KDD": ("KDDTrain+.txt", "KDDTest+.txt"),
    "a part of it": ("KDDTrain+_20Percent.txt", "KDDTest-21.txt"),
    "UCI": ("adult.train", "adult.test"),
    "Kaggle": ("train.csv", "test.csv"),
    "arrays": ("X_train.npy", "X_test.npy"),
    "without a break": ("xtrain.csv", "xtest.csv"),
    "Hugging Face": ("data/train-00000-of-00012.parquet", "data/test-00000-of-00001.parquet"),
    "GLUE": ("CoLA/train.tsv", "CoLA/dev.tsv"),
    "CoLA": ("in_domain_train.tsv", "in_domain_dev.tsv"),
    "WikiText": ("wiki.train.tokens", "wiki.valid.tokens"),
    "MNIST": ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"),
    "ImageNet": ("train/n01440764/1.JPEG", "val/n01440764/2.JPEG"),
    "COCO": ("train2017/1.jpg", "val2017/2.jpg"),
    "CycleGAN": ("trainA/1.jpg", "testA/1.jpg"),
    "LibriSpeech": ("train-clean-100/19/1.flac", "dev-clean/84/1.flac"),
    "IMDb": ("train/pos/0_9.txt", "test/pos/0_10.txt"),
    "an archive": ("cifar.zip/train/cat/1.png", "cifar.zip/test/cat/1.png"),
    "no train": ("dev.jsonl", "test.jsonl"),
}
OTHERS = (
    ("fables/the_train.txt", "poems/the_test.txt"),
    ("latest.csv", "trains.csv"),
    ("2021.csv", "2022.csv"),
    ("english_train.tsv", "german_test.tsv"),
    ("train.csv", "train_2.csv"),
    ("The valley of fear.txt", "Training of the mind.txt"),
    ("contest.txt", "constrain.txt"),
)


class File(NamedTuple):
    name: str


def source(path: str = "/d", **settings: str) -> SourceConfig:
    return SourceConfig.model_validate({"path": path, **settings})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_of_one_data_set_are_told_by_their_names(layout: str) -> None:
    first, second = (f"d/{name}" for name in LAYOUTS[layout])
    files = [File(first), File(second), File("d/README.txt")]
    with pytest.raises(UserError, match=r"named as parts of one data set.* \(1\): .*split: names") as refused:
        named_splits.check([(source(), files)])
    assert first in str(refused.value) and second in str(refused.value) and "README" not in str(refused.value)
    expected = "validation" if any(word in second for word in ("dev", "val")) else "test"
    by_split = dict(named_splits.by_split(source(split="names"), files))
    assert File(second) in by_split[expected] and File("d/README.txt") in by_split[None]
    assert File(first) in by_split["validation" if layout == "no train" else None]


@pytest.mark.parametrize("names", OTHERS)
def test_other_names_are_not(names: tuple[str, str]) -> None:
    named_splits.check([(source(), [File(f"d/{name}") for name in names])])


def test_sources_beside_each_other_are_seen_together() -> None:
    training, other = source("/d/train.csv"), source("/d/test.csv")
    with pytest.raises(UserError, match="would be mixed"):
        named_splits.check([(training, [File("train.csv")]), (other, [File("test.csv")])])
    with pytest.raises(UserError, match="would be mixed"):
        named_splits.check([(source("/d/train"), [File("train/1.csv")]), (source("/d/test/"), [File("test/1.csv")])])
    held_out = source("/d/test.csv", split="test")
    named_splits.check([(training, [File("train.csv")]), (held_out, [File("test.csv")])])
    named_splits.check([(source("/a/train"), [File("train/1.csv")]), (source("/b/test"), [File("test/1.csv")])])
    assert named_splits.by_split(held_out, [File("test.csv")]) == [("test", [File("test.csv")])]


def test_titles_are_no_splits() -> None:
    titles = [File(f"d/{number}.txt") for number in range(20)]
    titles += [File("d/Train robbers of the west.txt"), File("d/Test pilots at work.txt")]
    named_splits.check([(source(), titles)])
    with pytest.raises(UserError, match=r"split: names, and none of its files \(20\)"):
        named_splits.by_split(source(split="names"), titles[:20])


def test_the_outermost_name_decides() -> None:
    files = [File("d/train/test_1.csv"), File("d/test/train_1.csv"), File("d/val.csv")]
    by_split = dict(named_splits.by_split(source(split="names"), files))
    assert by_split == {None: files[:1], "test": files[1:2], "validation": files[2:]}


def test_the_end_of_a_word_counts_beside_its_counterpart_alone() -> None:
    """`contest` is no test."""
    files = [File("d/test.csv"), File("d/contest.csv"), File("d/xtrain.csv"), File("d/xtest.csv")]
    by_split = dict(named_splits.by_split(source(split="names"), files))
    assert by_split == {"test": [files[0], files[3]], None: files[1:3]}


@given(
    split=st.sampled_from([("train", "test"), ("Train", "Val"), ("TRAIN", "DEV"), ("training", "evaluation")]),
    before=st.sampled_from(["", "my_", "X-", "part 1 "]),
    after=st.sampled_from(["", "_set", "-00001-of-00009", "+", "2017", "_20Percent", ".v2"]),
    end=st.sampled_from([".csv", ".csv.gz", "/a.png", ""]),
)
def test_however_they_are_written(split: tuple[str, str], before: str, after: str, end: str) -> None:
    files = [File(f"d/{before}{word}{after}{end}") for word in split]
    with pytest.raises(UserError, match="would be mixed"):
        named_splits.check([(source(), files)])


def table(path: Path, start: int, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a,b\n" + "".join(f"{number},{number % 7}.5\n" for number in range(start, start + rows)))


def ingested(kind: str, folder: Path, out: Path, split: str | None, **shares: float) -> dict[str, dict[str, int]]:
    """Rows by split, and by the name of their file."""
    shares = {"validation": 0.0, "test": 0.0, **shares}
    data = {"kind": kind, "sources": [{"path": str(folder), "split": split}], "split": shares}
    ingest(kind_of(kind), kind_of(kind).Data.model_validate(data), 0, out, out.with_name("downloads"))
    counts_by_split: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        rows = Corpus(out, name) if kind == "text" else ArrayCorpus(out, name)
        names = rows.names if isinstance(rows, Corpus) else rows.names(range(len(rows))) if len(rows) else []
        files = [name.partition(":")[0].partition("/")[2] for name in names]
        counts_by_split[name] = {file: files.count(file) for file in sorted(set(files))}
    return counts_by_split


def test_rows_of_a_declared_test_are_tested_on_and_nothing_else(tmp_path: Path) -> None:
    table(tmp_path / "kdd" / "KDDTrain+.csv", 0, 40)
    table(tmp_path / "kdd" / "KDDTest+.csv", 30, 20)  # ten of them are in training, too
    with pytest.raises(UserError, match=r"train \(1\): kdd/KDDTrain\+\.csv; test \(1\): kdd/KDDTest\+\.csv"):
        ingested("table", tmp_path / "kdd", tmp_path / "out", None)
    counts_by_split = ingested("table", tmp_path / "kdd", tmp_path / "names", "names", validation=0.2, test=0.2)
    assert counts_by_split["test"] == {"KDDTest+.csv": 20}, "all of it, and no share of the others"
    assert counts_by_split["train"] == {"KDDTrain+.csv": 24} and counts_by_split["validation"] == {"KDDTrain+.csv": 6}
    counts_by_split = ingested("table", tmp_path / "kdd", tmp_path / "all", "train")
    assert counts_by_split == {"train": {"KDDTest+.csv": 20, "KDDTrain+.csv": 30}, "validation": {}, "test": {}}


def test_documents_and_recordings_alike(tmp_path: Path) -> None:
    for name, count in (("train", 9), ("dev", 4), ("test", 5)):
        (tmp_path / "reviews" / name).mkdir(parents=True)
        for number in range(count):
            text = f"The {name} review number {number} has words enough to be kept as a document."
            (tmp_path / "reviews" / name / f"{number}.txt").write_text(text)
    with pytest.raises(UserError, match=r"train \(9\).* and 6 more; validation \(4\).*; test \(5\)"):
        ingested("text", tmp_path / "reviews", tmp_path / "out", None)
    counts_by_split = ingested(
        "text", tmp_path / "reviews", tmp_path / "names", "names", validation=0.5, test=0.5 - 1e-9
    )
    assert {split: sum(files.values()) for split, files in counts_by_split.items()} == {
        "train": 9,
        "validation": 4,
        "test": 5,
    }
    assert all(file.startswith("dev/") for file in counts_by_split["validation"])
    with zipfile.ZipFile(tmp_path / "reviews.zip", "w") as archive:
        for path in sorted((tmp_path / "reviews").rglob("*.txt")):
            archive.write(path, path.relative_to(tmp_path))
    with pytest.raises(UserError, match=r"train \(9\): reviews.zip/reviews/train/0.txt, .*; validation \(4\).*; test"):
        ingested("text", tmp_path / "reviews.zip", tmp_path / "zip", None)
    with pytest.raises(UserError, match="unpack archives of documents"):
        ingested("text", tmp_path / "reviews.zip", tmp_path / "zip", "names")
