"""Corpus and tokenizer → shards ready to train on: tokenised, composed, and corrupted too if so asked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corpus import unit_cache
from data_prep.corpus.documents import Corpus, CorpusFile
from data_prep.corruptions import build, config_of
from data_prep.errors import UserError
from data_prep.kinds import Inputs, Use
from data_prep.rng import Draws, key
from data_prep.sealed import digest, mapped
from data_prep.shards.format import ShardWriter, join
from data_prep.shards.rows import Ragged, Rows, network_input, num_rows
from data_prep.shards.streams import LONGER, stream_of
from data_prep.tokens import lexicon
from data_prep.tokens.cleaning import clean
from data_prep.tokens.compose import ComposeConfig, Composed, compose
from data_prep.tokens.corpus import TokenCorpus, joined, mapped_corpus, tokenise, write_unit_starts
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.lexicon import Lexicon
from data_prep.tokens.tokenizers import line_break, load, specials
from data_prep.workers import HERE, SERIAL_BYTES, WorkerPool, Workers

VERSION = 2  # of what tokenising gives
TOKENS_PER_SHARD = 1 << 24  # 50 to 80 MB a file
ROWS_PER_SHARD = 1 << 24  # a bound for rows of few tokens


def write_shards(settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
    """Tokenise, compose and, if asked to, corrupt a corpus into shards in `out_dir`; see `data_prep.kinds.Kind`."""
    corpus, tokenizer, settings = made_of.corpus, made_of.preprocessor, complete(settings)
    summary: dict[str, Any] = {"length": settings["compose"]["length"], "parts": {}}
    phrases, about_phrases = _phrases(settings, tokenizer, use)
    parts = Corpus(corpus).parts
    with WorkerPool(_workers(Corpus(corpus), use)) as pool:
        for split, part in [*(("train", part) for part in parts), ("validation", None)]:
            documents = Corpus(corpus, split, part)
            if len(documents) == 0:
                continue
            place = use.work / "tokens" / f"{split}-{part}"
            tokens = _tokenised(documents, tokenizer, place, use, pool)
            tokens, about_units = _with_units(tokens, phrases, place, pool)
            settings_of = {split: settings}
            if split == "train" and LONGER in settings:
                settings_of[LONGER] = _lengthened(settings)
            for kind, chosen in settings_of.items():
                name = f"{kind}-{part}" if part else kind
                part_summary = _write(name, tokens, place, chosen, tokenizer, out_dir, use, pool) | about_units
                if not part_summary["rows"] and split == "train":
                    where, whose = "train.longer" if kind == LONGER else "compose", part and f" of {part}"
                    raise UserError(
                        f"compose: no rows came out of {len(documents)} training documents{whose}; lower "
                        f"{where}.length ({chosen['compose']['length']}) or give longer documents to data.sources."
                    )
                summary["parts"].setdefault(kind, {})[name] = part_summary
            del tokens
            shutil.rmtree(place)
    sums = {kind: _sum(list(part_summary.values())) for kind, part_summary in summary["parts"].items()}
    return summary | about_phrases | sums


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


def _workers(corpus: Corpus, use: Use) -> Workers:
    return HERE if sum(file.stat().st_size for file in corpus.files) < SERIAL_BYTES else use.workers


def _tokenised(corpus: Corpus, tokenizer: Path, place: Path, use: Use, pool: WorkerPool) -> TokenCorpus:
    """The tokens of a split in mapped files at `place`. Each file of the corpus is tokenised once and for all."""
    cache = use.downloads / unit_cache.FOLDER
    rules = digest(mapped(tokenizer / "tokenizer.json"))
    jobs = [
        _Tokenising(file, expected, tokenizer, cache, unit_cache.key_of("tokens", VERSION, expected, rules))
        for file, expected in corpus.files.items()
    ]
    began, done = time.monotonic(), 0
    for number, count in enumerate(pool.in_order(_tokenise, jobs), 1):
        done += count
        seconds = time.monotonic() - began
        left = round(seconds / number * (len(jobs) - number))
        use.progress(
            f"{corpus.split}: {done:,} tokens, {done / max(seconds, 1e-3) / 1e6:,.1f} M/s, "
            f"{left // 60}:{left % 60:02d} left",
            number / len(jobs),
        )
    return joined([cache / job.key for job in jobs], place)


class _Tokenising(NamedTuple):
    """One file of a corpus, to be tokenised."""

    file: Path
    digest: str
    tokenizer: Path
    cache: Path
    key: str


def _tokenise(job: _Tokenising) -> int:
    def write(folder: Path) -> dict[str, Any]:
        tokens = tokenise(CorpusFile(job.file, job.digest), _encoder(job.tokenizer))
        tokens.save(folder)
        return {"tokens": len(tokens.tokens)}

    return unit_cache.make(job.cache, job.key, write)["tokens"]


@lru_cache(1)
def _encoder(tokenizer: Path) -> Encoder:
    return Encoder(load(tokenizer))  # remembers words from one file to the next


def _phrases(settings: dict[str, Any], tokenizer: Path, use: Use) -> tuple[Lexicon | None, dict[str, Any]]:
    """The lexicon, if there is one, and counts of its phrases and of lines that are not used, for the summary."""
    digest = settings["compose"]["lexicon"]
    if digest is None:
        return None, {}
    path = use.files[digest]
    file = lexicon.read(path)
    if file.digest != digest:
        raise UserError(f"{lexicon.SETTING}: {path} changed after the run began; run again")
    lines = [clean(line, settings["normalisation"]) for line in file.lines]
    phrases, counts = lexicon.build(lines, load(tokenizer), specials(tokenizer))
    if counts["phrases"] < counts["lines"]:
        use.progress(f"{counts['phrases']:,} phrases", None, warning=_unused(path, counts))
    return phrases, {"lexicon": counts}


def _unused(path: Path, counts: dict[str, Any]) -> str:
    """The sentence about lines that are not used."""
    reasons = {
        "blank": "blank",
        "duplicates": "repeated",
        "unspellable": f"that the tokenizer cannot spell (such as {counts.get('first_unspellable')!r})",
    }
    why = ", ".join(f"{counts[name]:,} {reason}" for name, reason in reasons.items() if counts[name])
    unused = counts["lines"] - counts["phrases"]
    return f"{lexicon.SETTING}: {unused:,} of {counts['lines']:,} lines of {path} are not used: {why}"


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
) -> dict[str, Any]:
    """The shards of one split; what there is to say of them."""
    settings = ComposeConfig.model_validate(config["compose"])
    jobs = [
        _Writing(place, tokenizer, out_dir / f".{split}-{number:05d}", split, config, epoch, documents)
        for number, (epoch, documents) in enumerate(
            (epoch, documents)
            for epoch in range(1 if split == "validation" else settings.epochs)
            for documents in _shard_ranges(tokens)
        )
    ]
    if config["corruption"]:
        firsts = np.cumsum([0, *pool.in_order(_count_rows, jobs)]).tolist()
        jobs = [job._replace(first=first) for job, first in zip(jobs, firsts, strict=False)]
    written: list[tuple[int, int, int]] = []
    for piece in pool.in_order(_write_piece, jobs):
        written.append(piece)
        use.progress(f"{split}: {sum(rows for rows, _, _ in written):,} rows", len(written) / len(jobs))
    index = join(out_dir / split, [job.out for job in jobs], {"split": split})
    num_sequences, num_tokens = (sum(piece[place] for piece in written) for place in (1, 2))
    return _summary(tokens, index, num_sequences, num_tokens, settings.length)


def _shard_ranges(tokens: TokenCorpus) -> Iterator[list[range]]:
    """Documents of about TOKENS_PER_SHARD tokens, in the ranges that are composed together."""
    group: list[range] = []
    for documents in tokens.ranges():
        group.append(documents)
        if tokens.document_starts[documents.stop] - tokens.document_starts[group[0].start] >= TOKENS_PER_SHARD:
            yield group
            group = []
    if group:
        yield group


def _composed(job: _Writing) -> Iterator[Composed]:
    tokens, special = mapped_corpus(job.tokens), specials(job.tokenizer)
    config, settings = job.config, ComposeConfig.model_validate(job.config["compose"])
    break_token = None if settings.breaks == "none" else line_break(load(job.tokenizer))
    for documents in job.documents:
        name = f"{config['name']} {job.split}"
        yield compose(tokens, settings, special, config["seed"], name, job.epoch, documents, break_token)


def _count_rows(job: _Writing) -> int:
    return sum(num_rows(composed.rows) for composed in _composed(job))


def _write_piece(job: _Writing) -> tuple[int, int, int]:
    """Write one piece; (rows, sequences and tokens in them)."""
    writer, special = ShardWriter(job.out, ROWS_PER_SHARD), specials(job.tokenizer)
    written = sequences = lengths = 0
    for rows in _composed(job):
        if job.config["corruption"]:
            rows = _corrupted(rows, job.config, job.split, job.first + written, special)
        written += num_rows(rows)
        if num_rows(rows):
            of = rows["document"]
            sequences += len(of.values if isinstance(of, Ragged) else of)
            lengths += len(network_input(rows).values)  # type: ignore[union-attr]
        writer.write(rows)
    writer.close()
    return written, sequences, lengths


def _lengthened(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the longer rows: the training documents once more."""
    longer = config[LONGER]
    composed = {**config["compose"], "length": longer["length"]}
    return {**config, "compose": composed, "corruption": longer["corruption"]}


