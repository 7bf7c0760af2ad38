from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_prep.corpus.documents import Corpus, SplitConfig
from data_prep.corruptions.masking import MaskingConfig, corrupt, restore
from data_prep.errors import UserError
from data_prep.legible import plain
from data_prep.rng import Draws, key
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, Rows, concat, ragged
from data_prep.shards.streams import stream_of
from data_prep.shards.writer import ShardWriter
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import tokenise
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from flows.show.examples import half_blocks
from flows.show.inspect import Reading, inspect, read_as_in_training
from flows.show.readable import number, size
from pipeline.artifact import Artifact, output_digest
from pipeline.recipe.load import load as load_recipe
from tests.data_prep.ingesting import ingest
from tests.pipeline import tiny_arrays
from tests.said import said
from training.config import OrderConfig
from training.data import Corpus as TrainingCorpus
from training.data import Stream

TEXT = "the quick brown fox jumps over lazy dogs while seven clever senators debate naïve laws"
WORDS = TEXT.split()
EVIL = "A sentence with \x1b[2J in it\u202e and a bell\x07."
MASKING = MaskingConfig(kind="masked-lm")
NAME, SEED = "speeches", 7


def speech(i: int) -> str:
    sentences = [" ".join(WORDS[(i + j + k * 3) % len(WORDS)] for k in range(9)) for j in range(12)]
    return (
        " ".join(f"{sentence.capitalize()}." for sentence in sentences)
        + f" Senators' laws (seven) weren't lazy-jumps, {i}."
    )


