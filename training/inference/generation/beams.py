"""Beam search: of all texts of one length, those with the largest log-probability are continued.

A text that ends with [EOS] among the best is finished, with the score Σ log p / length^penalty. A prompt is done when
the best text that is not finished could not overtake the worst of as many finished ones as there are beams, if it ended
now. That is the search of `transformers` (`early_stopping=False`), token by token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.inference.generation.decoding import Decoding
from training.inference.generation.steps import Steps

NEVER = -torch.inf  # a score that none has


class _Beams:
    """Running and finished texts of P prompts, K each; tokens are [P, K, T]."""

    def __init__(self, prompts: int, beams: int, penalty: float, device: torch.device) -> None:
        self.beams, self.penalty = beams, penalty
        self.running = torch.zeros(prompts, beams, 0, dtype=torch.long, device=device)
        self.scores = torch.zeros(prompts, beams, device=device)
        self.scores[:, 1:] = NEVER  # all are the same text at first
        self.finished = torch.zeros(prompts, beams, 0, dtype=torch.long, device=device)
        self.finished_scores = torch.full((prompts, beams), NEVER, device=device)
        self.is_finished = torch.zeros(prompts, beams, dtype=torch.bool, device=device)
        self.can_improve = torch.ones(prompts, dtype=torch.bool, device=device)

    def advance(self, log_p: Tensor, eos: int | None, is_last: bool) -> Tensor:
        """Add a token to each running text by log p [P·K, V]; returns which text [P, K] each of them continues."""
        vocabulary, length = log_p.shape[-1], self.running.shape[-1] + 1
        total = log_p.view(*self.scores.shape, vocabulary) + self.scores[..., None]
        scores, places = total.flatten(1).topk(2 * self.beams)
        parents, tokens = places // vocabulary, places % vocabulary
        texts = torch.cat([_of(self.running, parents), tokens[..., None]], -1)
        ends = torch.full_like(tokens, is_last, dtype=torch.bool)
        if eos is not None:
            ends |= tokens == eos
        self._finish(texts, scores / length**self.penalty, ends)
        scores = scores.masked_fill(ends, NEVER)  # a text that has ended is not continued
        self.scores, best = scores.topk(self.beams)
        self.running = _of(texts, best)
        worst = torch.where(self.is_finished, self.finished_scores.amin(1, keepdim=True), NEVER)
        self.can_improve &= (self.scores[:, :1] / length**self.penalty > worst).any(1)
        return parents.gather(1, best)

    def _finish(self, texts: Tensor, scores: Tensor, ends: Tensor) -> None:
        """Add those of 2·K candidates that end, if they are among the K best, to the finished texts."""
        ends = ends.clone()
        ends[:, self.beams :] = False
        scores = scores.masked_fill(~(ends & self.can_improve[:, None]), NEVER)
        shorter = torch.nn.functional.pad(self.finished, (0, texts.shape[-1] - self.finished.shape[-1]), value=-1)
        merged = torch.cat([self.finished_scores, scores], 1)
        self.finished_scores, best = merged.topk(self.beams)
        self.finished = _of(torch.cat([shorter, texts], 1), best)
        self.is_finished = torch.cat([self.is_finished, ends], 1).gather(1, best)


def _of(texts: Tensor, index: Tensor) -> Tensor:
    """Texts `index` [P, N] of [P, K, T]."""
    return texts.gather(1, index[..., None].expand(-1, -1, texts.shape[-1]))


def search(steps: Steps, decoding: Decoding, eos: int | None, most: int) -> list[list[int]]:
    """The best text of each prompt, [EOS] included if it has one; of at most `most` tokens."""
    prompts, device = len(steps.logits), steps.logits.device
    steps.keep(torch.arange(prompts, device=device).repeat_interleave(decoding.beams))
    state = _Beams(prompts, decoding.beams, decoding.length_penalty, device)
    for place in range(most):
        parents = state.advance(steps.logits.log_softmax(-1), eos, is_last=place + 1 == most)
        if place + 1 == most or not state.can_improve.any():
            break
        rows = torch.arange(prompts, device=device)[:, None] * decoding.beams + parents
        steps.keep(rows.flatten(), same_given=True)
        steps.step(state.running[..., -1].flatten())
    return [[token for token in text if token >= 0] for text in state.finished[:, 0].tolist()]
