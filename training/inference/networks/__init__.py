"""Kinds of trained networks, a module each: how a folder that training wrote is recognised and opened.

A module has

    describes      what is in the folder's `config.json` ↦ whether its network is of this kind
    open_network   folder ↦ all of its network, heads included, on the CPU and in evaluation mode
    open_encoder   (folder, device) ↦ its `Encoder`
    open_trainable  folder ↦ its `training.models.fine_tuning.TaskEncoder`; left out where a kind has no positions
    open_sampler   (folder, device) ↦ its `Sampler`; left out where networks of the kind give no samples
    check_use      (folder, its network) uses an export by the library that others open it with, RuntimeError where
                   that fails; left out where it is opened by nothing but the above
    usage          folder ↦ `Usage`, how others use it; left out where that is `open_encoder`

and raises UserError where the folder holds something else. Nothing here trains.
"""

from __future__ import annotations

from typing import NamedTuple


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

__all__ = ["NETWORKS", "Usage"]
