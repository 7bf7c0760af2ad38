"""`sesame export`: a network that runs without this project, as ONNX.

model.onnx        the network, of batches and rows of any length
onnx.json         its inputs, its output and what it means, labels, most tokens of a row, how texts are cleaned
tokenizer.json    how texts become its inputs
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from data_prep.errors import UserError, choices
from flows.inference.embedder import folder_of, use_of
from flows.show.console import new_console

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from pipeline.downstream.fine_tune.exported import FineTuned

FORMATS = ("onnx",)
ABOUT, TOKENIZER = "onnx.json", "tokenizer.json"
FORMAT = 1
_ROW, _POSITIONS = ["batch", "outputs"], ["batch", "length", "outputs"]
MEANINGS = {
    "class": (_ROW, "a score for each of `labels`; softmax gives probabilities"),
    "score": (_ROW, "the number"),
    "choice": (_ROW, "a row is a text with one of its choices; softmax over those of a text gives probabilities"),
    "tags": (_POSITIONS, "a score for each of `labels`; a word's label is that of its first token"),
    "answer": (
        _POSITIONS,
        "scores of start and end of the answer, which has their sum; no answer is start and end at the first token, "
        "with the least sum of all windows, and said where that is above the best answer's by more than `threshold` "
        "(null: never)",
    ),
    "features": (["batch", "length", "width"], "vectors of tokens; `pooling` says how a text's vector is made of them"),
}
"""Of each head: the shape of the output, and what its numbers mean."""


@dataclass(frozen=True)
class Exported:
    """A network to be written. about: what of `onnx.json` is its own. remarks: what is different about it."""

    network: nn.Module
    inner: Any
    """The network of `transformers` in it."""
    head: str
    tokenizer: Tokenizer
    pad: int
    about: dict[str, Any]
    remarks: tuple[str, ...] = ()


def export(model: str, out: str, to: str, as_json: bool) -> None:
    """Write a network's folder; it is checked before it takes its place. UserError where it cannot be written so."""
    if to not in FORMATS:
        raise UserError(f"--to: {choices(to, FORMATS)}.")
    folder, target = folder_of(model), Path(out).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--out {out}: is there already; name a new folder.")
    from training.inference import onnx

    onnx.check_packages()
    exported = _exported(folder)
    with _whole(target) as draft:
        about = _write(exported, draft)
    if as_json:
        print(json.dumps({"out": out, **about, "remarks": list(exported.remarks)}))
        return
    console = new_console()
    for remark in exported.remarks:
        console.print(Text(f"warning: {remark}", "yellow"), soft_wrap=True)
    size = (target / onnx.FILE).stat().st_size / 1e6
    line = f"{out}: {onnx.FILE} ({size:,.1f} MB), {ABOUT}, {TOKENIZER}; differs from the network by at most"
    console.print(Text(f"{line} {about['checked']['difference']:.1e}", "dim"), soft_wrap=True)


def _write(exported: Exported, folder: Path) -> dict[str, Any]:
    """Write and check; what `onnx.json` says."""
    from training.inference import onnx
    from training.models.text.architectures import longest
    from training.models.text.network import accepted

    config = exported.inner.config
    names = ["input_ids", "attention_mask", *accepted(exported.inner, "token_type_ids")]
    sizes = (config.vocab_size, getattr(config, "type_vocab_size", 0) or 1, exported.pad, longest(config))
    *_, example = onnx.batches(names, *sizes)
    output = "last_hidden_state" if exported.head == "features" else "scores"
    onnx.write(exported.network, example, output, folder / onnx.FILE)
    difference = onnx.check(folder / onnx.FILE, exported.network, onnx.batches(names, *sizes))
    exported.tokenizer.save(str(folder / TOKENIZER))
    shape, meaning = MEANINGS[exported.head]
    about = {
        "format": FORMAT,
        "head": exported.head,
        "inputs": {name: ["batch", "length"] for name in names},
        "type": "int64",
        "output": {"name": output, "shape": shape, "means": meaning},
        "pad": exported.pad,
        **exported.about,
        "checked": {"difference": difference, "with": {name: version(name) for name in ("torch", *onnx.PACKAGES)}},
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return about


def _exported(folder: Path) -> Exported:
    """The network of a folder. UserError for those that read no texts, or write them."""
    from data_prep.tokens import pretrained
    from data_prep.tokens.roles import specials_of
    from pipeline.downstream.fine_tune.exported import TASK, open_fine_tuned
    from pipeline.downstream.fine_tune.heads import Shape, tokenizer_of
    from training.inference.onnx import States
    from training.inference.opening import network_kind
    from training.models.text.folder import open_features
    from training.objectives.text import padding_id

    if (folder / TASK).is_file():
        return _fine_tuned(open_fine_tuned(folder))
    if network_kind(folder) != "text":
        raise UserError(f"{folder}: ONNX is written of networks of `transformers`; name one of these.")
    use = use_of(folder)
    inner = open_features(folder, attn_implementation="eager")
    _check(folder, inner)
    tokenizer = tokenizer_of(Shape("class"), folder, framed=use.pooling == "last")
    about = {"pooling": use.pooling, "normalize": use.normalize, "length": use.length}
    pad = padding_id(specials_of(*pretrained.read(folder)))
    return Exported(States(inner), inner, "features", tokenizer, pad, about)


def _fine_tuned(model: FineTuned) -> Exported:
    from pipeline.downstream.fine_tune.heads import tokenizer_of
    from training.inference.networks.text import TrainableText
    from training.inference.onnx import Scores
    from training.objectives.fine_tuning import FineTuning

    objective, shape = model.objective, model.shape
    if not isinstance(objective, FineTuning):
        raise UserError(f"{model.folder}: writes its answers, which no single ONNX network does; name one with labels.")
    if not isinstance(objective.encoder, TrainableText):
        raise UserError(f"{model.folder}: ONNX is written of networks of `transformers`; name one of these.")
    inner = objective.encoder.network
    _check(model.folder, inner)
    about = {
        "labels": list(shape.labels),
        "length": model.layout.length,
        "pooling": model.pooling,
        "cleaning": asdict(model.cleaning),
        "reads": dict(model.reads),
    }
    if shape.head == "answer":
        names = ("window_overlap", "max_question", "max_answer")
        about |= {name: getattr(model.layout, name) for name in names}
        about["threshold"] = shape.threshold if shape.unanswerable else None
    said = f"it was evaluated in {model.precision}, and is written in fp32: answers that are close may differ"
    network = Scores(objective.network, shape.head, model.pooling, shape.scale)
    tokenizer = tokenizer_of(shape, model.folder, model.framed)
    remarks = (said,) if model.precision != "fp32" else ()
    return Exported(network, inner, shape.head, tokenizer, objective.encoder.pad, about, remarks)


def _check(folder: Path, network: Any) -> None:
    """UserError for networks whose operators depend on what a row holds, or on its length."""
    from training.models.text.architectures import architecture_of, blocks_of

    reasons = {
        "attention in blocks depends on a row's length": blocks_of(network.config) is not None,
        "which expert a token goes to depends on all others": architecture_of(network.config.model_type).experts,
    }
    if reason := next((reason for reason, holds in reasons.items() if holds), None):
        raise UserError(f"{folder}: {reason}, and has no form in ONNX.")


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of `target` at the end of the block, unless that fails."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {target}: cannot be made ({error.strerror}); name another place.") from None
    try:
        yield draft
        if target.is_dir():
            target.rmdir()
        draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
