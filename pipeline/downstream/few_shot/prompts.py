"""Prompts with shots: which training rows stand before a row, and in which order, follows from keys alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.rng import key
from data_prep.shards.order import permute
from pipeline.downstream.few_shot.task_file import Question, Task


def shots_of(pool: Sequence[Question], number: int, name: str, seed: int, own: Question) -> list[Question]:
    """`number` training rows for a name, none of them the row itself; larger draws begin with smaller ones."""
    secret, count = key(seed, f"few-shot {name}"), number + 1
    while True:  # until enough of them are other rows
        places = permute(np.arange(min(count, len(pool))), len(pool), secret)
        shots = [pool[place] for place in places.tolist() if pool[place].prompt != own.prompt]
        if len(shots) >= number or len(places) == len(pool):
            return shots[:number]
        count *= 2


def in_order(shots: Sequence[Question], order: int, name: str, seed: int) -> list[Question]:
    """The shots in order number `order`; 0 is the one they were drawn in."""
    if not order or len(shots) < 2:
        return list(shots)
    places = permute(np.arange(len(shots)), len(shots), key(seed, f"few-shot order {order} {name}"))
    return [shots[place] for place in places.tolist()]


def context(task: Task, shots: Sequence[Question], prompt: str) -> str:
    """Description, shots with their answers, and the prompt."""
    examples = [f"{shot.prompt}{task.delimiter}{shot.answers[0]}{task.between}" for shot in shots]
    return f"{task.description}{''.join(examples)}{prompt}"
