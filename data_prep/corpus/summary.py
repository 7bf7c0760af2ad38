"""Corpus summary: numbers of rows read, kept and rejected, with reasons and sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from data_prep.corpus import unit_cache
from data_prep.corpus.draft import REJECTED, Decision, Draft
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig, licence

_MOST_REASONS = 10
_EXAMPLES = 3


class RowTerms(Protocol):
    """The words that a kind of data uses for its rows in messages."""

    unit: ClassVar[str]
    place: ClassVar[str]


def summary_of(draft: Draft, decided: Decision, terms: RowTerms) -> dict[str, Any]:
    """Counts, reasons and lineage. UserError if too many rows are bad, or none is left."""
    sources: Sequence[SourceConfig] = draft.data.sources
    refused = [
        sum((Counter(step[number]["reasons"]) for step in (draft.read, draft.cast) if step), Counter[str]())
        for number in range(len(draft.units))
    ]
    num_read = sum(unit_summary["rows"] for unit_summary in draft.read)
    num_kept = int((decided.split_of != REJECTED).sum())
    _check(draft, decided, terms, num_read, num_kept)
    reasons = decided.reasons()
    return {
        "rows": num_read,
        "kept": num_kept,
        "rejected": num_read - num_kept,
        "duplicates": reasons["duplicate"],
        "lost_files": len(lost_files(draft)),
        "first_lost": [f"{name}: {reason}" for name, (_, reason) in [*lost_files(draft).items()][:_EXAMPLES]],
        "reasons": dict(sum(refused, reasons).most_common(_MOST_REASONS)),
        "sources": [_lineage(draft, decided, refused, number) for number in range(len(sources))],
        "licences": [licence(source) for source in sources],
    }


def lost_files(draft: Draft) -> dict[str, tuple[int, str]]:
    """Where, and why, files are lost, by name."""
    lost: dict[str, tuple[int, str]] = {}
    for summary in (*draft.read, *draft.cast):
        for name, (place, reason) in summary["lost_files"].items():
            lost.setdefault(name, (place, reason))
    for name, (count, place, reason) in _useless(draft).items():
        lost.setdefault(name, (place, reason if count == 1 else f"none of {count:,} rows can be used: {reason}"))
    return lost


def _useless(draft: Draft) -> dict[str, tuple[int, int, str]]:
    """Files of which every row was rejected, in all units that hold a part of them: count, first place and reason."""
    unused_by_name: dict[str, tuple[int, int, str]] = {}
    used = set[str]()
    for unit, summary in zip(draft.units, draft.read, strict=True):
        of_unit = summary.get("useless", {})
        used.update(name for name, _ in unit.contents if name not in of_unit)
        for name, (count, place, reason) in of_unit.items():
            before = unused_by_name.get(name)
            unused_by_name[name] = (before[0] + count, *before[1:]) if before else (count, place, reason)
    return {name: what for name, what in unused_by_name.items() if name not in used}


def lost_files_in_words(summary: Mapping[str, Any]) -> str:
    """How many files are lost although some are allowed to be, and the first of them; "" if none is."""
    count = summary.get("lost_files", 0)
    first = "; ".join(summary.get("first_lost", ()))
    return f"{count:,} file{'s' * (count != 1)} lost, wholly or from some row on ({first})" if count else ""


def notes_of_files(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Oddities of how files are written, each once with its files. notes: pairs of a file's name and an oddity."""
    files_of: dict[str, list[str]] = {}
    for name, note in notes:
        files_of.setdefault(note, []).append(name)
    for note, names in files_of.items():
        yield f"{names[0]}{f' and {len(names) - 1:,} more files' if len(names) > 1 else ''}: {note}"


def allowed_rejects(limit: int | float, rows: int) -> int:
    """Maximum number of bad rows among `rows`; `limit` is a count (int) or a share (float)."""
    return limit if isinstance(limit, int) else int(limit * rows + 1e-9)


def _check(draft: Draft, decided: Decision, terms: RowTerms, num_read: int, num_kept: int) -> None:
    num_filtered = sum(unit_summary.get("filtered", 0) for unit_summary in draft.read)
    lost = lost_files(draft)
    num_lost = 0  # counted apart from bad rows, if a maximum is set
    if draft.data.max_lost_files is not None:
        num_lost = sum(unit_summary["lost_rejects"] for unit_summary in (*draft.read, *draft.cast))
        num_lost += sum(count for count, _, _ in _useless(draft).values())
    num_bad = num_read - num_kept - num_filtered - decided.num_tolerated - num_lost
    first = [reject for unit_summary in (*draft.read, *draft.cast) for reject in unit_summary["first"]][:_EXAMPLES]
    examples_shown = [f"{source} {terms.place} {position}: {reason}" for source, position, reason in first]
    examples = "; ".join([*examples_shown, *decided.examples(_EXAMPLES - len(examples_shown))])
    num_files = len({name for unit in draft.units for name, _ in unit.contents})
    if draft.data.max_lost_files is not None and len(lost) > draft.data.max_lost_files:
        lost_examples = list(lost.items())[:_EXAMPLES]
        named = "; ".join(f"{name} {terms.place} {place}: {reason}" for name, (place, reason) in lost_examples)
        raise UserError(
            f"{len(lost)}{f' of {num_files}' * (len(lost) <= num_files)} files are lost, wholly or from some"
            f" {terms.place} on, more than"
            f" data.max_lost_files: {draft.data.max_lost_files} allows ({named}); mend them or leave them out, or set"
            f" data.max_lost_files: {len(lost)} to go on with the rest"
        )
    limit = draft.data.max_rejects
    if num_bad > allowed_rejects(limit, num_read):
        raise UserError(
            f"{num_bad} of {num_read - num_lost} rows cannot be used, more than max_rejects: {limit} allows"
            f" ({examples}); mend them or raise max_rejects"
        )
    if not num_kept:
        named = ", ".join(str(source.package or source.path) for source in draft.data.sources)
        unit_name = terms.unit.removesuffix("s")
        reasons = sum((Counter(unit_summary["reasons"]) for unit_summary in draft.read), decided.reasons())
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(_EXAMPLES))
        raise UserError(
            f"no {unit_name} is left of {named} ({examples or counted or 'nothing was there'}); add sources"
            + " or change the rules" * (num_filtered > 0)
        )


def _lineage(draft: Draft, decided: Decision, refused: Sequence[Counter[str]], number: int) -> dict[str, Any]:
    """Counts and reasons of one source."""
    source: SourceConfig = draft.data.sources[number]
    mine = [place for place, unit in enumerate(draft.units) if unit.source == number]
    spans = [decided.span(place) for place in mine]
    contents = [file for place in mine for file in draft.units[place].contents]
    reasons = sum((refused[place] for place in mine), Counter[str]())
    reasons = sum((decided.reasons(span) for span in spans), Counter[str]()) + reasons
    return {
        "source": source.package or source.path,
        "licence": licence(source),
        "files": len({name for name, _ in contents}),
        "bytes": sum(draft.units[place].size for place in mine),
        "digest": unit_cache.key_of([list(file) for file in contents]),
        "rows": sum(draft.read[place]["rows"] for place in mine),
        "kept": int(sum((decided.split_of[span] != REJECTED).sum() for span in spans)),
        "reasons": dict(reasons.most_common(_MOST_REASONS)),
    }
