"""The report of the job `word-vectors`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.word_vectors import lists
from pipeline.downstream.word_vectors.job import Config
from pipeline.downstream.word_vectors.measures import Vectors
from pipeline.reports.report import Report, Table

SHOWN = 12  # words whose neighbours are shown, if none are named
FREQUENT, RARE = 0.002, 0.5  # shares of the vocabulary between whose ranks they lie


def build(job: Config, vectors: Vectors) -> Report:
    """Measure everything that the job names. UserError for lists of which nothing can be asked."""
    rows, sections, numbers, said = [], [], {}, []
    paths = [Path(name).expanduser() for name in (*job.similarity, *job.analogies)]
    named = list(zip(paths, _distinct(paths), strict=True))
    for path, name in named[: len(job.similarity)]:
        ranks = vectors.similarity(lists.read_pairs(path))
        if math.isnan(ranks.correlation):
            raise UserError(f"{path}: {ranks.used} of {ranks.asked} pairs have vectors, too few to rank; add text.")
        rows.append([name, "Spearman", f"{ranks.correlation:.3f}", f"{ranks.used:,}", f"{ranks.asked:,}"])
        numbers |= {
            f"{name}/spearman": ranks.correlation,
            f"{name}/unknown": 1 - ranks.used / ranks.asked,
        }
        said.append(f"Spearman {ranks.correlation:.3f} on {name} ({ranks.used:,} of {ranks.asked:,} pairs)")
    for path, name in named[len(job.similarity) :]:
        by_section = vectors.analogies(lists.read_analogies(path), job.restrict)
        right, used, asked = (sum(column) for column in zip(*by_section.values(), strict=True))
        if not used:
            raise UserError(f"{path}: the {job.restrict:,} most frequent words answer none of {asked:,}; add text.")
        rows.append([name, "right answers", f"{right / used:.1%}", f"{used:,}", f"{asked:,}"])
        numbers |= {f"{name}/accuracy": right / used, f"{name}/unknown": 1 - used / asked}
        said.append(f"{right:,} of {used:,} analogies of {name} answered ({asked:,} in the file)")
        sections += [
            [section, f"{score.right / score.used:.1%}" if score.used else "–", f"{score.used:,}", f"{score.asked:,}"]
            for section, score in by_section.items()
        ]
    neighbours, unknown = _neighbours(job, vectors)
    if unknown:
        said.append(f"no vector for {', '.join(unknown)}")
    tables = [
        *([Table("Scores", ["list", "measure", "score", "asked", "in the list"], rows)] if rows else []),
        *([Table("Analogies by section", ["section", "right", "asked", "in the list"], sections)] if sections else []),
        Table("Nearest neighbours", ["word", "neighbours, with cosines"], neighbours),
    ]
    about = (
        f"Cosines of the vectors of {len(vectors.ids):,} words, {vectors.unit.shape[1]} numbers each.\n\n"
        "Pairs are ranked by cosine, and compared with people's ranking by Spearman's correlation. Analogies are "
        f"answered by the nearest word to b − a + c among the {job.restrict:,} most frequent. Pairs and questions "
        "with a word without a vector are not asked."
    )
    verdict = f"{'; '.join(said)}." if said else "No lists were given: the neighbours are for you to judge."
    return Report("Word vectors", about, tables, [], verdict[0].upper() + verdict[1:], numbers)


def _distinct(paths: Sequence[Path]) -> list[str]:
    """What files are called: by their names without suffix, and by as much of their folders as tells them apart; those
    that differ in nothing else are numbered."""
    names: list[str] = []
    all_parts = [path.with_suffix("").parts for path in paths]
    for parts in all_parts:
        depth, others = 1, [other for other in all_parts if other != parts]
        while depth < len(parts) and any(other[-depth:] == parts[-depth:] for other in others):
            depth += 1
        name = "/".join(parts[-depth:])
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


def _neighbours(job: Config, vectors: Vectors) -> tuple[list[list[str]], list[str]]:
    """Rows of words and their neighbours, and the words that have no vector."""
    numbers: dict[str, int | None]
    if job.words:
        numbers = {word: vectors.id_of(word) for word in job.words}
    else:
        ranks = np.geomspace(max(1, FREQUENT * len(vectors.ids)), max(1, RARE * len(vectors.ids)), SHOWN).astype(int)
        chosen = vectors.ids[np.unique(np.minimum(ranks, len(vectors.ids) - 1))]
        numbers = {str(vectors.texts[number]): int(number) for number in chosen}
    shown = [
        [word, ", ".join(f"{other} {cosine:.2f}" for other, cosine in vectors.nearest(number, job.neighbours))]
        for word, number in numbers.items()
        if number is not None
    ]
    return shown, [word for word, number in numbers.items() if number is None]
