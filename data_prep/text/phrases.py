"""Which words of a text are units of several: phrases of a user's lexicon, or phrases found in the training text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.kinds import Use
from data_prep.tokens import lexicon, phrases
from data_prep.tokens.cleaning import clean
from data_prep.tokens.corpus import TokenCorpus
from data_prep.tokens.lexicon import Lexicon
from data_prep.tokens.phrases import PhrasesConfig
from data_prep.tokens.tokenizers import load, specials

FILE = "phrases.jsonl"  # next to the shards: what was found, the most frequent first


def lexicon_of(
    settings: dict[str, Any],
    tokenizer: Path,
    training_tokens: Callable[[], list[TokenCorpus]],
    out_dir: Path,
    use: Use,
) -> tuple[Lexicon | None, dict[str, Any]]:
    """The phrases that shards with these settings are to have as units, if any, and counts of them for the summary.

    Phrases that are found are written to `out_dir`. UserError if there are none, or a lexicon cannot be used.
    """
    composed = settings["compose"]
    if composed["lexicon"] is not None:
        return _listed(composed["lexicon"], settings["normalisation"], tokenizer, use)
    if composed["phrases"] is not None:
        config = PhrasesConfig.model_validate(composed["phrases"])
        return _find(config, tokenizer, training_tokens(), out_dir, use)
    return None, {}


def top(shards: Path, count: int) -> list[dict[str, Any]]:
    """The most frequent phrases that were found for shards: `phrase`, `words`, `count`, `npmi`; none: []."""
    path = shards / FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def _find(
    config: PhrasesConfig, tokenizer: Path, corpora: list[TokenCorpus], out_dir: Path, use: Use
) -> tuple[Lexicon, dict[str, Any]]:
    use.progress("finding phrases", None)
    special = specials(tokenizer)
    punctuation = lexicon.is_punctuation(special)
    learned = phrases.find(corpora, config, lexicon.is_blank(special), punctuation)
    if not learned.phrases:
        raise UserError(
            f"compose.phrases: no run of up to {config.longest} words occurs {config.min_count} times with an NPMI of "
            f"{config.npmi:g} in {learned.words:,} words of training text; lower min_count or npmi, or add documents"
        )
    decode = load(tokenizer).decode
    with (out_dir / FILE).open("w", encoding="utf-8") as file:
        for phrase in learned.phrases:
            text = decode(list(phrase.ids), skip_special_tokens=False).strip()
            line = {"phrase": text, "words": phrase.words, "count": phrase.count, "npmi": phrase.npmi}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    about = {"phrases": len(learned.phrases), "counted_words": learned.words, "counted_share": learned.share}
    return Lexicon.of([phrase.ids for phrase in learned.phrases], punctuation), {"phrases": about}


def _listed(digest: str, normalisation: Any, tokenizer: Path, use: Use) -> tuple[Lexicon, dict[str, Any]]:
    path = use.files[digest]
    file = lexicon.read(path)
    if file.digest != digest:
        raise UserError(f"{lexicon.SETTING}: {path} changed after the run began; run again")
    lines = [clean(line, normalisation) for line in file.lines]
    entries, counts = lexicon.build(lines, load(tokenizer), specials(tokenizer))
    if counts["phrases"] < counts["lines"]:
        use.progress(f"{counts['phrases']:,} phrases", None, warning=_unused(path, counts))
    return entries, {"lexicon": counts}


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
