"""What every worker sets up for itself."""

from __future__ import annotations

import pytest
import torch

from training.distributed import seed_torch


def test_seeds_are_those_of_torch_and_nothing_is_noted_for_later() -> None:
    torch.manual_seed(11)
    expected = torch.rand(5)
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is in use")
    noted = len(torch.cuda._queued_calls)
    for _ in range(3):
        seed_torch(11)
    assert len(torch.cuda._queued_calls) == noted
    assert torch.equal(torch.rand(5), expected)
    seed_torch(12)
    assert not torch.equal(torch.rand(5), expected)
