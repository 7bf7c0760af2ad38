"""Shows an artifact in readable form: rows of shards, examples of a corpus, a tokenizer at work, or a summary.

An artifact is recognised by its files, not by its stage's name; its kind of data determines how rows are shown.
Rows are augmented and corrupted by the same random draws as in training, so epoch 0 shows what its first epoch saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from data_prep.corpus.documents import INDEX, SPLITS
from data_prep.corruptions import CorruptionConfig, build, config_of
from data_prep.corruptions.views import RENDERED
from data_prep.corruptions.warp import AugmentConfig, augment
from data_prep.errors import UserError
from data_prep.kinds import kind_of
from data_prep.legible import plain
from data_prep.rng import Draws, key
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Rows, Specials
from data_prep.shards.streams import LONGER, stream_of
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load, specials
from data_prep.views import Selection
from flows.show.examples import show_examples
from flows.show.readable import number, size
from pipeline.artifact import Artifact
from pipeline.store.store import Store

MAX_FILES = 20
PIECES_PER_LINE = 10
SAMPLE = "Four score and seven years ago, 42 unbelievably naïve newspapermen re-read it."
SAMPLE_WIDE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？"


@dataclass(frozen=True)
class Reading:
    """How training reads rows: augmentation, corruption, and the key of its random draws."""

    name: str
    seed: int
    corruption: CorruptionConfig
    augment: AugmentConfig = AugmentConfig()  # noqa: RUF009 - it is frozen
    longer: Any = None
    """`train.longer`, with its own corruption."""

    @staticmethod
    def of_recipe(recipe: Any) -> Reading:
        """As the recipe says."""
        return Reading(recipe.name, recipe.seed, recipe.corruption, recipe.augment, recipe.train.longer)

    @staticmethod
    def of_config(config: Mapping[str, Any]) -> Reading:
        """As the config of a network's artifact says."""
        from training.config import LongerConfig

        longer = config["train"].get("longer")
        return Reading(
            config["name"],
            config["seed"],
            config_of(config["corruption"]),
            AugmentConfig.model_validate(config.get("augment", {})),
            LongerConfig.model_validate(longer) if longer else None,
        )

    def corruption_of(self, split: str) -> CorruptionConfig:
        """The corruption of a split; that of longer rows may have its own budget of predictions."""
        if self.longer is None or split.partition("-")[0] != LONGER:
            return self.corruption
        return self.longer.corruption(self.corruption)

    def augment_of(self, split: str) -> AugmentConfig:
        """The augmentation of a split; held-out rows stay as they are."""
        return self.augment if split.partition("-")[0] in ("train", LONGER) else AugmentConfig()


def of_newest_run(shards: Artifact, store: Store) -> Reading | None:
    """How the newest network trained on these shards read them; None if there is none."""
    for candidate in reversed(store.list()):
        parents = {entry["key"] for entry in candidate.manifest["inputs"].values()}
        if candidate.stage == "pretrain" and shards.key in parents:
            return Reading.of_config(candidate.config)
    return None


def inspect(
    artifact: Artifact,
    rows: int,
    console: Console,
    split: str = "train",
    start: int = 0,
    *,
    reading: Reading | None = None,
    preprocessor: Path | None = None,
    corpus: Path | None = None,
    epoch: int = 0,
    text: str | None = None,
) -> None:
    """Print `rows` rows (examples of a corpus, lines of pieces) from number `start` on.

    reading: how training reads rows of shards, in epoch `epoch`; without it they are shown as stored.
    preprocessor, corpus: folders that the shards were made from, if they still exist. text: a sentence for a tokenizer.
    Raises UserError where the artifact has no such split or row.
    """
    if rows < 1 or start < 0 or epoch < 0:
        raise UserError(f"rows must be at least 1, start and epoch at least 0; found {rows}, {start} and {epoch}")
    files = artifact.manifest["files"]
    index = range(start, start + rows)
    _header(artifact, console)
    shards = [name.removesuffix("/index.json") for name in files if name.endswith("/index.json")]
    if shards:
        _check_split(artifact, split, shards)
        _rows(artifact, index, console, split, reading, preprocessor, corpus, epoch)
    elif INDEX in files:
        _check_split(artifact, split, SPLITS)
        _corpus(artifact, index, console, split)
        _rejects(artifact, console)
    elif "tokenizer.json" in files:
        _tokenizer(artifact, rows, console, text)
    else:
        _summary(artifact, console)
        _files(artifact, console)
        _report(artifact, console)


