"""Small encoders of frames with random weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from data_prep.facts import DataFacts
from data_prep.sound.frames import FramesConfig, Scale, frames
from tests.data_prep.sound.recordings import RATE, tone
from training import objectives
from training.config import NetworkConfig, ObjectiveConfig

FRAMES = FramesConfig(bands=8, length=24)
NETWORK = {
    "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def network_of(folder: Path, config: FramesConfig = FRAMES) -> Path:
    """A BERT of frames in a folder, as its pretraining exports it."""
    heard = [frames(tone(0.3, frequency), RATE, config) for frequency in (200, 500, 1500)]
    shape = {"model": NetworkConfig(architecture="bert", config=NETWORK)}
    with tempfile.TemporaryDirectory() as fitted, torch.random.fork_rng(devices=[]):
        Scale.fit(heard, RATE, config).save(Path(fitted))
        facts = DataFacts("sound", ("input",), (config.bands,), config.length, preprocessor=Path(fitted))
        torch.manual_seed(0)
        objective: Any = objectives.build(ObjectiveConfig(name="masked-frames"), shape, facts, "cpu")
        objective.export(folder, [])
    return folder
