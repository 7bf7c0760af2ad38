"""Oddities of text, found before a network learns from it; see `data_prep.findings`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.findings import Finding, Known
from data_prep.tokens import accents, pretrained
from data_prep.tokens.tokenizers import strips_accents

LONG_SENTENCES = 600  # characters on average: a splitter that finds no ends
UNKNOWN, UNREADABLE = 0.005, 0.2  # shares of characters
HIDDEN = 0.8  # share of the budget that is used
UNSPACED = 0.01  # share of letters
WORD = (1.15, 8.0)  # letters of a word on average, where words are found: 1.4 to 1.8 in Chinese, 3 to 5 in Thai
ONE_SIDED = 0.25  # share of the rarer label
PADDING = 0.5
TOKENS_PER_PIECE = 20
TASKS = {"nsp": ("real", "random"), "sop": ("in order", "swapped")}


def findings(known: Known) -> Iterator[Finding]:
    if known.length is not None:
        yield from masked(known)
    yield from _tokenizer(known)
    if known.hidden is not None:
        yield from _too_long_units(*known.hidden, known.corruption.unit)
    if known.units is not None:
        yield from _units_not_found(*known.units, known.unit)
    if known.corpus is not None:
        yield from map(Finding, known.corpus.get("notes", ()))
        yield from _partners(known.corpus, known.composed)
        if not known.data.clean.keep_lines:
            yield from _sentences(known.corpus, known.data.clean.language)
    if known.shards is not None:
        train = known.shards["train"]
        yield from _characters(train)
        yield from _left_out(train, known.composed)
        yield from _alone(known.shards.get("validation", {}), known.composed)
        yield from _labels(train, known.composed)
        yield from _rows(train, known.length)
        yield from _vocabulary(train, known.fitted)


def _tokenizer(known: Known) -> Iterator[Finding]:
    """The findings of its stage; before that, those from a vocabulary and a sample of the text."""
    config = known.tokenizer
    if known.fitted is not None:
        yield from map(Finding, known.fitted.get("remarks", ()))
    elif config is not None:
        if config.path is not None:
            yield from map(Finding, pretrained.remarks(config.path, config.lowercase))
        if known.characters and strips_accents(config):
            yield from map(Finding, accents.warnings(known.characters))


def masked(known: Known) -> Iterator[Finding]:
    """Fewer tokens to predict than the rate asks for, in rows as long as there are."""
    lengths = {"corruption": (known.corruption, known.length)}
    if known.train.longer:
        lengths["train.longer"] = (known.train.longer.corruption(known.corruption), known.train.longer.length)
    for section, (corruption, length) in lengths.items():
        asked, most = getattr(corruption, "rate", None), getattr(corruption, "max_predictions", None)
        if asked is None or most is None or most >= round(asked * length):
            continue
        yield Finding(
            f"{section}.max_predictions {most} leaves {most} of {length} tokens to predict, {most / length:.1%}, where "
            f"corruption.rate asks for {asked:.1%}: leave it out, or set it to {round(asked * length)}",
            refused=most < asked * length / 2,
        )


def _too_long_units(hidden: float, allowed: float, unit: str) -> Iterator[Finding]:
    """Units that are longer than a row's budget and therefore never hidden."""
    if hidden < HIDDEN * allowed:
        yield Finding(
            f"{hidden:.1%} of tokens are to be predicted, of {allowed:.1%} that corruption allows: a {unit} that is "
            "longer than what may be hidden of a row is never hidden; set corruption.unit to token",
            refused=hidden < allowed / 4,
        )


def _units_not_found(share: float, letters: float, unit: str) -> Iterator[Finding]:
    """Units that are single letters, or whole stretches of text, because nothing tells where words begin."""
    if share < UNSPACED or WORD[0] <= letters <= WORD[1]:
        return
    what = "single characters" if letters < WORD[0] else "stretches between blanks"
    yield Finding(
        f"{share:.1%} of the letters of training text are of scripts without blanks between words, and a {unit} has "
        f"{letters:.1f} of them on average: {unit}s are not found there, and {what} are hidden in their place; set "
        "compose.segmenter to jieba (Chinese, with tokenizer.kind wordpiece or character), or hide tokens"
    )


