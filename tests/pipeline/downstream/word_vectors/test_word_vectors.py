"""The job `word-vectors`: lists as they are distributed, Spearman and 3CosAdd against plain code, what is left out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.sources import packages
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from pipeline.downstream.word_vectors import job as module
from pipeline.downstream.word_vectors import lists
from pipeline.downstream.word_vectors.job import Config, needs, run, settings
from pipeline.downstream.word_vectors.lists import Pair, Question, read_analogies, read_pairs
from pipeline.downstream.word_vectors.measures import Vectors
from pipeline.stage import Context
from training.config import NetworkConfig, ObjectiveConfig
from training.objectives import build

WORDS = ("the", "king", "man", "queen", "woman", "apple", "pear")


def vectors(values: Any = None, words: tuple[str, ...] = WORDS) -> Vectors:
    values = np.random.default_rng(0).normal(size=(len(words), 5)) if values is None else np.asarray(values, float)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    ids = {word: number for number, word in enumerate(words)}
    return Vectors(unit, np.arange(len(words)), words, lambda word: ids.get(word.lower()))


def test_pairs_are_ranked_as_spearman_does() -> None:
    table = vectors()
    pairs = [Pair(a, b, float(score)) for (a, b), score in zip(pairwise(WORDS), (4, 4, 1, 7, 2, 9), strict=True)]
    ranks = table.similarity([*pairs, Pair("king", "unicorn", 3.0)])
    cosines = [float(table.unit[i] @ table.unit[i + 1]) for i in range(6)]
    assert ranks.correlation == pytest.approx(np.corrcoef(rankdata(cosines), rankdata([p.score for p in pairs]))[0, 1])
    assert (ranks.used, ranks.asked) == (6, 7)


def test_analogies_are_answered_by_3cosadd_of_unit_vectors() -> None:
    random = np.random.default_rng(1)
    table = vectors(random.normal(size=(7, 3)) * random.uniform(1, 9, (7, 1)))
    every = [Question("s", *(WORDS[i] for i in random.choice(7, 4, replace=False))) for _ in range(300)]
    expected = 0
    for question in every:
        a, b, c, d = (WORDS.index(word) for word in question[1:])
        cosines = table.unit @ (table.unit[b] - table.unit[a] + table.unit[c])
        expected += max((i for i in range(7) if i not in (a, b, c)), key=lambda i: cosines[i]) == d
    assert table.analogies(every, 30)["s"] == (expected, 300, 300) and 0 < expected < 300


def test_the_restricted_vocabulary_holds_questions_and_answers() -> None:
    # 3 + 4 − … as a plane: man → king is woman → queen; pear is nearest if it may answer
    plane = {
        "the": (9, -9),
        "king": (2, 1),
        "man": (1, 1),
        "queen": (2, 2.2),
        "woman": (1, 2),
        "apple": (-1, 0),
        "pear": (2, 2),
    }
    table = vectors([plane[word] for word in WORDS])
    royal = Question("royal", "man", "king", "Woman", "queen")
    assert table.analogies([royal], 7)["royal"].used == 1
    fruit = Question("fruit", "man", "king", "apple", "pear")
    assert table.analogies([royal, fruit], 5) == {"royal": (1, 1, 1), "fruit": (0, 0, 1)}


def test_lists_are_read_as_they_are_distributed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# comment\n# Word 1\tWord 2\tHuman (mean)\nlove\tsex\t6.77\ntiger\tcat\t7.35\n")
    assert read_pairs(path) == [("love", "sex", 6.77), ("tiger", "cat", 7.35)]
    path.write_text("word1\tword2\tPOS\tSimLex999\tconc(w1)\nold\tnew\tA\t1.58\t2.72\nsmart\tbright\tA\t9.2\t1.75\n")
    assert read_pairs(path) == [("old", "new", 1.58), ("smart", "bright", 9.2)]
    path.write_text("Word 1,Word 2,Human (mean)\nlove,sex,6.77\ntiger,cat,7.35\n")
    assert [pair.score for pair in read_pairs(path)] == [6.77, 7.35]
    path.write_text(": capitals common\nAthens Greece Oslo Norway\n\n: family\nboy girl he she\n")
    assert read_analogies(path) == [
        ("capitals common", "Athens", "Greece", "Oslo", "Norway"), ("family", "boy", "girl", "he", "she"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "text", "said"),
    [
        (read_pairs, "a\tb\t1\nc\td\n", "line 2: found 'c\\\\td', and expected two words and a score"),
        (read_pairs, "a\tb\t1\nc\td\tmuch\n", "line 2: .* two words and a score"),
        (read_pairs, "a\tb\t1\nc\td\tnan\n", "line 2: .* two words and a score"),
        (read_pairs, "a\tb\t1\n", "different scores, found 1"),
        (read_pairs, "", "different scores, found 0"),
        (read_analogies, ": s\na b c\n", "line 2: found 'a b c', and expected four words"),
        (read_analogies, ": s\n", "holds no analogy"),
    ],
)
def test_lines_that_cannot_be_meant_are_said(tmp_path: Path, reader: Any, text: str, said: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        reader(path)
    with pytest.raises(UserError, match="cannot be read"):
        reader(tmp_path / "absent.txt")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        reader(path)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    tokenizer = tmp_path / "tokenizer"
    text = " ".join(word for count, word in enumerate(reversed(WORDS), 2) for _ in range(count))
    train(
        TokenizerConfig(kind="word", vocabulary=50, lowercase=True, roles=["pad", "unk"], min_count=2),
        [text],
        tokenizer,
    )
    facts = DataFacts("text", ("input",), specials=specials(tokenizer), preprocessor=tokenizer)
    network = NetworkConfig(architecture="word-vectors", config={"size": 4})
    build(ObjectiveConfig(name="word2vec"), {"model": network}, facts, "cpu").export(tmp_path / "model", [])
    return tmp_path


def test_a_report_says_what_was_asked(trained: Path) -> None:
    (trained / "pairs.tsv").write_text("king\tqueen\t9\nKing\tpear\t1\nman\tapple\t2\nking\tunicorn\t5\n")
    (trained / "questions.txt").write_text(": royal\nman king woman queen\n: odd\nman king woman unicorn\n")
    values: dict[str, Any] = {"similarity": [str(trained / "pairs.tsv")], "analogies": [str(trained / "questions.txt")]}
    job = Config(task="word-vectors", name="vectors", words=["King", "unicorn"], neighbours=3, **values)
    contents = settings(None, job, trained)["contents"]
    assert set(contents) == {*values["similarity"], *values["analogies"]}
    report = run(job, {}, {"pretrained": SimpleNamespace(path=trained)}, trained, Context())  # type: ignore[dict-item]
    scores, sections, neighbours = report.tables
    assert [row[3:] for row in scores.rows] == [["3", "4"], ["1", "2"]]
    assert [row[0] for row in sections.rows] == ["royal", "odd"] and sections.rows[1][1:] == ["–", "0", "1"]
    assert [row[0] for row in neighbours.rows] == ["King"] and neighbours.rows[0][1].count(",") == 2
    assert report.numbers["pairs/unknown"] == 0.25 and report.numbers["questions/unknown"] == 0.5
    assert -1 <= report.numbers["pairs/spearman"] <= 1
    assert "no vector for unicorn" in report.verdict and "3 of 4 pairs" in report.verdict
    assert "licences" not in report.summary, "lists of the user's own"
    (trained / "pairs.txt").write_text("king\tqueen\t1\nman\tpear\t9\nman\tapple\t2\n")
    (trained / "de").mkdir()
    (trained / "de" / "pairs.tsv").write_text("king\tqueen\t1\nman\tpear\t9\nman\tapple\t2\n")
    named = [str(trained / name) for name in ("pairs.tsv", "de/pairs.tsv", "pairs.txt")]
    job = job.model_copy(update={"similarity": named})
    report = run(job, {}, {"pretrained": SimpleNamespace(path=trained)}, trained, Context())  # type: ignore[dict-item]
    here = trained.name
    assert [row[0] for row in report.tables[0].rows] == [f"{here}/pairs", "de/pairs", f"{here}/pairs-3", "questions"]
    job = job.model_copy(update={"similarity": named[:1]})
    (trained / "pairs.tsv").write_text("unicorn\tqueen\t9\nunicorn\tpear\t1\n")
    with pytest.raises(UserError, match="0 of 2 pairs have vectors"):
        run(job, {}, {"pretrained": SimpleNamespace(path=trained)}, trained, Context())  # type: ignore[dict-item]


def test_lists_of_the_package_are_fetched_when_they_are_read(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained / "gensim/test/test_data"
    folder.mkdir(parents=True)
    (folder / "wordsim353.tsv").write_text("# a comment\nking\tqueen\t9\nman\tapple\t2\n")
    (folder / "questions-words.txt").write_text(": royal\nman king woman queen\n")
    job = Config(task="word-vectors", name="vectors", similarity=["wordsim-353"], analogies=["questions-words"])
    monkeypatch.setattr(packages, "fetch", lambda name, downloads: pytest.fail("fetched to plan"))
    contents = settings(None, job, trained)["contents"]
    assert set(contents.values()) == {packages.lookup("word-lists").sha256}
    monkeypatch.setattr(packages, "fetch", lambda name, downloads: trained)
    report = run(job, {}, {"pretrained": SimpleNamespace(path=trained)}, trained, Context())  # type: ignore[dict-item]
    assert [row[3:] for row in report.tables[0].rows] == [["2", "2"], ["1", "1"]]
    (licence,) = report.summary["licences"]
    assert licence.startswith("word-lists: ") and all(
        name in licence for name in ("WordSim-353", "SimLex", "word2vec.c")
    )


@pytest.mark.slow
def test_the_package_holds_the_lists(tmp_path: Path) -> None:
    assert len(lists.read_pairs(lists.path_of("wordsim-353", tmp_path))) == 353
    assert len(lists.read_pairs(lists.path_of("simlex-999", tmp_path))) == 999
    assert len(lists.read_analogies(lists.path_of("questions-words", tmp_path))) == 19_544


def test_neighbours_are_shown_of_words_of_each_frequency(trained: Path) -> None:
    job = Config(task="word-vectors", name="vectors")
    report = run(job, {}, {"pretrained": SimpleNamespace(path=trained)}, trained, Context())  # type: ignore[dict-item]
    (table,) = report.tables
    assert len(table.rows) >= 3 and "for you to judge" in report.verdict


def test_other_networks_have_no_word_vectors() -> None:
    recipe = SimpleNamespace(kind="text", network=NetworkConfig(architecture="bert"))
    job = Config(task="word-vectors", name="vectors")
    assert [path for path, _ in needs(recipe, job)] == ["network.architecture"]
    assert module.READS == ("pretrained",)