def _check_split(artifact: Artifact, split: str, present: Sequence[str]) -> None:
    if split not in present:
        raise UserError(f"{artifact.key} has no split {split!r}; it has {', '.join(present)}")


def _header(artifact: Artifact, console: Console) -> None:
    provenance = artifact.manifest["provenance"]
    facts = [artifact.stage, size(artifact.size)]
    if "time" in provenance:
        facts.append(f"made {provenance['time']}")
    if provenance.get("licences"):
        facts.append(f"licences: {', '.join(provenance['licences'])}")
    console.print(Text.assemble((artifact.key, "bold"), plain(f" · {' · '.join(facts)}")), soft_wrap=True)


# -- shards -----------------------------------------------------------------------------------------------------------


def _rows(
    artifact: Artifact,
    index: range,
    console: Console,
    split: str,
    reading: Reading | None,
    preprocessor: Path | None,
    corpus: Path | None,
    epoch: int,
) -> None:
    """Print rows of a split, up to its end."""
    kind, shards = kind_of(artifact.config["kind"]), Shards(artifact.path / split, artifact.key)
    if index.start >= shards.rows:
        raise UserError(f"{artifact.key} has {shards.rows:,} rows in {split}, so none is number {index.start:,}")
    if kind.fits and preprocessor is None:
        parent = artifact.manifest["inputs"].get("preprocessor", {"key": ""})
        raise UserError(
            f"the rows of {artifact.key} cannot be shown without their {kind.fits} {parent['key']}: make it again"
        )
    numbers = np.arange(index.start, min(index.stop, shards.rows))
    special = kind.specials(preprocessor) if preprocessor else None
    selection, note = read_as_in_training(
        shards.read(numbers), numbers, artifact.config["settings"], split, reading, special, epoch
    )
    console.print(Text(f"rows {numbers[0]:,}–{numbers[-1]:,} of {shards.rows:,} in {split}; {note}", "dim"))
    show_examples(kind.show(selection, preprocessor, corpus), console)


def read_as_in_training(
    rows: Rows,
    numbers: np.ndarray,
    settings: Mapping[str, Any],
    split: str,
    reading: Reading | None,
    special: Specials | None,
    epoch: int,
) -> tuple[Selection, str]:
    """The rows as training reads them, and a phrase that tells what was done to them.

    rows: as stored. numbers: int64 [R], their indices in the split. settings: those that the shards were written with.
    """
    part = settings.get(LONGER, {}) if split.partition("-")[0] == LONGER else settings
    if part.get("corruption"):
        written = build(config_of(part["corruption"]), special)
        return Selection(rows, numbers, split, dict(settings), written), "corrupted when they were written"
    if reading is None:
        return Selection(rows, numbers, split, dict(settings)), "not corrupted yet"
    draws = Draws(key(reading.seed, *stream_of(split, reading.name)), epoch, numbers)
    changes, unchanged = reading.augment_of(split), None
    if changes.changes:
        unchanged, rows = rows, augment(rows, changes, draws)
    corruption = build(reading.corruption_of(split), special)
    corrupted = corruption(rows, draws)
    if corruption.targets == "views":
        corrupted = _with_views(corrupted)
    selection = Selection(corrupted, numbers, split, dict(settings), corruption, unchanged)
    done = "changed and corrupted" if unchanged is not None else "corrupted"
    return selection, f"{done} as training does it in epoch {epoch}"


def _with_views(rows: Rows) -> Rows:
    """Rows with the pixels of their views, as training renders them."""
    import torch

    from training.objectives.arrays.views import parameters, rendered

    images = torch.from_numpy(np.ascontiguousarray(np.asarray(rows["input"])))
    return {**rows, RENDERED: rendered({"input": images, **parameters(rows)}).numpy()}


# -- a corpus ---------------------------------------------------------------------------------------------------------


def _corpus(artifact: Artifact, index: range, console: Console, split: str) -> None:
    kind = kind_of(artifact.config["kind"])
    examples, count = kind.show_corpus(artifact.path, split, index)
    if not examples:
        raise UserError(f"{artifact.key} has {count:,} {kind.unit} in {split}, so none is number {index.start:,}")
    last = index.start + len(examples) - 1
    console.print(Text(f"{kind.unit} {index.start:,}–{last:,} of {count:,} in {split}", "dim"))
    show_examples(examples, console)