def _corrupted(rows: Rows, config: dict[str, Any], split: str, first: int, special: Any) -> Rows:
    """The corruption that the loader would do in the first epoch: rows are keyed by their number in the shards."""
    draws = Draws(key(config["seed"], *stream_of(split, config["name"])), 0, np.arange(first, first + num_rows(rows)))
    return build(config_of(config["corruption"]), special)(rows, draws)


def _summary(tokens: TokenCorpus, index: dict[str, Any], sequences: int, written: int, length: int) -> dict[str, Any]:
    rows = index["rows"]
    return {
        "documents": len(tokens),
        "sentences": len(tokens.sentence_offsets) - 1,
        "corpus_tokens": len(tokens.tokens),
        "rows": rows,
        "sequences": sequences,
        "tokens": written,
        "mean_length": round(written / max(rows, 1), 2),
        "padding_share": round(1 - written / max(rows * length, 1), 4),
    }


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of all parts of a mixture."""
    if len(parts) == 1:
        return parts[0]
    counts: dict[str, Any] = {
        name: sum(part[name] for part in parts) for name in parts[0] if isinstance(parts[0][name], int)
    }
    room = sum(part["tokens"] / (1 - part["padding_share"]) for part in parts if part["tokens"])
    if "words" in counts:
        counts["phrase_share"] = round(counts["words_in_phrases"] / max(counts["words"], 1), 4)
    counts["mean_length"] = round(counts["tokens"] / max(counts["rows"], 1), 2)
    return counts | {"padding_share": round(1 - counts["tokens"] / max(room, 1), 4)}
