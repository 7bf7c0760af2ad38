"""Corpus and tokenizer → shards ready to train on: tokenised, composed, and corrupted too if so asked."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.compute.workers import HERE, SERIAL_BYTES, WorkerPool, Workers
from data_prep.corpus import unit_cache
from data_prep.corpus.documents import Corpus, CorpusFile, trained_parts
from data_prep.corruptions import build, config_of
from data_prep.errors import UserError
from data_prep.kinds import Inputs, Use
from data_prep.rng import Draws, key
from data_prep.sealed import digest, mapped
from data_prep.shards.rows import Ragged, Rows, network_input, num_rows
from data_prep.shards.streams import LONGER, stream_of
from data_prep.shards.writer import ShardWriter, join
from data_prep.text.phrases import lexicon_of
from data_prep.tokens import segment
from data_prep.tokens.compose import ComposeConfig, Composed, compose
from data_prep.tokens.corpus import TokenCorpus, joined, mapped_corpus, tokenise, write_unit_starts
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.lexicon import Lexicon
from data_prep.tokens.segment import Segmenter
from data_prep.tokens.tokenizers import load, specials

VERSION = 3  # of what tokenising gives
TOKENS_PER_SHARD = 1 << 24  # 50 to 80 MB a file
ROWS_PER_SHARD = 1 << 24  # a bound for rows of few tokens
_LABEL = "label {}"


def write_shards(
    settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use, splits: Sequence[str] = ("train", "validation")
) -> dict[str, Any]:
    """Tokenise, compose and, if asked to, corrupt a corpus into shards in `out_dir`; see `data_prep.kinds.Kind`.

    splits: those that are written.
    """
    corpus, tokenizer, settings = made_of.corpus, made_of.preprocessor, complete(settings)
    summary: dict[str, Any] = {"length": settings["compose"]["length"], "parts": {}}
    parts = trained_parts(corpus, settings)
    with WorkerPool(_workers(Corpus(corpus), use)) as pool:

        def training_tokens() -> list[TokenCorpus]:
            texts = {use.work / "phrases" / f"train-{part}": Corpus(corpus, "train", part) for part in parts}
            return [_tokenised(text, tokenizer, settings, place, use, pool)[0] for place, text in texts.items()]

        units, about_phrases = lexicon_of(settings, tokenizer, training_tokens, out_dir, use)
        shutil.rmtree(use.work / "phrases", ignore_errors=True)
        for split, part in [*(("train", part) for part in parts), ("validation", None)]:
            documents = Corpus(corpus, split, part)
            if len(documents) == 0 or split not in splits:
                continue
            place = use.work / "tokens" / f"{split}-{part}"
            tokens, about_text = _tokenised(documents, tokenizer, settings, place, use, pool)
            tokens, about_units = _with_units(tokens, units, place, pool)
            settings_of = {split: settings}
            if split == "train" and LONGER in settings:
                settings_of[LONGER] = _lengthened(settings)
            for kind, chosen in settings_of.items():
                name = f"{kind}-{part}" if part else kind
                runs = documents.runs if split == "validation" and settings.get("held_out_by_source") else []
                part_summary = _write(name, tokens, place, chosen, tokenizer, out_dir, use, pool, runs)
                part_summary |= about_text | about_units | ({"sources": runs} if runs else {})
                if not part_summary["rows"] and split == "train":
                    raise UserError(_no_rows(part_summary, part and f" of {part}", chosen["compose"]["kind"]))
                summary["parts"].setdefault(kind, {})[name] = part_summary
            del tokens
            shutil.rmtree(place)
    sums = {kind: _sum(list(part_summary.values())) for kind, part_summary in summary["parts"].items()}
    return summary | about_phrases | sums


def _no_rows(summary: dict[str, Any], whose: str, composed: str) -> str:
    """Why no rows came out of training documents."""
    counted = f"{summary['documents']:,} training documents{whose} hold {summary['sentences']:,} sentences"
    if summary["corpus_tokens"]:
        return (
            f"compose.kind {composed}: no rows came out of the data; {counted}, and a row takes two sentences of one "
            "document: set data.clean.language to the language of the text, or compose.kind to packed."
        )
    return f"compose.kind {composed}: no rows came out of the data; {counted} without a single token."


def complete(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with every default filled in."""
    composed = ComposeConfig.model_validate(settings["compose"]).model_dump(mode="json")
    longer = {LONGER: {"corruption": None, **settings[LONGER]}} if LONGER in settings else {}
    return {"corruption": None, **settings, "compose": composed, **longer}