def artifact(path: Path, stage: str, config: dict[str, Any], summary: Any = None, **inputs: Artifact) -> Artifact:
    files = {
        file.relative_to(path).as_posix(): {"size": file.stat().st_size, "digest": "0" * 32}
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
    manifest: Any = {
        "stage": stage,
        "config": config,
        "inputs": {role: {"key": parent.key, "digest": ""} for role, parent in inputs.items()},
        "files": files,
        "summary": summary or {},
        "output_digest": output_digest(files),  # type: ignore[arg-type]
        "provenance": {"time": "2026-01-02T03:04:05Z", "licences": ["public domain"]},
    }
    return Artifact(f"{stage}-0123456789abcdef", path, manifest)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A corpus, three tokenizers, and shards of every kind."""
    root = tmp_path_factory.mktemp("inspect")
    lines = [{"id": f"speech-{i}", "text": speech(i)} for i in range(20)]
    lines[3]["text"] = f"{EVIL} " + lines[3]["text"]
    lines += [{"id": "copy", "text": speech(1)}, {"id": "short", "text": "no"}]
    source = root / "speeches.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    config = SourceConfig(path=str(source), id_field="id")
    clean, split = CleanConfig(min_characters=20, max_rejects=5), SplitConfig(validation=0.2, test=0)
    summary = ingest([config], clean, split, 0, root / "corpus", root)
    artifacts = {"corpus": artifact(root / "corpus", "ingest", {"kind": "text"}, summary)}
    for kind in ("wordpiece", "byte-bpe", "character"):
        settings = TokenizerConfig(kind=kind, vocabulary=400, lowercase=kind == "wordpiece")
        summary = train(settings, Corpus(root / "corpus").sentences(), root / kind)
        artifacts[kind] = artifact(root / kind, "tokenizer", settings.model_dump(), summary, corpus=artifacts["corpus"])
    for task, kind, at in (("sop", "wordpiece", None), ("nsp", "byte-bpe", MASKING), ("packed", "character", None)):
        path = root / f"{task}-shards"
        for part in ("train", "validation"):
            _write_shards(artifacts, path / part, part, task, kind, at)
        config = {
            "name": NAME,
            "seed": SEED,
            "compose": {"kind": task},
            "corruption": at.model_dump() if at else None,
        }
        artifacts[task] = artifact(
            path,
            "shards",
            {"kind": "text", "settings": config},
            None,
            preprocessor=artifacts[kind],
            corpus=artifacts["corpus"],
        )
    return artifacts


def _write_shards(
    artifacts: dict[str, Artifact], path: Path, part: str, task: Any, kind: str, at: MaskingConfig | None
) -> None:
    special = specials(artifacts[kind].path)
    tokens = tokenise(Corpus(artifacts["corpus"].path, part), load(artifacts[kind].path))
    rows = compose(tokens, ComposeConfig(kind=task, length=40), special, SEED, part, 0, range(len(tokens))).rows
    if at:
        count = len(ragged(rows, "input"))
        rows = corrupt(rows, at, special, Draws(key(SEED, "corrupt", part), 0, np.arange(count)))
    writer = ShardWriter(path, rows_per_shard=1000)
    writer.write(rows)
    writer.close()


def shown(target: Artifact, tokenizer: Artifact | None = None, colour: bool = False, **arguments: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=colour, color_system="truecolor" if colour else None)
    rows = arguments.pop("rows", 3)
    corruption = arguments.pop("corruption", None)
    reading = Reading(NAME, SEED, corruption) if corruption else None
    folder = tokenizer.path if tokenizer else None
    inspect(target, rows, console, reading=reading, preprocessor=folder, **arguments)
    return file.getvalue()


# -- what is shown is what the network sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_are_corrupted_as_training_corrupts_them(home: dict[str, Artifact], split: str) -> None:
    special = specials(home["wordpiece"].path)
    table = Shards(home["sop"].path / split)

    def corruption(rows: Rows, draws: Draws) -> Rows:
        return corrupt(rows, MASKING, special, draws)

    purpose, name = stream_of(split, NAME)
    stream = Stream([TrainingCorpus(name, table)], SEED, OrderConfig(), corruption, purpose)
    for epoch in (0, 1):
        samples = np.arange(epoch * table.rows, (epoch + 1) * table.rows)
        _, epochs, places = stream.order.locate(samples)
        assert set(epochs.tolist()) == {epoch}
        trained = stream.read(samples)
        config, reading = home["sop"].config["settings"], Reading(NAME, SEED, MASKING)
        selection, note = read_as_in_training(table.read(places), places, config, split, reading, special, epoch)
        assert note == f"corrupted as training does it in epoch {epoch}"
        for name in ("seen", "target_positions", "target_ids"):
            assert np.array_equal(ragged(selection.rows, name).values, ragged(trained, name).values)
    assert table.rows > 5


def test_targets_stand_out_with_and_without_colour(home: dict[str, Artifact]) -> None:
    text = shown(home["sop"], home["wordpiece"], corruption=MASKING)
    assert "corrupted as training does it in epoch 0" in text
    assert text.count("x′") == text.count("x″") == 3
    assert "[MASK]" in text and "‹" in text and "\x1b" not in text
    colourful = shown(home["sop"], home["wordpiece"], corruption=MASKING, colour=True)
    assert "\x1b[1;35m[MASK]\x1b[0m" in colourful and "‹" not in colourful
    assert "\x1b[2m[CLS]\x1b[0m" in colourful


def test_the_answers_are_the_targets(home: dict[str, Artifact]) -> None:
    special = specials(home["wordpiece"].path)
    pieces = Pieces(load(home["wordpiece"].path), special)
    table = Shards(home["sop"].path / "train")
    config, reading = home["sop"].config["settings"], Reading(NAME, SEED, MASKING)
    rows = read_as_in_training(table.read([4]), np.array([4]), config, "train", reading, special, 0)[0].rows
    text = shown(home["sop"], home["wordpiece"], rows=1, start=4, corruption=MASKING)
    answers = " ".join(text[text.index("x″") :].replace("│", " ").split())
    seen = ragged(rows, "seen").row(0)
    targets = (ragged(rows, name).row(0).tolist() for name in ("target_positions", "target_ids"))
    for position, token in zip(*targets, strict=True):
        end = {special.mask: "", token: " (kept)"}.get(seen[position], f" (saw {pieces.name(int(seen[position]))})")
        assert f"{position} {pieces.name(token)}{end}" in answers
    assert f"{len(ragged(rows, 'target_ids').row(0))} of {len(seen)} tokens to predict" in text


def test_rows_corrupted_when_written_are_shown_as_they_are(home: dict[str, Artifact]) -> None:
    text = shown(home["nsp"], home["byte-bpe"], rows=1)
    assert "corrupted when they were written" in text
    stored = Shards(home["nsp"].path / "train").read([0])
    pieces = Pieces(load(home["byte-bpe"].path), specials(home["byte-bpe"].path))
    clean = "".join(pieces.texts(restore(stored).row(0).tolist()))
    line = "".join(text[text.index("x  [CLS]") + 1 : text.index("x′")].replace("│", "").split())
    assert line.replace("‹", "").replace("›", "") == "".join(clean.split())


def test_without_a_corruption_rows_are_clean(home: dict[str, Artifact]) -> None:
    text = shown(home["sop"], home["wordpiece"])
    assert "not corrupted yet" in text and "x′" not in text and "‹" not in text


@pytest.mark.parametrize(("task", "kind", "words"), [("sop", "wordpiece", 0), ("nsp", "byte-bpe", 1)])
def test_labels_are_words(home: dict[str, Artifact], task: str, kind: str, words: int) -> None:
    count = Shards(home[task].path / "train").rows
    labels = np.asarray(Shards(home[task].path / "train").read(np.arange(count))["label"])
    text = shown(home[task], home[kind], rows=count)
    no, yes = [("in order", "swapped"), ("B is next", "B is random")][words]
    assert (text.count(f"· {no} ─"), text.count(f"· {yes} ─")) == ((labels == 0).sum(), (labels == 1).sum())
    assert 0 < labels.sum() < count


def test_documents_are_named_where_the_corpus_is_there(home: dict[str, Artifact]) -> None:
    corpus = Corpus(home["corpus"].path)
    assert f"row 0 · {corpus.names[0]}" in shown(home["sop"], home["wordpiece"], corpus=corpus.folder)
    assert "row 0 · document 0" in shown(home["sop"], home["wordpiece"])


def test_what_cannot_be_shown_is_a_sentence(home: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="has no split 'test'; it has train, validation"):
        shown(home["sop"], home["wordpiece"], split="test")
    with pytest.raises(UserError, match="so none is number 99,999"):
        shown(home["sop"], home["wordpiece"], start=99_999)
    with pytest.raises(UserError, match="without their tokenizer tokenizer-0123456789abcdef"):
        shown(home["sop"])
    with pytest.raises(UserError, match="so none is number 99"):
        shown(home["corpus"], start=99)
    with pytest.raises(UserError, match="rows must be at least 1"):
        shown(home["corpus"], rows=0)


def test_the_last_rows_may_be_fewer_than_asked(home: dict[str, Artifact]) -> None:
    count = Shards(home["sop"].path / "train").rows
    text = shown(home["sop"], home["wordpiece"], start=count - 1, rows=10)
    assert text.count("─ row ") == 1 and f"rows {count - 1}–{count - 1} of {count}" in text


# -- the other kinds of artifact --------------------------------------------------------------------------------------


def test_a_corpus(home: dict[str, Artifact]) -> None:
    count = len(Corpus(home["corpus"].path))
    text = shown(home["corpus"], rows=count)
    for document in Corpus(home["corpus"].path).documents:
        assert f"{document.name} · {len(document.sentences)} sentences" in text
        assert plain(document.sentences[0])[:50] in text
    assert "… 10 more" in text
    assert "1  duplicate" in text and "1  shorter than 20 characters" in text


def test_text_from_data_has_no_power_over_the_terminal(home: dict[str, Artifact]) -> None:
    text = shown(home["corpus"], rows=20) + shown(home["corpus"], rows=20, split="validation")
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert plain(EVIL) == "A sentence with ␛[2J in it� and a bell␇."
    assert plain("a\nb\tc", keep="\n") == "a\nb␉c"


def test_control_characters_beside_a_text_are_shown_and_do_nothing(tmp_path: Path) -> None:
    row = {"text": "A sentence.", "tit\x1b[31mle": "red \x9b2J\x07", "year": 1790}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    config = SourceConfig(path=str(tmp_path / "a.jsonl"))
    split = SplitConfig(validation=0, test=0)
    summary = ingest([config], CleanConfig(), split, 0, tmp_path / "corpus", tmp_path / "downloads")
    text = shown(artifact(tmp_path / "corpus", "ingest", {"kind": "text"}, summary))
    assert "tit␛[31mle red �2J␇" in text and "year 1790" in text
    assert not {"\x1b", "\x9b", "\x07"} & set(text)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
def test_a_tokenizer(home: dict[str, Artifact], kind: str) -> None:
    text = shown(home[kind], rows=2, text="The quick fox.")
    assert f"{kind}, {home[kind].summary['vocabulary']} tokens, of them 5 special" in text
    ids = load(home[kind].path).encode("The quick fox.").ids
    assert "ids    " + " ".join(map(str, ids)) in text
    back = text[text.index("back") :].lower()
    assert back.startswith("back   [cls] the quick fox. [sep]")
    assert "newspapermen" in shown(home[kind])  # its own sample


def test_anything_else_is_a_summary_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# Results\n\n| model | F1 |\n|---|---|\n| ours | 0.91 |\n\nBeware \x1b[2J.\n")
    for i in range(25):
        (tmp_path / f"weights-{i:02}").write_bytes(bytes(1500 * i))
    summary = {"loss": {"first": 8.123456, "last": 2.0}, "steps": 12500, "labels": list(range(20)), "ok": True}
    text = shown(artifact(tmp_path, "report", {}, summary))
    for line in ("loss.first", "8.123", "12,500", "… (20 in all)", "… 6 more files", "1.5 kB", "Results", "0.91"):
        assert line in text
    assert "\x1b" not in text and "report-0123456789abcdef · report ·" in text and "public domain" in text


def test_numbers_and_sizes() -> None:
    assert [number(value) for value in (3, 12345.0, 0.000123456, 2.5, 98765.4)] == [
        "3", "12,345", "0.0001235", "2.5", "98,765"
    ]  # fmt: skip
    assert [size(value) for value in (0, 999, 1000, 99_600, 1_234_567, 10**13)] == [
        "0 B", "999 B", "1.0 kB", "100 kB", "1.2 MB", "10.0 TB"
    ]  # fmt: skip


# -- tokens as text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
@settings(max_examples=60, deadline=None)
@given(text=st.lists(st.sampled_from([*"abcdefgrstu é.,-'() 学🎉", "naïve", " the "]), min_size=1).map("".join))
def test_texts_joined_are_what_the_tokenizer_decodes(home: dict[str, Artifact], kind: str, text: str) -> None:
    tokenizer = load(home[kind].path)
    special = specials(home[kind].path)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = Pieces(tokenizer, special).texts(ids)
    assert len(pieces) == len(ids)
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    if kind == "wordpiece":  # its own decoder spaces differently
        assert "".join("".join(pieces).split()) == "".join(decoded.split())
    elif special.unk not in ids:
        assert "".join(pieces) == decoded


def test_words_are_joined_and_specials_stand_apart(home: dict[str, Artifact]) -> None:
    tokenizer, special = load(home["wordpiece"].path), specials(home["wordpiece"].path)
    pieces = Pieces(tokenizer, special)
    ids = tokenizer.encode("The senators' laws (seven) weren't lazy-jumps.").ids
    assert special.unk not in ids
    assert "".join(pieces.texts(ids)) == "[CLS] the senators' laws (seven) weren't lazy-jumps. [SEP]"
    the, masked = tokenizer.token_to_id("the"), special.mask
    assert the is not None
    assert "".join(pieces.texts([special.cls, the, masked, the, special.sep])) == "[CLS] the [MASK] the [SEP]"
    characters = Pieces(load(home["character"].path), special)
    t = load(home["character"].path).token_to_id("t")
    assert t is not None
    assert "".join(characters.texts([special.cls, t, masked, t, special.sep])) == "[CLS] t[MASK]t [SEP]"


def test_characters_split_over_tokens_are_whole(home: dict[str, Artifact]) -> None:
    tokenizer, special = load(home["byte-bpe"].path), specials(home["byte-bpe"].path)
    pieces = Pieces(tokenizer, special)
    ids = tokenizer.encode("学", add_special_tokens=False).ids
    assert len(ids) > 2 and "".join(pieces.texts(ids)).strip() == "学"
    broken = [*ids[:-1], special.mask]
    assert "�" in "".join(pieces.texts(broken)) and "".join(pieces.texts(broken)).endswith("[MASK]")
    assert all(pieces.name(token) for token in range(special.vocabulary))


def test_padding_is_not_shown(home: dict[str, Artifact], tmp_path: Path) -> None:
    special = specials(home["wordpiece"].path)
    the = load(home["wordpiece"].path).token_to_id("the")
    row = [special.cls, the, special.sep, special.pad, special.pad]
    rows: Rows = concat([{"input": Ragged.from_rows([row], np.uint16)}])
    writer = ShardWriter(tmp_path / "train", rows_per_shard=8)
    writer.write(rows)
    writer.close()
    shards = artifact(
        tmp_path,
        "shards",
        {"kind": "text", "settings": {"name": NAME, "seed": SEED, "compose": {}}},
        preprocessor=home["wordpiece"],
    )
    text = shown(shards, home["wordpiece"], corruption=MASKING)
    assert "[PAD]" not in text and said("1 of 3 tokens to predict", text)


def test_both_views_are_shown_as_training_renders_them(tmp_path: Path) -> None:
    path = tiny_arrays.recipe(
        tmp_path,
        "images",
        corruption="{kind: views, flip: 0, blur: 0, jitter: 0, area: [0.3, 0.5]}",
        network="{architecture: conv, config: {hidden: [8], bottleneck: 4}}",
        objective="{name: simclr}",
        downstream="[]",
    )
    recipe: Any = load_recipe(path)
    images: Any = {"input": np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8)}
    reading = Reading("tiny-arrays", 0, recipe.corruption, recipe.augment, None)
    selection, _ = read_as_in_training(images, np.arange(2), {}, "train", reading, None, 0)
    assert selection.corruption is not None
    names = [piece.name for piece in selection.corruption.pieces(selection.rows, 1)]
    assert names == ["x", "view 1", "view 2"]
    first, second = (piece.values for piece in selection.corruption.pieces(selection.rows, 1)[1:])
    assert first.shape == (1, 8, 8) and not np.array_equal(first, second)
    assert first.min() >= 64 / 255 - 1e-6 and first.max() <= 127 / 255 + 1e-6, "a view is cut from its own image"


def test_an_image_without_colours_is_shades() -> None:
    pixels = np.linspace(0, 1, 32).reshape(1, 4, 8)
    assert str(half_blocks(pixels, coloured=False)).splitlines() == ["   ░░░░░", "▓▓▓▓▓███"]
