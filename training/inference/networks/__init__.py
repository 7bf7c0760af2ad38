"""Kinds of trained networks, a module each: how a folder that training wrote is recognised and opened.

A module has

    describes      what is in the folder's `config.json` ↦ whether its network is of this kind
    open_network   folder ↦ all of its network, heads included, on the CPU and in evaluation mode
    open_encoder   (folder, device) ↦ its `Encoder`. It may also have `layers`, what its layers give for a batch of rows
                   (`training.inference.layers`), and `from_random_weights`, the same shape drawn by torch's generator
    open_trainable  folder ↦ its `training.models.fine_tuning.TaskEncoder`; left out where a kind has no positions
    open_writer    folder ↦ its language model to be fine-tuned; left out where networks of the kind do not write
    open_sampler   (folder, device) ↦ its `Sampler`; left out where networks of the kind give no samples
    check_use      (folder, its network) uses an export by the library that others open it with, RuntimeError where
                   that fails; left out where it is opened by nothing but the above
    usage          folder ↦ `Usage`, how others use it; left out where that is `open_encoder`

and raises UserError where the folder holds something else. Nothing here trains.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from training.inference.sentence_folder import copy_modules


class Usage(NamedTuple):
    """How an export is used, as its model card says it.

    task: what its heads do, a name of a model hub. code: lines that open `this/folder` and use it. remarks: what is to
    be known besides.
    """

    library: str
    task: str
    code: str
    remarks: tuple[str, ...] = ()


NETWORKS = {
    "text": "training.inference.networks.text",
    "elmo": "training.inference.networks.elmo",
    "word-vectors": "training.inference.networks.word_vectors",
    "frames": "training.inference.networks.frames",
    "array": "training.inference.networks.arrays",
}

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
MOST_BYTES = 64 << 20  # of a file beside the weights


def copy_others(source: Path, folder: Path) -> None:
    """Copy what lies beside the weights in a network's folder: its config, the files of its tokenizer, and those of
    the modules of sentence-transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        is_weights = any(path.match(pattern) for pattern in WEIGHTS)
        if path.is_file() and not is_weights and path.stat().st_size <= MOST_BYTES:
            shutil.copyfile(path, folder / path.name)
    copy_modules(source, folder)


__all__ = ["NETWORKS", "Usage", "copy_others"]
