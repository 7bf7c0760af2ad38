"""Networks built as a folder describes them: only what its weights are there for, and checked before memory is taken.

description ──► the network without memory ──► compared with the header of its weights ──► built, weights loaded
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from data_prep.errors import UserError
from data_prep.opening import tensors
from data_prep.opening.files import UnfitError, clause, inside
from data_prep.opening.tensors import Entry

SPARE_PARAMETERS, SPARE_ELEMENTS = 1 << 10, 1 << 26  # beyond the weights: heads that a file leaves out

Network = TypeVar("Network", bound=nn.Module)


def built(make: Callable[[], Network], folder: Path, config: str, weights: str) -> Network:
    """The network that `make` builds as `config` describes it, with the weights of that file, in evaluation mode.

    make: called twice, once without memory; its random numbers do not count. UserError where it fails, or where the
    weights are of another network; their header is compared before memory is taken.
    """
    try:
        path = inside(folder, weights)
        held = tensors.header(path)
        with torch.random.fork_rng(devices=[]):
            with bounded(held), torch.device("meta"):
                sketch = make().state_dict()
            if problem := tensors.misfit(sketch, held):
                raise UnfitError(problem)
            network = make()
        network.load_state_dict(tensors.load(path))
    except UserError:
        raise
    except Exception as error:  # of numbers that fit no layer, torch raises anything
        raise UserError(
            f"{folder / weights}: not the weights that {config} asks for ({clause(error)}); name another folder, or "
            "train one."
        ) from error
    return network.eval()


@contextmanager
def bounded(held: Mapping[str, Entry]) -> Iterator[None]:
    """UnfitError as soon as a network that is built asks for far more than the weights `held` are for."""
    most_parameters = 2 * len(held) + SPARE_PARAMETERS
    most_elements = 2 * sum(entry.elements for entry in held.values()) + SPARE_ELEMENTS
    most_modules = 16 * most_parameters
    counts = {"parameters": 0, "elements": 0, "modules": 0}

    def count(kind: str, number: int, most: int) -> None:
        counts[kind] += number
        if counts[kind] > most:
            raise UnfitError(f"what is described has more than {most:,} {kind}, and the weights are for fewer")

    def parameter(module: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            count("parameters", 1, most_parameters)
            count("elements", value.numel(), most_elements)

    def submodule(module: nn.Module, name: str, value: Any) -> None:
        count("modules", 1, most_modules)

    handles = [
        registration.register_module_parameter_registration_hook(parameter),
        registration.register_module_buffer_registration_hook(parameter),
        registration.register_module_module_registration_hook(submodule),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
