"""A network that gives vectors, opened as a user names it, and the vectors of a file's rows, a window at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from data_prep.errors import UserError, choices
from data_prep.kinds import file_reader_of
from data_prep.labelled.rows import Reading
from flows.checkpoint import UnusableError, fine_tuned_folder, model_folder
from flows.inference import values
from flows.inference.values import Value, Window
from pipeline.downstream.fine_tune.job import FINE_TUNED

if TYPE_CHECKING:
    from training.inference.embedding import Embedder
    from training.inference.encoding import Encoder
    from training.inference.use import Use

ROWS, NUMBERS = 4096, 1 << 23  # of a window at most, which alone is in memory: rows; characters, or numbers


@dataclass(frozen=True)
class Options:
    """What a user asks for; None: what the network declares."""

    column: str | None = None
    id: str | None = None
    text: bool = False
    """Whether texts are written beside their vectors."""
    pooling: Literal["mean", "cls", "last"] | None = None
    normalize: bool | None = None
    layer: int | None = None
    length: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"
    nearest: int = 0
    queries: str | None = None
    neighbours: str | None = None
    """File for the nearest neighbours."""


def options_of(**given: Any) -> Options:
    """The options of a command line. UserError for a pooling or a precision that there is not."""
    for name, known in (("pooling", (None, "mean", "cls", "last")), ("precision", ("fp32", "bf16"))):
        if given[name] not in known:
            raise UserError(f"--{name}: {choices(given[name], filter(None, known))}.")
    return Options(**given)


@dataclass(frozen=True)
class Network:
    """A network that is open."""

    embedder: Embedder
    use: Use
    options: Options

    @property
    def about(self) -> dict[str, Any]:
        """How vectors are made, as JSON values."""
        of_embedder = {name: getattr(self.embedder, name) for name in ("width", "pooling", "normalize", "length")}
        return {**of_embedder, "declared": self.use.declared, "precision": self.options.precision}

    @property
    def described(self) -> str:
        cut = f", at most {self.embedder.length:,} tokens of a text" if self.embedder.length else ""
        normalized = ", of length 1" if self.embedder.normalize else ""
        return f"pooling {self.embedder.pooling} ({self.use.declared}){normalized}{cut}"

    @property
    def remarks(self) -> list[str]:
        return [f"the network's folder also names {other}, which is not computed here" for other in self.use.others]

    def windows(self, path: Path, reading: Reading) -> Iterator[Window]:
        """The rows of a file, a window at a time. reading: to which is added what is odd about them."""
        takes, column, name = self.embedder.encoder.takes, self.options.column, self.options.id
        if takes is None:
            rows = values.texts(path, column, name, self.use.cleaning, reading)
        else:
            rows = values.arrays(path, column, name, takes, reading, file_reader_of(self.use.folder))
        for window in _windows(rows):
            yield self._embedded(window, reading)

    def _embedded(self, rows: list[Value], reading: Reading) -> Window:
        longest, filled = self.embedder.encoder.longest, [row for row in rows if row.content is not None]
        if longest is not None and self.embedder.tokenizer is None:
            for row in filled:
                if (positions := len(row.content)) > longest:  # type: ignore[arg-type]
                    raise UserError(f"{row.place}: has {positions:,} positions, and the network {longest:,}; cut it.")
        embedded = self.embedder([row.content for row in filled])
        for row, is_cut in zip(filled, embedded.is_cut, strict=True):
            if is_cut:
                reading.add(f"texts of over {self.embedder.length:,} tokens, which are cut", row.place)
        has = np.array([row.content is not None for row in rows], bool)
        places = np.flatnonzero(has)
        has[places[embedded.lengths == 0]] = False
        for row, has_one in zip(rows, has, strict=True):
            if not has_one:
                reading.add("rows without content, which have no vector", row.place)
        vectors = np.zeros((len(rows), self.embedder.width), np.float32)
        if len(places):
            vectors[places] = embedded.vectors
        return Window(rows, vectors, has)


def _windows(rows: Iterator[Value]) -> Iterator[list[Value]]:
    window: list[Value] = []
    size = 0
    for row in rows:
        window.append(row)
        size += 0 if row.content is None else len(row.content) if isinstance(row.content, str) else row.content.size
        if len(window) == ROWS or size >= NUMBERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def open_network(name: str, options: Options) -> Network:
    """The network of a name, see `flows.checkpoint`; of a fine-tuned one, the encoder.

    UserError where there is none, or it cannot do what is asked.
    """
    from pipeline.downstream.fine_tune.heads import Shape, tokenizer_of
    from training.distributed import check_device
    from training.inference.embedding import Embedder
    from training.inference.encoding import open_encoder

    check_device(options.device)
    use = use_of(folder_of(name))
    encoder = open_encoder(use.folder, options.device)
    if options.layer is not None:
        if not hasattr(encoder, "at_layer"):
            raise UserError(f"--layer {options.layer}: {use.folder} gives the output of no layer but its last.")
        encoder: Encoder = encoder.at_layer(options.layer)  # type: ignore[attr-defined]
    if options.pooling is not None:
        use = replace(use, pooling=options.pooling, declared="--pooling")
    tokenizer, length = None, None
    if encoder.takes is None:
        tokenizer = tokenizer_of(Shape("class"), use.folder, framed=use.pooling == "last")
        length = _length(use, encoder, options)
        if length is not None and length <= (frame := tokenizer.num_special_tokens_to_add(False)):
            raise UserError(f"--length {length}: special tokens alone are {frame}; ask for more.")
    normalize = use.normalize if options.normalize is None else options.normalize
    embedder = Embedder(encoder, use.pooling, normalize, tokenizer, length, options.precision, options.device)
    return Network(embedder, use, options)


def folder_of(name: str) -> Path:
    """The folder of a network, or of a fine-tuned one."""
    try:
        folder = model_folder(name)
    except UserError as error:
        try:
            return fine_tuned_folder(name)
        except UnusableError:
            raise
        except UserError:
            raise error from None
    return folder / FINE_TUNED if (folder / FINE_TUNED).is_dir() else folder


def use_of(folder: Path) -> Use:
    """How a folder's network gives vectors: as it was fine-tuned, or see `training.inference.use`."""
    from pipeline.downstream.fine_tune.exported import TASK, open_fine_tuned
    from training.inference import use
    from training.inference.use import Use

    if (folder / TASK).is_file():
        model = open_fine_tuned(folder)
        cleaning, length = model.cleaning, model.layout.length
        if model.shape.head in ("class", "score", "choice") and not model.shape.written:
            pooling = model.pooling
            return Use(model.folder, pooling, "as it was fine-tuned", length=length, cleaning=cleaning)
        said = "texts are written" if model.shape.written else f"head {model.shape.head} has no pooling"
        return Use(model.folder, "mean", said, length=length, cleaning=cleaning)
    return use.use_of(folder)


def _length(use: Use, encoder: Encoder, options: Options) -> int | None:
    """Most tokens of a text: as asked, or as declared, but not more than the network has positions for."""
    if options.length is None:
        return use.most_tokens(encoder.longest)
    if encoder.longest is not None and options.length > encoder.longest:
        raise UserError(f"--length {options.length:,}: the network has positions for {encoder.longest:,} tokens.")
    return options.length