def row_length(settings: dict[str, Any], split: str) -> int:
    """The most tokens that a row of a split may have."""
    settings = complete(settings)
    longer = split.partition("-")[0] == LONGER
    return settings[LONGER]["length"] if longer else settings["compose"]["length"]


def corruption_of(settings: dict[str, Any], split: str) -> dict[str, Any] | None:
    """Settings of the corruption that the rows of a split are written with; None if they are clean."""
    settings = complete(settings)
    return settings[LONGER]["corruption"] if split.partition("-")[0] == LONGER else settings["corruption"]


def _workers(corpus: Corpus, use: Use) -> Workers:
    return HERE if sum(file.stat().st_size for file in corpus.files) < SERIAL_BYTES else use.workers


def _tokenised(
    corpus: Corpus, tokenizer: Path, settings: dict[str, Any], place: Path, use: Use, pool: WorkerPool
) -> tuple[TokenCorpus, dict[str, Any]]:
    """The tokens of a split in mapped files at `place`, and counts of its characters, for the summary.

    Each file of the corpus is tokenised once and for all.
    """
    cache = use.downloads / unit_cache.FOLDER
    rules = [digest(mapped(tokenizer / "tokenizer.json")), *filter(None, [settings.get("segmenter")])]
    rules += [f"white space {settings['white_space']}"] if "white_space" in settings else []
    segmenter = settings["compose"]["segmenter"]
    jobs = [
        _Tokenising(file, expected, tokenizer, segmenter, cache, unit_cache.key_of("tokens", VERSION, expected, *rules))
        for file, expected in corpus.files.items()
    ]
    began, done = time.monotonic(), 0
    characters: Counter[str] = Counter(characters=0, unknown_characters=0)
    for number, (count, counted) in enumerate(pool.in_order(_tokenise, jobs), 1):
        done += count
        characters.update(counted)
        seconds = time.monotonic() - began
        left = round(seconds / number * (len(jobs) - number))
        use.progress(
            f"{corpus.split}: {done:,} tokens, {done / max(seconds, 1e-3) / 1e6:,.1f} M/s, "
            f"{left // 60}:{left % 60:02d} left",
            number / len(jobs),
        )
    return joined([cache / job.key for job in jobs], place), dict(characters)


class _Tokenising(NamedTuple):
    """One file of a corpus, to be tokenised."""

    file: Path
    digest: str
    tokenizer: Path
    segmenter: segment.Name | None
    cache: Path
    key: str


def _tokenise(job: _Tokenising) -> tuple[int, dict[str, int]]:
    """(number of tokens; numbers of characters by whether the tokenizer knows them)."""

    def write(folder: Path) -> dict[str, Any]:
        counted = Counter(characters=0, unknown_characters=0)
        segmenter = job.segmenter and _segmenter(job.segmenter, job.tokenizer)
        tokens = tokenise(CorpusFile(job.file, job.digest), _encoder(job.tokenizer), counted, segmenter)
        tokens.save(folder)
        return {"tokens": len(tokens.tokens), **counted}

    summary = unit_cache.make(job.cache, job.key, write)
    return summary["tokens"], {name: summary[name] for name in ("characters", "unknown_characters")}


@lru_cache(1)
def _segmenter(name: segment.Name, tokenizer: Path) -> Segmenter:
    return Segmenter(name, load(tokenizer))


@lru_cache(1)
def _encoder(tokenizer: Path) -> Encoder:
    return Encoder(load(tokenizer))  # remembers words from one file to the next


class _Matching(NamedTuple):
    """Consecutive documents whose units are to be found."""

    tokens: Path
    phrases: Lexicon
    documents: list[range]


