"""Runs a job `text-restoration`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.corruptions import build as build_corruption
from data_prep.rng import key
from data_prep.shards.rows import Ragged, ragged
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load
from pipeline.downstream.metrics import text as text_metrics
from pipeline.downstream.predictions.examples import Words
from pipeline.downstream.predictions.report import interval
from pipeline.downstream.predictions.trial import Trial
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import FIGURES, Figure, Report, Table
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Generator
from training.inference.language_model import open_language_model

EXTRA = 8  # tokens that what is written may be longer than any truth
NETWORK, GIVEN = "network", "what it was given"


class Restored(NamedTuple):
    """Texts of R held-out rows: as they were, by who gives them; the ids that the network was given, and wrote."""

    truth: list[str]
    texts: dict[str, list[str]]
    seen: Ragged
    ids: Ragged
    unended: int
    """Rows that the network did not end."""


class Restoring(Trial):
    """A job with its inputs; rows are read as the job `predictions` reads them."""

    def run(self, out_dir: Path) -> Report:
        """Carry out the job."""
        restored = self._restored()
        return _report(self.job.name, restored, self._examples(restored), out_dir, self.seed)

    def _restored(self) -> Restored:
        rows = self.held_out.read(np.arange(self.num_rows))
        seen, targets = ragged(rows, "seen"), ragged(rows, "target_tokens")
        model = open_language_model(self.model, str(self.device))
        decoding = Decoding(max_new_tokens=int(targets.lengths.max()) + EXTRA, beams=self.job.beams)
        written: list[list[int]] = [[] for _ in range(self.num_rows)]
        done = unended = 0
        for completion in Generator(model, decoding).write([seen.row(row).tolist() for row in range(self.num_rows)]):
            written[completion.prompt] = completion.ids
            done, unended = done + 1, unended + (completion.ended != "eos")
            self.context.progress("restoring texts", done / self.num_rows)
        corruption = build_corruption(self.reading.corruption, self.specials)
        ids = corruption.filled(rows, Ragged.from_rows(written, targets.values.dtype))
        truth = ragged(corruption.restore(rows), "input")
        texts = {NETWORK: self._texts(ids), GIVEN: self._texts(seen)}
        return Restored(self._texts(truth), texts, seen, ids, unended)

    def _texts(self, rows: Ragged) -> list[str]:
        tokenizer = load(self.preprocessor)
        return tokenizer.decode_batch([rows.row(row).tolist() for row in range(len(rows))], skip_special_tokens=True)

    def _examples(self, restored: Restored) -> Table:
        words = Words(Pieces(load(self.preprocessor), self.specials), self.specials)
        order = np.random.default_rng(key(self.seed, "examples")).permutation(len(restored.truth))
        rows = [
            [words.text(restored.seen.row(row)), words.text(restored.ids.row(row)), restored.truth[row].strip()]
            for row in order[: self.job.examples].tolist()
        ]
        return Table("Restored texts", ["given", "network", "truth"], rows)


def _report(name: str, restored: Restored, examples: Table, out_dir: Path, seed: int) -> Report:
    """Draws into `out_dir/figures`."""
    references = [[text] for text in restored.truth]
    rows, numbers = [], {}
    for who, texts in restored.texts.items():
        scores = _scores(texts, references)
        rows.append([f"**{who}**" if who == NETWORK else who, *(f"{value:.1f}" for value in scores.values())])
        numbers |= {score if who == NETWORK else f"{score}/given": value for score, value in scores.items()}
    each = {who: np.array(text_metrics.chrf_of_each(texts, references)) for who, texts in restored.texts.items()}
    gain = each[NETWORK] - each[GIVEN]
    low, high = interval(gain, np.arange(len(gain)), seed)
    numbers |= {"gain": float(gain.mean()), "gain/low": low, "gain/high": high}
    verdict = "closer to the truth" if low > 0 else "further from it" if high < 0 else "no difference"
    columns = ["text", "chrF", "BLEU", "ROUGE-1", "ROUGE-2", "ROUGE-L", "equal to the truth, %"]
    return Report(
        title=name,
        about=(
            f"{len(restored.truth):,} held-out rows, corrupted as in evaluation. The network writes without being told "
            "what it should have written; special tokens are no text. chrF and BLEU are of the corpus, by sacrebleu; "
            "ROUGE is the mean F1 of rows, by rouge-score."
            + (f" {restored.unended:,} rows had no end where writing stopped." if restored.unended else "")
        ),
        tables=[Table("Restorations beside what was given", columns, rows), examples],
        figures=[Figure("chrF of each row", _by_row(each, out_dir / FIGURES / "rows.png").name)],
        verdict=(
            f"Row by row, chrF is {gain.mean():+.1f} points from what was given to what the network makes of it (95 % "
            f"interval {low:+.1f} to {high:+.1f}): {verdict}."
        ),
        numbers=numbers,
    )


def _by_row(each: Mapping[str, np.ndarray], path: Path) -> Path:
    """A point for each row: chrF [R] of what was given, and of what became of it."""
    figure, axes = new_axes("Texts before and after", f"chrF of {GIVEN}", "chrF of the network's text")
    ends = [0, 100]
    axes.plot(ends, ends, color=COLOURS[1], linewidth=1)
    axes.scatter(each[GIVEN], each[NETWORK], s=12, color=COLOURS[0])
    return save(figure, path)


def _scores(texts: Sequence[str], references: list[list[str]]) -> dict[str, float]:
    rouge = text_metrics.rouge(texts, references)
    return {
        "chrf": text_metrics.chrf(texts, references),
        "bleu": text_metrics.bleu(texts, references),
        **{name: rouge[name] for name in ("rouge1", "rouge2", "rougeL")},
        "equal": 100 * float(np.mean([text == right for text, (right,) in zip(texts, references, strict=True)])),
    }
