"""Networks as ONNX, for runtimes that know no PyTorch: written, opened by onnxruntime, and compared.

    network, inputs of two lengths ─► torch.export ─► model.onnx ─► onnxruntime ─► outputs equal to the network's

Batches and rows may have any length. Attention is computed in plain operators, precision is fp32.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from data_prep.labelled.examples import Head
from training.models.fine_tuning import FineTuningNetwork
from training.objectives.fine_tuning import Pooling

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of differences, in units of the largest output if that is above 1
SHAPES = ((1, 1), (1, 7), (3, 12), (5, 40))  # rows and positions that are compared
Inputs = Mapping[str, Tensor]


class States(nn.Module):
    """The last hidden states of an encoder, [B, L, D]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state


class Scores(nn.Module):
    """The scores of a fine-tuned network: of rows [B, outputs] (class, score, choice), or of all positions
    [B, L, outputs] (tags, answer), whichever of them are asked for.

    scale: mean and standard deviation of a number's scores, which are multiplied back.
    """

    def __init__(self, network: FineTuningNetwork, head: Head, pooling: Pooling, scale: tuple[float, float]) -> None:
        super().__init__()
        self.network, self.head, self.pooling = network, head, pooling
        self.mean, self.spread = scale if head == "score" else (0.0, 1.0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        # not self.network(…), whose forward may run under autocast
        return self.mean + self.spread * FineTuningNetwork.forward(self.network, self._places(attention_mask), **inputs)

    def _places(self, mask: Tensor) -> Tensor | None:
        """The positions that are scored: [B, 1] of a row's vector, [B, L] of all; None where means or all are."""
        count, width = mask.shape
        if self.head == "tags":
            return torch.arange(count * width).reshape(count, width)
        if self.head == "answer" or self.pooling == "mean":
            return None
        first = torch.arange(count) * width
        return first + mask.sum(1) - 1 if self.pooling == "last" else first


def check_packages() -> None:
    """UserError where a package that is needed is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"ONNX needs {' and '.join(missing)}: pip install 'sesame-ssl[onnx]'.")


def write(network: nn.Module, example: Inputs, output: str, path: Path) -> None:
    """Write a network whose inputs are all [B, L], of any B and L, and that gives one tensor.

    example: two rows or more, and more than one position. UserError where a network has operators that ONNX has not.
    """
    check_packages()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    with _quietly(), torch.no_grad():
        try:
            program = torch.onnx.export(
                network.eval(),
                kwargs=dict(example),
                dynamo=True,
                dynamic_shapes=dict.fromkeys(example, sizes),
                input_names=list(example),
                output_names=[output],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
            raise UserError(f"{type(network).__name__} has no form in ONNX ({reason[:200]}).") from error
    assert program is not None
    program.save(path)


def check(path: Path, network: nn.Module, batches: Iterator[Inputs]) -> float:
    """The largest difference between the outputs of a file and of its network. UserError if it is above `TOLERANCE`."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in batches:
        with torch.no_grad():
            wanted = network(**batch).numpy()
        given = np.asarray(session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})[0])
        shapes = f"rows of {' × '.join(map(str, next(iter(batch.values())).shape))}"
        if given.shape != wanted.shape:
            raise UserError(f"{path.name} gives {given.shape} for {shapes}, and the network {wanted.shape}.")
        difference = float(np.abs(given - wanted).max(initial=0) / max(1.0, float(np.abs(wanted).max(initial=0))))
        if not difference <= TOLERANCE:
            raise UserError(f"{path.name} differs by {difference:.1e} from the network for {shapes}.")
        largest = max(largest, difference)
    return largest


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on its own workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def batches(names: Collection[str], vocabulary: int, types: int, pad: int, longest: int | None) -> Iterator[Inputs]:
    """Random rows of mixed lengths, `SHAPES` of them as far as a network has positions. types: kinds of segments."""
    generator = torch.Generator().manual_seed(0)
    for count, width in SHAPES:
        width = min(width, longest or width)
        lengths = torch.randint(1, width + 1, (count, 1), generator=generator)
        lengths[0] = width
        mask = (torch.arange(width) < lengths).long()
        ids = torch.randint(0, vocabulary, (count, width), generator=generator)
        kinds = torch.randint(0, types, (count, width), generator=generator)
        batch = {
            "input_ids": torch.where(mask.bool(), ids, pad),
            "attention_mask": mask,
            "token_type_ids": kinds * mask,
        }
        yield {name: batch[name] for name in names}


__all__ = ["FILE", "SHAPES", "Scores", "States", "batches", "check", "check_packages", "write"]