def _with_units(
    tokens: TokenCorpus, phrases: Lexicon | None, place: Path, pool: WorkerPool
) -> tuple[TokenCorpus, dict[str, Any]]:
    """The corpus with `unit_start`, if there is a lexicon, and how many words are in phrases, for the summary."""
    if phrases is None:
        return tokens, {}
    in_phrases = 0

    def starts() -> Iterator[np.ndarray]:
        nonlocal in_phrases
        jobs = [_Matching(place, phrases, documents) for documents in _shard_ranges(tokens)]
        for bits, count, matched in pool.in_order(_match, jobs):
            in_phrases += matched
            yield np.unpackbits(bits, count=count)

    with_units = write_unit_starts(place, starts())
    words = int(np.count_nonzero(tokens.word_start))
    about = {"words": words, "words_in_phrases": in_phrases, "phrase_share": round(in_phrases / max(words, 1), 4)}
    return with_units, about


def _match(job: _Matching) -> tuple[np.ndarray, int, int]:
    """(which tokens begin a unit, packed in bits; their number; number of words in phrases)."""
    tokens = mapped_corpus(job.tokens)
    parts = [job.phrases.units(tokens, documents) for documents in job.documents]
    starts = np.concatenate([starts for starts, _ in parts])
    return np.packbits(starts), len(starts), sum(matched for _, matched in parts)


class _Writing(NamedTuple):
    """Consecutive documents, to be made into one piece of the shards."""

    tokens: Path
    tokenizer: Path
    out: Path
    split: str
    config: dict[str, Any]
    epoch: int
    documents: list[range]
    runs: Sequence[tuple[str, int]] = ()
    """Documents of one source, if a random B is to be of the source of A."""
    first: int = 0
    """Number of its first row, if rows are corrupted when they are written."""


def _write(
    split: str,
    tokens: TokenCorpus,
    place: Path,
    config: dict[str, Any],
    tokenizer: Path,
    out_dir: Path,
    use: Use,
    pool: WorkerPool,
    runs: Sequence[tuple[str, int]] = (),
) -> dict[str, Any]:
    """The shards of one split; what there is to say of them. runs: of documents of one source, which share no row."""
    settings = ComposeConfig.model_validate(config["compose"])
    ends = np.cumsum([count for _, count in runs]).tolist()
    sources = runs if config.get("partners_by_source") else ()
    jobs = [
        _Writing(place, tokenizer, out_dir / f".{split}-{number:05d}", split, config, epoch, documents, sources)
        for number, (epoch, documents) in enumerate(
            (epoch, documents)
            for epoch in range(1 if split == "validation" else settings.epochs)
            for documents in _shard_ranges(tokens, ends)
        )
    ]
    if config["corruption"]:
        firsts = np.cumsum([0, *pool.in_order(_count_rows, jobs)]).tolist()
        jobs = [job._replace(first=first) for job, first in zip(jobs, firsts, strict=False)]
    written = Counter[str](sequences=0, tokens=0, left_out=0)
    for number, piece in enumerate(pool.in_order(_write_piece, jobs), 1):
        written.update(piece)
        use.progress(f"{split}: {written['rows']:,} rows", number / len(jobs))
    index = join(out_dir / split, [job.out for job in jobs], {"split": split})
    return _summary(tokens, index, written, settings)


def _shard_ranges(tokens: TokenCorpus, ends: Sequence[int] = ()) -> Iterator[list[range]]:
    """Documents of about TOKENS_PER_SHARD tokens, in the ranges that are composed together; some also end at `ends`."""
    group: list[range] = []
    for documents in (part for whole in tokens.ranges() for part in _cut_at(whole, ends)):
        group.append(documents)
        if tokens.document_starts[documents.stop] - tokens.document_starts[group[0].start] >= TOKENS_PER_SHARD:
            yield group
            group = []
    if group:
        yield group


def _cut_at(documents: range, ends: Sequence[int]) -> Iterator[range]:
    bounds = [documents.start, *(end for end in ends if end in documents[1:]), documents.stop]
    yield from (range(start, stop) for start, stop in pairwise(dict.fromkeys(bounds)))