def _partners(corpus: Mapping[str, Any], composed: str | None) -> Iterator[Finding]:
    for split in ("train", "validation"):
        if composed == "nsp" and corpus["splits"].get(split, {}).get("documents") == 1:
            yield Finding(
                f"compose.kind nsp pairs sentences of different documents, and {split} is one document: add documents, "
                "or set compose.kind to sop or packed",
                refused=True,
            )


def _sentences(corpus: Mapping[str, Any], language: str) -> Iterator[Finding]:
    train, better = corpus["splits"].get("train", {}), corpus.get("better_rules")
    if better:
        yield Finding(
            f"data.clean.language {language} finds {better['found']:,} sentences in a sample in which "
            f"{better['language']} finds {better['would_find']:,}: set it to the language of the text"
        )
    elif train.get("sentences") and train["characters"] > LONG_SENTENCES * train["sentences"]:
        yield Finding(
            f"sentences have {train['characters'] / train['sentences']:,.0f} characters on average: "
            f"data.clean.language {language} finds few ends of them in this text"
        )


def _characters(train: Mapping[str, Any]) -> Iterator[Finding]:
    unknown, total = train["unknown_characters"], train["characters"]
    if unknown > UNKNOWN * total:
        yield Finding(
            f"{unknown / total:.1%} of the characters of training text are unknown to the tokenizer ({unknown:,} of "
            f"{total:,}): raise tokenizer.vocabulary, or set tokenizer.kind to byte-bpe, which knows all",
            refused=unknown > UNREADABLE * total,
        )


def _left_out(train: Mapping[str, Any], composed: str | None) -> Iterator[Finding]:
    if train["left_out"]:
        share = train["left_out"] / train["corpus_tokens"]
        yield Finding(
            f"compose.kind {composed} leaves out {train['left_out']:,} of {train['corpus_tokens']:,} training tokens "
            f"({share:.1%}): documents of one sentence, of which it makes no pair"
        )


def _alone(validation: Mapping[str, Any], composed: str | None) -> Iterator[Finding]:
    """Sources of which one document is held out."""
    counts: Counter[str] = Counter()
    for source, count in validation.get("sources", ()):
        counts[source or "the source without a name"] += count
    alone = [source for source, count in counts.items() if count == 1]
    if composed == "nsp" and alone:
        yield Finding(
            f"compose.kind nsp pairs sentences of different documents, and of {', '.join(alone)} one document is held "
            "out: its partners are of other sources, which is easier to tell; raise data.split.validation"
        )


def _labels(train: Mapping[str, Any], composed: str | None) -> Iterator[Finding]:
    if composed not in TASKS or "labels" not in train:
        return
    counts, names = train["labels"], TASKS[composed]
    rarer = counts.index(min(counts))
    share = counts[rarer] / max(sum(counts), 1)
    if share < ONE_SIDED:
        yield Finding(
            f"{1 - share:.1%} of the pairs of {composed} are {names[1 - rarer]}, {share:.1%} {names[rarer]}: documents "
            "have too few sentences; set data.clean.language to the language of the text, or compose.kind to packed",
            refused=not counts[rarer],
        )


def _rows(train: Mapping[str, Any], length: int | None) -> Iterator[Finding]:
    if train["padding_share"] > PADDING:
        yield Finding(
            f"rows hold {train['mean_length']:,.0f} tokens on average where compose.length allows {length}: "
            f"{train['padding_share']:.0%} is padding; lower it, or set compose.pack to true"
        )


def _vocabulary(train: Mapping[str, Any], fitted: Mapping[str, Any] | None) -> Iterator[Finding]:
    if fitted and fitted["kind"] != "pretrained" and train["corpus_tokens"] < TOKENS_PER_PIECE * fitted["vocabulary"]:
        each = train["corpus_tokens"] / fitted["vocabulary"]
        yield Finding(
            f"tokenizer.vocabulary {fitted['vocabulary']:,} is large for {train['corpus_tokens']:,} training tokens: "
            f"a piece occurs {each:,.1f} times on average; lower it"
        )