def _rejects(artifact: Artifact, console: Console) -> None:
    path = artifact.path / "rejects.arrow"
    counts: Counter[str] = Counter()
    with pa.memory_map(str(path)) as source:
        for reason in pa.ipc.open_file(source).read_all()["reason"].value_counts().to_pylist():
            kind = "duplicate" if reason["values"].startswith("duplicate of ") else reason["values"]
            counts[kind] += reason["counts"]
    if not counts:
        console.print(Text("no rows were rejected", "dim"))
        return
    table = Table("rows", "rejected because", title="Rejects", title_justify="left", box=None)
    table.columns[0].justify = "right"
    for reason, count in counts.most_common():
        table.add_row(f"{count:,}", Text(plain(reason)))
    console.print(table)


# -- a tokenizer ------------------------------------------------------------------------------------------------------


def _tokenizer(artifact: Artifact, lines: int, console: Console, text: str | None) -> None:
    tokenizer, special = load(artifact.path), specials(artifact.path)
    kind = artifact.summary.get("kind", artifact.config.get("kind", ""))
    console.print(Text(f"{kind}, {special.vocabulary:,} tokens, of them {len(special.all)} special", "dim"))
    pieces = Pieces(tokenizer, special)
    names = [(token, tokenizer.id_to_token(token)) for token in special.ordinary.tolist()]
    names = [(token, name) for token, name in names if name is not None]
    table = Table("id", "pieces", title="From the first to the last", title_justify="left", box=None)
    table.columns[0].justify = "right"
    last = max(len(names) - PIECES_PER_LINE, 0)
    for begin in sorted({last * line // max(lines - 1, 1) for line in range(lines)}):
        part = names[begin : begin + PIECES_PER_LINE]
        table.add_row(
            str(part[0][0]) if part else "", Text("  ".join(plain(name).replace(" ", "␣") for _, name in part))
        )
    console.print(table)
    if text is None:
        sentence = max((SAMPLE, SAMPLE_WIDE), key=lambda sample: _known(tokenizer, sample, special.get("unk")))
    else:
        sentence = text
    ids = tokenizer.encode(sentence).ids
    tokens = Text()
    for place, token in enumerate(ids):
        style = "dim" if token in special.all else ("green", "cyan")[place % 2]
        tokens.append(plain(tokenizer.id_to_token(token) or "").replace(" ", "␣"), style).append(" ")
    table = Table.grid(padding=(0, 1))
    table.add_row(Text("text", "bold"), Text(plain(sentence)))
    table.add_row(Text("tokens", "bold"), tokens)
    table.add_row(Text("ids", "bold"), Text(" ".join(map(str, ids)), "dim"))
    table.add_row(Text("back", "bold"), Text(plain("".join(pieces.texts(ids)))))
    console.print(table)


def _known(tokenizer: Any, sentence: str, unknown: int | None) -> float:
    """Share of a sentence that the vocabulary covers; ties go to fewer tokens per byte."""
    ids = tokenizer.encode(sentence, add_special_tokens=False).ids
    return sum(token != unknown for token in ids) / len(ids) - len(ids) / len(sentence.encode()) / 1000


# -- anything else ----------------------------------------------------------------------------------------------------


def _summary(artifact: Artifact, console: Console) -> None:
    if not artifact.summary:
        return
    table = Table("summary", "", title_justify="left", box=None)
    for name, value in _leaves(artifact.summary):
        table.add_row(Text(plain(name)), Text(plain(value)))
    console.print(table)


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """(path.to.key, value) of all nested values; a list is one line."""
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in _leaves(part, f"{path}.{name}" if path else name)]
    if isinstance(value, list):
        shown = ", ".join(text for part in value[:8] for _, text in _leaves(part))
        return [(path, shown + (f", … ({len(value)} in all)" if len(value) > 8 else ""))]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [(path, number(value))]
    return [(path, str(value))]


def _files(artifact: Artifact, console: Console) -> None:
    files = artifact.manifest["files"]
    table = Table("size", "file", title_justify="left", box=None)
    table.columns[0].justify = "right"
    for name, entry in list(files.items())[:MAX_FILES]:
        table.add_row(size(entry["size"]), Text(plain(name)))
    console.print(table)
    if len(files) > MAX_FILES:
        console.print(Text(f"… {len(files) - MAX_FILES:,} more files", "dim"))
    console.print(Text(f"in {artifact.path}", "dim"), soft_wrap=True)


def _report(artifact: Artifact, console: Console) -> None:
    for name in artifact.manifest["files"]:
        if Path(name).name == "report.md":
            text = (artifact.path / name).read_text(encoding="utf-8")
            console.print(Markdown(plain(text, keep="\n\t"), hyperlinks=False))
