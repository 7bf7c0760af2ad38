"""The job on unusual documents, from recipe to report, and the detector that it leaves."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from data_prep.sealed import sealed, unsealed, write_whole
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest.units import Cleaner
from data_prep.text.passages import (
    WORD,
    Passage,
    changed,
    of_source,
    of_split,
    passages,
    replacing,
    sample,
    shuffling,
)
from data_prep.text.rules.rules import Rules
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.downstream import config_of as config_of_job
from pipeline.recipe.load import load
from pipeline.reports.report import Report
from pipeline.scoring import champion, score_files, training_rows
from pipeline.scoring.detectors import open_any
from pipeline.scoring.document_detector import COMPARED, NO_TEXT, DocumentDetector
from pipeline.scoring.ledger import Ledger
from pipeline.scoring.score_files import Tally
from pipeline.stages import job
from tests.pipeline import tiny, tiny_arrays, tiny_documents
from tests.pipeline.job_checks import whole_report

SENTENCES = ["The farmer's dog (old) watches, again!", "No.", "In 1914 the senate follows the well-known engine."]


# -- passages and changes ---------------------------------------------------------------------------------------------


def test_a_document_is_cut_where_sentences_end() -> None:
    cut = list(passages("a", SENTENCES * 3, 10))
    assert [passage.name for passage in cut] == ["a, passage 1", "a, passage 2", "a, passage 3"]
    assert [sentence for passage in cut for sentence in passage.sentences] == SENTENCES * 3
    short = list(passages("a", SENTENCES, 1000))
    assert short == [], "less than half of a passage is none"
    assert list(passages("a", SENTENCES, None)) == [Passage("a", 0, SENTENCES)]
    assert list(passages("a", ["…", "!"], None)) == [], "no word"
    assert len(list(passages("a", SENTENCES, 24))) == 1


def test_words_of_several_scripts() -> None:
    assert WORD.findall("The farmer's well-known 北京の dog, 3.5!") == [
        "The", "farmer's", "well-known", "北", "京", "の", "dog", "3", "5",
    ]  # fmt: skip


@given(st.integers(0, 2**31), st.integers(0, 50))
def test_shuffling_keeps_words_and_punctuation_of_every_sentence(seed: int, place: int) -> None:
    odd = shuffling(seed, 0)(SENTENCES, place)
    for before, after in zip(SENTENCES, odd, strict=True):
        assert Counter(WORD.findall(before)) == Counter(WORD.findall(after))
        assert WORD.sub("", before) == WORD.sub("", after)
    assert odd == shuffling(seed, 0)(SENTENCES, place)


def test_changes_are_keyed_by_seed_draw_and_place() -> None:
    given = [Passage("a", 0, SENTENCES)] * 3
    odd = changed(given, shuffling(0, 0))
    assert len({tuple(passage.sentences) for passage in [*given, *odd, *changed(given, shuffling(0, 1))]}) == 7
    assert changed(given, shuffling(0, 0)) == odd != changed(given, shuffling(1, 0))


def test_as_many_words_are_replaced_as_asked() -> None:
    given = [Passage("a", 1, ["one two three four five six seven eight nine ten."])] * 400
    odd = changed(given, replacing(0, 0, 0.3, ["zebra", "zebra", "zebra", "yak"]))
    words = [word for passage in odd for word in WORD.findall(passage.text)]
    assert len(words) == 4000 and {passage.text[-1] for passage in odd} == {"."}
    counts = Counter(words)
    assert abs((counts["zebra"] + counts["yak"]) / 4000 - 0.3) < 0.03
    assert 2 < counts["zebra"] / counts["yak"] < 4, "as often as they are used"
    assert changed(given, replacing(0, 0, 0.0, ["zebra"])) == given


def test_some_are_drawn_in_keyed_order() -> None:
    given = [Passage(str(number), 0, ["x"]) for number in range(50)]
    few = sample(given, 10, 0, "p")
    assert len({passage.name for passage in few}) == 10
    assert few == sample(given, 10, 0, "p") != sample(given, 10, 1, "p")
    assert sorted(sample(given, 100, 0, "p")) == sorted(given) and sample([], 5, 0, "p") == []


# -- the job ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("documents")
    others = f"others: [{{path: {folder / 'other.jsonl'}}}]"
    return tiny_arrays.make(tiny_documents.recipe(folder, others), folder)


@pytest.fixture(scope="module")
def report(artifacts: dict[str, Artifact]) -> Report:
    return whole_report(artifacts["unusual"])


@pytest.fixture(scope="module")
def detector(artifacts: dict[str, Artifact]) -> DocumentDetector:
    opened = open_any(artifacts["unusual"].path / "detector")
    assert isinstance(opened, DocumentDetector)
    return opened


def test_rows_of_other_sources_that_are_left_out_are_in_the_report(report: Report) -> None:
    (left_out,) = report.notes["left_out"].values()
    assert left_out.startswith("1 of 41 rows are left out: 1 cannot be read (other.jsonl line 41: ")
    assert report.about.endswith(f". Of other.jsonl, {left_out}.")


def test_a_source_of_which_too_much_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "a.txt").write_text("There are words enough in here to make a whole passage of a document.")
    (folder / "b.txt").write_bytes("Déjà vu".encode("latin-1"))
    source, rules = SourceConfig(path=str(folder)), Rules(CleanConfig())
    cleaner = Cleaner(CleanConfig(), rules)
    read = of_source(source, cleaner, 1, None, 9, 0, tmp_path)
    assert [passage.document for passage in read.passages] == ["others/a.txt"]
    assert read.left_out.startswith("1 of 2 rows are left out: 1 cannot be read (others/b.txt line 1: ")
    with pytest.raises(UserError, match=r"others: 1 of 2 rows are left out: 1 cannot be read \(others/b\.txt"):
        of_source(source, cleaner, 0.01, None, 9, 0, tmp_path)
    long = Cleaner(CleanConfig(min_characters=1000), rules)
    assert of_source(source, long, 1, None, 9, 0, tmp_path).cleaned_away == {long.short: 1}


def test_the_network_sees_what_counting_words_cannot(report: Report) -> None:
    shuffled = report.notes["kinds"]["shuffled words"]
    assert np.mean(shuffled["surprisal"]["auroc"]) > 0.9
    for blind in ("unigram", "tf-idf-knn", "tf-idf-iforest", "length"):
        assert shuffled[blind]["auroc"] == pytest.approx([0.5, 0.5], abs=1e-9), blind
    assert abs(np.mean(shuffled["random-network"]["auroc"]) - 0.5) < 0.3
    replaced = report.notes["kinds"]["replaced words"]["surprisal"]["auroc"]
    other = report.notes["kinds"]["other.jsonl"]
    assert np.mean(replaced) > 0.7 and np.mean(other["surprisal"]["auroc"]) > 0.95
    assert len(replaced) == 2, "draws"


def test_the_report_says_it_in_words_numbers_and_figures(artifacts: dict[str, Artifact], report: Report) -> None:
    page = (artifacts["unusual"].path / "report.md").read_text()
    assert "shuffled words" in report.verdict and report.verdict in page
    for figure in report.figures:
        assert (artifacts["unusual"].path / "figures" / figure.file).read_bytes().startswith(b"\x89PNG")
    summary = artifacts["unusual"].summary
    assert summary["auroc/shuffled_words"] == np.mean(report.notes["kinds"]["shuffled words"]["surprisal"]["auroc"])
    assert summary["auroc/shuffled_words/unigram"] == pytest.approx(0.5, abs=1e-9)
    assert summary["base_rate/shuffled_words"] == 0.5
    assert 0 <= summary["false_alarms/by_quantile"] < 0.3
    whole = (artifacts["report"].path / "report.md").read_text()
    assert "](figures/unusual/scores.png)" in whole and report.verdict in whole
    assert (artifacts["report"].path / "figures" / "unusual" / "words.png").is_file()


def test_documents_are_shown_with_their_words(report: Report, artifacts: dict[str, Artifact]) -> None:
    kinds = Counter(document["kind"] for document in report.notes["documents"])
    assert set(kinds.values()) == {2} and "normal" in kinds and len(kinds) == 4
    for document in report.notes["documents"]:
        shares = [share for _, share in document["reasons"]]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.0001
        assert {word for word, _ in document["reasons"]} <= {word for word, _ in document["words"]}
    test = {document.name for document in of_split(artifacts["ingest"].path, "test", 20, 1000, 0)}
    assert {document["document"] for document in report.notes["documents"] if document["kind"] == "normal"} <= test


def test_few_held_out_normals_pass_the_threshold(detector: DocumentDetector, artifacts: dict[str, Artifact]) -> None:
    held_out = of_split(artifacts["ingest"].path, "validation", 20, 60, 0)
    scores = detector.score(detector.texts.tokens([passage.sentences for passage in held_out]))
    assert len(held_out) >= 40 and scores.flag.mean() <= 0.02
    assert all(bool(why) == flag for why, flag in zip(scores.reasons, scores.flag, strict=True))


def test_scores_rise_with_noise(detector: DocumentDetector, artifacts: dict[str, Artifact]) -> None:
    normal = of_split(artifacts["ingest"].path, "test", 20, 1000, 0)
    used = tiny.NOUNS + tiny.VERBS
    means = []
    for share in (0.0, 0.1, 0.3, 0.6):
        odd = changed(normal, replacing(0, 0, share, used))
        means.append(detector.score(detector.texts.tokens([passage.sentences for passage in odd])).score.mean())
    assert means == sorted(means) and means[-1] > means[0] + 0.5


def test_the_word_that_does_not_belong_is_named(detector: DocumentDetector) -> None:
    """A noun stands where a verb should."""
    documents, places = [], []
    for text in usual(40, seed=9):
        sentences = [f"{sentence}." for sentence in text.rstrip(".").split(". ")]
        words = sentences[1].split()
        words[2] = words[1]
        sentences[1] = " ".join(words)
        documents.append(sentences)
        places.append(len(sentences[0].split()) + 1 + 2)
    tokens = detector.texts.tokens(documents)
    surprisals = detector.network.surprisals(tokens)
    right = 0
    for number, place in enumerate(places):
        words = detector.words(tokens, surprisals, number)
        assert [word for word, _ in words] == " ".join(documents[number]).lower().replace(".", " .").split()
        worst = sorted(range(len(words)), key=lambda at: -float(words[at][1]))[:2]
        right += place in worst
        named = [word for word, _ in detector.reasons(tokens, surprisals, number, len(words))]
        assert len(set(named)) == len(named) and set(named) <= {word for word, _ in words}
    assert right > 32, f"{right} of 40"


# -- new documents ----------------------------------------------------------------------------------------------------


def usual(count: int, seed: int = 0) -> list[str]:
    """Four sentences each, of a few favourite words, as in training."""
    random = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        own = random.choice(tiny.NOUNS, 4, replace=False)
        documents.append(
            " ".join(
                f"The {random.choice(own)} {random.choice(tiny.VERBS)} the {random.choice(own)} "
                f"{random.choice(tiny.ENDS)}."
                for _ in range(4)
            )
        )
    return documents


def scored(detector: DocumentDetector, folder: Path) -> tuple[list[dict[str, Any]], Tally]:
    tally, rows = Tally(), []
    for file in score_files.files_of(detector, [str(folder)], folder):
        for batch in score_files.score_file(detector, file, tally):
            assert batch.schema == score_files.SCHEMA
            rows += batch.to_pylist()
    return rows, tally


def test_files_of_every_format_are_scored_and_bad_rows_rejected(detector: DocumentDetector, tmp_path: Path) -> None:
    texts, odd = usual(6), "zo zo ko ko vo vo to to zo ko vo to."
    (tmp_path / "a.txt").write_text(texts[0])
    (tmp_path / "b.jsonl").write_text("\n".join([json.dumps({"text": texts[1]}), "not json", '{"text": ""}']) + "\n")
    (tmp_path / "c.csv").write_text(f'text\n"{texts[2]}"\n"{odd}"\n')
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "\u200d"}) + "\n" + json.dumps({"text": texts[3]}) + "\n")
    rows, tally = scored(detector, tmp_path)
    by_place = {(Path(row["source"]).name, row["position"]): row for row in rows}
    assert tally.rows + tally.rejected == len(rows) == len(by_place) and tally.rejected == 3
    assert "not JSON" in by_place["b.jsonl", 2]["rejected"] and "empty" in by_place["b.jsonl", 3]["rejected"]
    assert by_place["d.jsonl.gz", 1]["rejected"] in (NO_TEXT, "shorter than 1 characters")
    assert by_place["c.csv", 3]["flag"] and by_place["c.csv", 3]["reasons"][0]["column"]
    assert tally.alarms == sum(bool(row["flag"]) for row in rows)
    assert sum(tally.counts["score"]) == sum(tally.counts["tokens"]) == tally.rows
    assert by_place["a.txt", 1]["score"] < by_place["c.csv", 3]["score"]


def test_a_documents_score_is_the_same_in_any_file(detector: DocumentDetector, tmp_path: Path) -> None:
    texts = [*usual(40), "zo ko vo.", " ".join(usual(12, seed=2))]
    rows = {}
    for name, order in (("one", range(len(texts))), ("two", np.random.default_rng(0).permutation(len(texts)))):
        (tmp_path / name).mkdir()
        lines = (json.dumps({"text": texts[number]}) for number in order)
        (tmp_path / name / "a.jsonl").write_text("\n".join(lines) + "\n")
        scores, _ = scored(detector, tmp_path / name)
        rows[name] = {int(order[row["position"] - 1]): row["score"] for row in scores}
    assert len(rows["one"]) == len(texts)
    for number, score in rows["one"].items():
        assert rows["two"][number] == pytest.approx(score, rel=1e-5)


def test_a_book_takes_only_new_lines(detector: DocumentDetector, tmp_path: Path) -> None:
    inbox, texts = tmp_path / "inbox", usual(7)
    inbox.mkdir()
    texts[1] = 'He said "slowly'  # an odd number of quotes
    file = inbox / "a.jsonl"

    def passed() -> list[dict[str, Any]]:
        with Ledger.held(tmp_path / "ledger") as ledger:
            ledger.score(detector, "d", score_files.files_of(detector, [str(inbox)], tmp_path))
        tables = [pa.ipc.open_file(str(path)).read_all() for path in (tmp_path / "ledger").glob("scores-*.arrow")]
        return [row for table in tables for row in table.to_pylist()]

    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    file.write_text("".join(lines[:4]) + lines[4][:9])
    assert sorted(row["position"] for row in passed()) == [1, 2, 3, 4]
    file.write_text("".join(lines))
    rows = passed()
    assert sorted(row["position"] for row in rows) == [1, 2, 3, 4, 5, 6, 7]
    assert len(passed()) == 7 and not any(row["rejected"] for row in rows)


def test_drift_is_of_scores_and_lengths(detector: DocumentDetector, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text[:20]}) + "\n" for text in usual(150)))
    _, tally = scored(detector, tmp_path)
    assert detector.baseline.drift(tally.counts)["tokens"][0] > 0.25


def test_a_detector_that_takes_no_order_in_does_not_take_over(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    """Promotion of documents: the same detector with other weights has to tell shuffled words as well."""
    from safetensors.numpy import load_file, save_file

    corpus, good = artifacts["ingest"].path, artifacts["unusual"].path / "detector"
    first = champion.challenge(tmp_path / "home", "d", good, corpus)
    assert first.promoted and first.measure == "AUROC beside shuffled words" and first.challenger > 0.9
    opened = open_any(good)
    assert isinstance(opened, DocumentDetector)
    shutil.copytree(opened.model, tmp_path / "zeros")
    weights = tmp_path / "zeros" / "model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    replace(opened, model=tmp_path / "zeros").save(tmp_path / "blunt")
    second = champion.challenge(tmp_path / "home", "d", tmp_path / "blunt", corpus)
    assert not second.promoted and second.challenger == pytest.approx(0.5)
    (candidate,) = whole_report(artifacts["unusual"]).candidates
    assert champion.propose(tmp_path / "other", "d", candidate, good, corpus) is not None
    assert champion.propose(tmp_path / "other", "d", candidate, good, corpus) is None, "compared before"


def test_documents_that_were_learned_from_are_left_out_of_a_comparison(
    artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    corpus, good = artifacts["ingest"].path, artifacts["unusual"].path / "detector"
    splits = {split: training_rows.of_documents(Corpus(corpus, split)) for split in ("train", "validation", "test")}
    assert set(training_rows.load(good)) == {*splits["train"], *splits["validation"]}
    verdict = champion.challenge(tmp_path / "home", "d", good, corpus)
    assert verdict.left_out == 0
    opened = open_any(good)
    assert isinstance(opened, DocumentDetector)
    (tmp_path / "other").mkdir()
    training_rows.save(tmp_path / "other", splits["test"][::4])
    opened.save(tmp_path / "other")
    after = champion.challenge(tmp_path / "home", "d", tmp_path / "other", corpus)
    assert 0 < after.left_out == verdict.rows - after.rows
    tests = Corpus(corpus, "test")
    learned = [tests[number].name for number in range(0, len(tests), 4)]
    passages = of_split(corpus, "test", 20, COMPARED, 0)
    assert after.left_out == sum(passage.document in learned for passage in passages)


def test_a_damaged_detector_is_refused(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    opened = open_any(artifacts["unusual"].path / "detector")
    assert isinstance(opened, DocumentDetector)
    model, saved = tmp_path / "network", tmp_path / "detector"
    shutil.copytree(artifacts["pretrain"].path / "model", model)
    replace(opened, model=model).save(saved)
    assert not (saved / "model" / "README.md").exists()
    (saved / "model" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is not there"):
        open_any(saved)
    replace(opened, model=model).save(saved)
    text = (saved / "detector.json").read_text()
    (saved / "detector.json").write_text(text.replace('"rounds": 4', '"rounds": 5'))
    with pytest.raises(UserError, match="holds no detector that can be used"):
        open_any(saved)
    about = unsealed((artifacts["unusual"].path / "detector" / "detector.json").read_bytes())
    write_whole(saved / "detector.json", sealed({name: value for name, value in about.items() if name != "files"}))
    with pytest.raises(UserError, match="files: Field required"):
        open_any(saved)
    (model / "config.json").unlink()
    replace(opened, model=model).save(tmp_path / "without")
    with pytest.raises(UserError, match="holds no masked LM"):
        open_any(tmp_path / "without")


# -- settings ---------------------------------------------------------------------------------------------------------


def config_of(path: Path, *settings: str) -> dict[str, Any]:
    recipe = load(path, overrides=settings)
    return config_of_job(recipe, recipe.downstream[0], path.parent)


def test_what_a_job_leaves_open_is_the_recipes(tmp_path: Path) -> None:
    path = tiny_documents.recipe(tmp_path, "length: null")
    filled = config_of(path, "downstream.0.rounds=null", "corruption.rate=0.15")["job"]
    assert (filled["rounds"], filled["length"]) == (7, 32)
    assert config_of(path, "downstream.0.rounds=null", "corruption.rate=0.4")["job"]["rounds"] == 2
    assert config_of(path, "downstream.0.length=16")["job"]["length"] == 16
    longer = "train.longer={length: 64, share: 0.5, max_predictions: 20}"
    assert config_of(path, longer, "network.config.max_position_embeddings=64")["job"]["length"] == 64


def test_other_documents_enter_the_key_by_what_they_hold(tmp_path: Path) -> None:
    path = tiny_documents.recipe(tmp_path, f"others: [{{path: {tmp_path / 'other.jsonl'}}}]")
    before = config_of(path)
    assert before == config_of(path)
    tiny_documents.other_kind(tmp_path / "other.jsonl", 39)
    assert config_of(path)["snapshot"] != before["snapshot"]
    nodes = {node.name: node for node in dag.nodes(load(path), tmp_path)}
    assert nodes["unusual"].inputs == {"pretrained": "pretrain", "corpus": "ingest"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["data.split.test=0"], "data.split.test: 'unusual' needs held-out documents to test on; set it above 0"),
        (["data.split.validation=0"], "data.split.validation: 'unusual' needs held-out documents to draw thresholds"),
        (["downstream.0.length=64"], "downstream.0.length: 64 exceeds network.config.max_position_embeddings 32"),
        (["downstream.0.others=[{package: brown}, {package: brown}]"], "downstream.0.others.1: another kind is called"),
        (["downstream.0.baselines=[svm]"], "downstream.0.baselines.0"),
        (["downstream.0.word=3"], "downstream.0.word: unknown key; did you mean downstream.0.words"),
        (["downstream.0.task=anomaly"], "downstream.0.task: anomaly is of tables and images"),
    ],
)
def test_recipes_that_cannot_work_are_refused(tmp_path: Path, settings: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tiny_documents.recipe(tmp_path), overrides=settings)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"draws": 9}, "test documents are too few for 9 draws of 10"),
        ({"words": 5000}, "validation documents are too few to draw a threshold by"),
        ({"others": 1}, "documents of few.jsonl are too few"),
    ],
)
def test_too_few_documents_are_told_in_one_sentence(
    artifacts: dict[str, Artifact], tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    from pipeline.stage import Context

    recipe = load(tiny_documents.recipe(tmp_path))
    if "others" in settings:
        settings = {"others": [{"path": str(tiny_documents.other_kind(tmp_path / "few.jsonl", 5))}]}
    config = config_of_job(recipe, recipe.downstream[0], tmp_path)
    inputs = {"pretrained": artifacts["pretrain"], "corpus": artifacts["ingest"]}
    with pytest.raises(UserError, match=complaint):
        job.run({**config, "job": config["job"] | settings}, inputs, tmp_path, Context(downloads=tmp_path))