def _composed(job: _Writing) -> Iterator[Composed]:
    tokens, special = mapped_corpus(job.tokens), specials(job.tokenizer)
    config, settings = job.config, ComposeConfig.model_validate(job.config["compose"])
    names, counts = zip(*job.runs, strict=True) if job.runs else ((), ())
    sources = np.repeat(np.unique(names, return_inverse=True)[1], counts) if job.runs else None
    for documents in job.documents:
        name = f"{config['name']} {job.split}"
        yield compose(tokens, settings, special, config["seed"], name, job.epoch, documents, sources)


def _count_rows(job: _Writing) -> int:
    return sum(num_rows(composed.rows) for composed in _composed(job))


def _write_piece(job: _Writing) -> Counter[str]:
    """Write one piece; counts of rows, of sequences and tokens in them, of labels, and of tokens left out."""
    writer, special = ShardWriter(job.out, ROWS_PER_SHARD), specials(job.tokenizer)
    counts = Counter[str]()
    for composed in _composed(job):
        rows = composed.rows
        if job.config["corruption"]:
            rows = _corrupted(rows, job.config, job.split, job.first + counts["rows"], special)
        counts["rows"] += num_rows(rows)
        if job.epoch == 0:
            counts["left_out"] += composed.left_out
        if num_rows(rows):
            counts["sequences"] += len(_flat(rows["document"]))
            counts["tokens"] += len(_flat(network_input(rows)))
        if "label" in rows:
            counts.update({_LABEL.format(label): int((_flat(rows["label"]) == label).sum()) for label in (0, 1)})
        writer.write(rows)
    writer.close()
    return counts


def _flat(column: Ragged | np.ndarray) -> np.ndarray:
    return column.values if isinstance(column, Ragged) else column


def _lengthened(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the longer rows: the training documents once more."""
    longer = config[LONGER]
    composed = {**config["compose"], "length": longer["length"]}
    return {**config, "compose": composed, "corruption": longer["corruption"]}


def _corrupted(rows: Rows, config: dict[str, Any], split: str, first: int, special: Any) -> Rows:
    """The corruption that the loader would do in the first epoch: rows are keyed by their number in the shards."""
    draws = Draws(key(config["seed"], *stream_of(split, config["name"])), 0, np.arange(first, first + num_rows(rows)))
    return build(config_of(config["corruption"]), special)(rows, draws)


def _summary(
    tokens: TokenCorpus, index: dict[str, Any], written: Counter[str], settings: ComposeConfig
) -> dict[str, Any]:
    """left_out: corpus tokens that are in no row of the first epoch. labels: numbers of sequences with 0 and with 1."""
    rows, total = index["rows"], written["tokens"]
    labels = {"labels": [written[_LABEL.format(label)] for label in (0, 1)]} if "label" in settings.offers else {}
    return {
        "documents": len(tokens),
        "sentences": len(tokens.sentence_offsets) - 1,
        "corpus_tokens": len(tokens.tokens),
        "word_starts": int(np.count_nonzero(tokens.word_start)),
        "left_out": written["left_out"],
        "rows": rows,
        "sequences": written["sequences"],
        "tokens": total,
        "mean_length": round(total / max(rows, 1), 2),
        "padding_share": round(1 - total / max(rows * settings.length, 1), 4),
        **labels,
    }


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of all parts of a mixture."""
    if len(parts) == 1:
        return parts[0]
    counts: dict[str, Any] = {
        name: sum(part[name] for part in parts) for name in parts[0] if isinstance(parts[0][name], int)
    }
    room = sum(part["tokens"] / (1 - part["padding_share"]) for part in parts if part["tokens"])
    if "labels" in parts[0]:
        counts["labels"] = [sum(of_label) for of_label in zip(*(part["labels"] for part in parts), strict=True)]
    if "words" in counts:
        counts["phrase_share"] = round(counts["words_in_phrases"] / max(counts["words"], 1), 4)
    counts["mean_length"] = round(counts["tokens"] / max(counts["rows"], 1), 2)
    return counts | {"padding_share": round(1 - counts["tokens"] / max(room, 1), 4)}
