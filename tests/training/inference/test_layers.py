"""Layers of encoders: what `transformers` gives, whatever rows are beside a row; means, positions, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, ragged, take
from tests.training.inference.test_embedding import Frames
from training.inference.encoding import open_encoder
from training.inference.layers import LastLayer, at, means, open_layers

IDS = [[5, 6, 7, 8, 9, 10, 11], [5], [9, 9, 12], [7, 6, 5, 30, 31]]
ROWS: Rows = {"input": Ragged.from_rows(IDS, np.uint32)}


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_layers_are_those_of_transformers(writer: Any, architecture: str) -> None:
    encoder: Any = open_layers(writer(architecture))
    stack = encoder.model.get_encoder() if architecture == "t5" else encoder.model
    with torch.no_grad():
        expected = [stack(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in IDS]
    of_rows, places = means(encoder, ROWS), Ragged.from_rows([[0, 4], [0], [], [3, 1]], np.int64)
    at_places = at(encoder, ROWS, places)
    assert len(of_rows) == len(at_places) == 3
    for layer in range(3):
        states = [row[layer][0].numpy() for row in expected]
        assert np.allclose(of_rows[layer], [row.mean(0) for row in states], atol=1e-5)
        chosen = np.concatenate([row[places.row(number)] for number, row in enumerate(states)])
        assert np.allclose(at_places[layer], chosen, atol=1e-5) and chosen.std() > 0


def test_means_are_of_what_counts(writer: Any) -> None:
    folder: Path = writer("gpt2")
    encoder: Any = open_layers(folder)
    whole: Any = open_encoder(folder)
    assert np.allclose(means(encoder, ROWS)[-1], whole.encode(ROWS).mean(), atol=1e-5)
    assert np.allclose(means(encoder, ROWS)[1], whole.at_layer(1).encode(ROWS).mean(), atol=1e-5)
    counted = Ragged.from_rows([[False] * 3 + [True] * 4, [False], [True] * 3, [True] * 5], bool)
    some = means(encoder, ROWS, counted)
    last = at(encoder, take(ROWS, np.array([0])), Ragged.from_rows([[3, 4, 5, 6]], np.int64))
    assert np.allclose(some[2][0], last[2].mean(0), atol=1e-5)
    assert not some[2][1].any(), "a row of which nothing counts"


def test_random_weights_are_those_of_their_seed_and_leave_the_generator_alone(writer: Any) -> None:
    folder: Path = writer("gpt2")
    before = torch.get_rng_state()
    one, same, other = (means(open_layers(folder, random=seed), ROWS) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(one[2], same[2]) and not np.allclose(one[2], other[2])
    assert not np.allclose(one[2], means(open_layers(folder), ROWS)[2])


def test_an_encoder_that_does_not_tell_its_layers_has_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Rows = {"input": Ragged.from_rows([np.ones((5, 2)), np.full((1, 2), 3)], np.float32)}
    (layer,) = means(LastLayer(Frames()), rows)
    assert layer.tolist() == [[1, 1], [3, 3]] and ragged(rows, "input").lengths.tolist() == [5, 1]
    monkeypatch.setattr("training.inference.layers.open_encoder", lambda folder, device: Frames())
    assert isinstance(open_layers(Path("made-up")), LastLayer)
    with pytest.raises(UserError, match="leave scratch out of models"):
        open_layers(Path("made-up"), random=0)
