"""A task small enough to train in a second: a language in which a word nearly always follows its predecessor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.corruptions.masking import MaskingConfig, corrupt
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.shards.streams import CORRUPT
from training.config import (
    NetworkConfig,
    ObjectiveConfig,
    OrderConfig,
    PlacementConfig,
    TrainConfig,
)
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.loop import Training
from training.objectives import build

SPECIALS = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=48)
NETWORK = NetworkConfig(
    architecture="bert",
    config={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
    },
)
FACTS = DataFacts("text", ("input", "segment", "label"), specials=SPECIALS)
SEED = 7


def table(rows: int = 400, sentence: str = "sop", seed: int = 0) -> MemoryTable:
    """Rows of [CLS] A [SEP] B [SEP] of uneven lengths; the label says whether B precedes A."""
    random = np.random.default_rng(seed)
    tokens, segments, labels = [], [], []
    for _ in range(rows):
        words = [5 + int(random.integers(43))]
        while len(words) < 16 + int(random.integers(6)):
            words.append(5 + (words[-1] - 4 + int(random.random() < 0.1)) % 43)
        cut = len(words) // 2
        first, second = words[:cut], words[cut:]
        label = int(random.random() < 0.5)
        if label:
            first, second = second, first
        tokens.append([2, *first, 3, *second, 3])
        segments.append([0] * (len(first) + 2) + [1] * (len(second) + 1))
        labels.append(label)
    columns: Rows = {
        "input": Ragged.from_rows(tokens, np.uint16),
        "segment": Ragged.from_rows(segments, np.uint8),
    }
    if sentence != "none":
        columns["label"] = np.array(labels, np.uint8)
    return MemoryTable(columns, rows)


def masked(rows: Rows, draws: Draws) -> Rows:
    return corrupt(rows, MaskingConfig(kind="masked-lm"), SPECIALS, draws)


def objective(sentence: str = "none", network: NetworkConfig = NETWORK) -> Any:
    """Masked language modelling of the tiny language."""
    return build(ObjectiveConfig(name="masked-lm", options={"sentence": sentence}), {"model": network}, FACTS, "cpu")


def training(
    worker: Worker | None = None,
    *,
    sentence: str = "sop",
    dropout: float = 0.1,
    placement: PlacementConfig | None = None,
    checkpoints: Path | None = None,
    log: Any = None,
    identity: dict[str, Any] | None = None,
    section: ObjectiveConfig | None = None,
    network: NetworkConfig | None = None,
    corrupt: Callable[[Rows, Draws], Rows] | None = None,
    **train: Any,
) -> Training:
    """A training of the tiny language, ready to run. section, network, corrupt: of another objective than masked LM."""
    worker = worker or Worker()
    settings = {"global_batch": 24, "steps": 12, "lr": 3e-3, "warmup_steps": 2, "log_every": 1}
    config = TrainConfig(**{"precision": "fp32", **settings, **train})
    network = network or NetworkConfig(
        architecture="bert",
        config={
            **NETWORK.config,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        },
    )
    torch.manual_seed(SEED)
    order = OrderConfig(block=8, window=4)
    return Training(
        objective=build(section, {"model": network}, FACTS, "cpu") if section else objective(sentence, network),
        stream=Stream([Corpus("tiny", table(sentence=sentence))], SEED, order, corrupt or masked),
        config=config,
        placement=placement or PlacementConfig(),
        worker=worker,
        seed=SEED,
        held_out=Stream([Corpus("held-out", table(70, sentence, seed=1))], SEED, order, corrupt or masked, "held-out"),
        held_out_rows=70,
        checkpoints=checkpoints,
        identity=identity or {"recipe": "tiny"},
        log=log or (lambda record: None),
    )


def losses(**options: Any) -> list[float]:
    """The training losses of one run, step by step."""
    records: list[dict[str, Any]] = []
    training(log=records.append, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record]


# The loss curve of `training(dropout=0.0)` in plain PyTorch. A change that should not alter numbers does not alter it.
GOLDEN = [
    4.577284, 4.574319, 4.577592, 4.579638, 4.554483, 4.572209,
    4.531976, 4.553966, 4.540837, 4.521194, 4.502018, 4.538122,
]  # fmt: skip


def learning(
    objective: Callable[[], Any],
    tables: tuple[MemoryTable, MemoryTable],
    settings: dict[str, Any],
    corruption: Callable[[Rows, Draws], Rows] | None = None,
    worker: Worker | None = None,
    log: Any = None,
    checkpoints: Path | None = None,
    placement: PlacementConfig | None = None,
    **options: Any,
) -> Training:
    """An objective in the loop. tables: to learn from, and held out. settings, options: of `TrainConfig`."""
    order = OrderConfig(block=8, window=4)
    streams = [
        Stream([Corpus(name, table)], SEED, order, corruption, purpose)
        for name, table, purpose in zip(("tiny", "held-out"), tables, (CORRUPT, "held-out"), strict=True)
    ]
    torch.manual_seed(SEED)
    config = TrainConfig(**{"precision": "fp32", "log_every": 1, **settings, **options})
    return Training(
        objective=objective(), stream=streams[0], held_out=streams[1], held_out_rows=tables[1].rows, config=config,
        placement=placement or PlacementConfig(), worker=worker or Worker(), seed=SEED, checkpoints=checkpoints,
        identity={"recipe": "tiny"}, log=log or (lambda record: None),
    )  # fmt: skip


def losses_of(training: Callable[..., Training], worker: Worker | None = None, **options: Any) -> list[float]:
    """The losses of a run, step by step. training: `learning` with what is its own."""
    records: list[dict[str, Any]] = []
    training(worker=worker, log=records.append, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record]
