"""Completions of prompts, in batches: prompts of like length together, and texts that have ended make room.

prompts ─► ids ─► batches ─► steps ─► next tokens ─► completions, as they end
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from data_prep.errors import UserError
from data_prep.opening.files import HALF
from training.inference.generation import beams
from training.inference.generation.decoding import Decoding, problems
from training.inference.generation.sampling import next_tokens
from training.inference.generation.steps import Steps, takes_padding
from training.inference.language_model import LanguageModel

BATCH = 16  # texts at once
SPARE = 0.25  # share of a batch that has ended, from which on its place is given to others

Stop = Literal["eos", "stop", "length", "positions"]


class Completion(NamedTuple):
    """What was written after a prompt."""

    prompt: int
    """Its number among the prompts."""
    text: str
    ids: list[int]
    """Without [EOS]."""
    ended: Stop
    """Why it ends there: at [EOS], at a text of `stop`, as long as asked for, or out of the network's positions."""


OnToken = Callable[[int, str], None]
"""Called with a prompt's number and what is written after it so far: what may yet be part of a text of `stop`, or the
bytes of an incomplete character, is left out until more is known. The last text is that of the completion."""


class Generator:
    """Writes text with a language model. UserError for settings that cannot be meant."""

    def __init__(self, model: LanguageModel, decoding: Decoding, batch: int = BATCH) -> None:
        for name, text in problems(decoding):
            raise UserError(f"{name.replace('_', '-')}: {text}.")
        if batch < 1:
            raise UserError(f"batch: {batch} is no number of texts; give 1 or more.")
        self.model, self.decoding, self.batch = model, decoding, batch

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """The ids of prompts. UserError for those of which nothing is left, or that have no room."""
        rows = []
        for number, prompt in enumerate(prompts, 1):
            if half := HALF.search(prompt):
                raise UserError(
                    f"prompt {number} holds {half[0]!a}, half of a surrogate pair or a byte that is not UTF-8; "
                    "write whole characters in UTF-8."
                )
            ids = self.model.prompt_ids(prompt)
            if not prompt.strip() or not ids:
                raise UserError(
                    f"prompt {number} is empty; write how the text begins, or spell the token that begins texts."
                )
            if self.model.length is not None and len(ids) > self.model.length:
                raise UserError(
                    f"prompt {number} has {len(ids):,} tokens, and the network has {self.model.length:,} "
                    "positions; shorten it."
                )
            rows.append(ids)
        return rows

    def complete(self, prompts: Sequence[str], on_token: OnToken | None = None) -> Iterator[Completion]:
        """Completions of prompts as they end, not in order. Prompt i's is a function of the seed, i and itself."""
        yield from self.write(self.prompt_ids(prompts), on_token)

    def write(self, rows: Sequence[Sequence[int]], on_token: OnToken | None = None) -> Iterator[Completion]:
        """The same for prompts as ids."""
        order = sorted(range(len(rows)), key=lambda number: (len(rows[number]), number))
        waiting = deque(_Text(number, list(rows[number]), self._room(rows[number])) for number in order)
        if self.decoding.beams > 1:
            yield from self._search(waiting)
        else:
            yield from self._write(waiting, on_token)

    @torch.inference_mode()
    def _search(self, waiting: deque[_Text]) -> Iterator[Completion]:
        """The best text of each prompt, by beam search."""
        while waiting:
            texts = self._next(waiting, self.batch)
            steps = Steps(self.model, [text.given for text in texts], texts[0].room)
            for text, ids in zip(texts, beams.search(steps, self.decoding, self.model.eos, texts[0].room), strict=True):
                text.ids = ids
                yield self._completion(text, self._ended(text) or "length")

    @torch.inference_mode()
    def _write(self, waiting: deque[_Text], on_token: OnToken | None) -> Iterator[Completion]:
        """Greedy or sampled: one text for each prompt, token by token. Where a text has ended, the next one begins."""
        running: list[_Text | None] = []  # None: ended, its row is computed to no purpose
        steps: Steps | None = None
        while running or waiting:
            alive = [row for row, text in enumerate(running) if text is not None]
            if steps is not None and len(alive) <= (1 - SPARE) * len(running):
                steps.keep(torch.tensor(alive, device=steps.device, dtype=torch.long))
                running = [running[row] for row in alive]
            free = self.batch - len(running)
            if steps is not None and not running:
                steps = None
            if waiting and (steps is None or (steps.can_join and free >= SPARE * self.batch)):
                texts = self._next(waiting, free)
                begun = Steps(self.model, [text.given for text in texts], max(text.room for text in texts))
                left = max(text.room - len(text.ids) for text in (*running, *texts) if text is not None)
                steps = begun if steps is None else steps.joined(begun, left)
                running += texts
            if steps is None:
                return
            numbers = np.array([-1 if text is None else text.number for text in running])
            places = np.array([0 if text is None else len(text.ids) for text in running])
            tokens = next_tokens(steps.logits, self.decoding, np.maximum(numbers, 0), places)
            yield from self._add(running, tokens.tolist(), on_token)
            if any(text is not None for text in running):
                steps.step(tokens)

    def _add(self, running: list[_Text | None], tokens: list[int], on_token: OnToken | None) -> Iterator[Completion]:
        """Add a token to each running text; those that end are completions, and None from now on."""
        for row, token in enumerate(tokens):
            text = running[row]
            if text is None:
                continue
            text.ids.append(token)
            ended = self._ended(text)
            completion = self._completion(text, ended) if ended else None
            if on_token is not None:
                on_token(text.number, completion.text if completion else self._certain(text))
            if completion:
                running[row] = None
                yield completion

    def _next(self, waiting: deque[_Text], most: int) -> list[_Text]:
        """The next prompts that can be in one batch, at most so many, taken from those that wait."""
        texts = [waiting.popleft()]
        while waiting and len(texts) < most and not self._are_apart(texts[0], waiting[0]):
            texts.append(waiting.popleft())
        return texts

    def _are_apart(self, text: _Text, other: _Text) -> bool:
        """Whether two prompts cannot be in one batch."""
        if self.decoding.beams > 1 and text.room != other.room:
            return True
        return len(text.given) != len(other.given) and not takes_padding(self.model)

    def _room(self, row: Sequence[int]) -> int:
        """Tokens that may be written after a prompt."""
        if self.model.length is None:
            return self.decoding.max_new_tokens
        used = 1 if self.model.architecture.encoder_decoder else len(row)
        return min(self.decoding.max_new_tokens, self.model.length - used + 1)

    def _ended(self, text: _Text) -> Stop | None:
        if text.ids[-1] == self.model.eos:
            return "eos"
        if self.decoding.stop and any(
            stop in self.model.text_after(text.given, text.ids) for stop in self.decoding.stop
        ):
            return "stop"
        if len(text.ids) == text.room:
            return "length" if text.room == self.decoding.max_new_tokens else "positions"
        return None

    def _certain(self, text: _Text) -> str:
        """What is written so far, without what more tokens may make a text of `stop`, or another character."""
        written = self.model.text_after(text.given, text.ids).rstrip("\ufffd")
        held = max((_begun(written, stop) for stop in self.decoding.stop), default=0)
        return written[: len(written) - held]

    def _completion(self, text: _Text, ended: Stop) -> Completion:
        ids = text.ids[:-1] if ended == "eos" else text.ids
        written = self.model.text_after(text.given, ids)
        cuts = [written.find(stop) for stop in self.decoding.stop if stop in written]
        return Completion(text.number, written[: min(cuts, default=len(written))], ids, ended)


def _begun(text: str, stop: str) -> int:
    """The most characters at the end of a text with which another one begins."""
    return next((size for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size])), 0)


@dataclass
class _Text:
    """A text that is being written."""

    number: int
    given: list[int]
    room: int
    ids: list[int] = field(default_factory=list)
