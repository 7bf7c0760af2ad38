"""How the next token is chosen, and when a text ends. Read without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.opening.files import HALF

STEEPEST = 5.0  # length penalty, at which the scores of any length are finite in fp32


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding. Without temperature, top_k, top_p and beams it is greedy: the likeliest token each time.

    temperature: logits are divided by it. top_k: the token is drawn from the k likeliest (Fan et al. 2018). top_p:
    from the fewest likeliest tokens that have this probability together (Holtzman et al. 2020). All given: in that
    order, as in `transformers`. beams: texts that beam search keeps; their log-probability is divided by
    length^length_penalty (1: mean per token; 0: the likeliest text; below: shorter ones are preferred).
    """

    max_new_tokens: int = 128
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beams: int = 1
    length_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """Texts at the first of which what is written ends, without it."""
    seed: int = 0

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return not (self.temperature is None and self.top_k is None and self.top_p is None)


def problems(decoding: Decoding) -> Iterator[tuple[str, str]]:
    """What cannot be meant, as (name of the setting, text)."""
    if decoding.max_new_tokens < 1:
        yield "max_new_tokens", f"{decoding.max_new_tokens} tokens are no text; give 1 or more"
    if decoding.temperature is not None and not 0 < decoding.temperature < float("inf"):
        yield "temperature", f"{decoding.temperature:g} is no temperature above 0; leave it out for the likeliest token"
    if decoding.top_k is not None and decoding.top_k < 1:
        yield "top_k", f"nothing can be drawn from {decoding.top_k} tokens; give 1 or more, or leave it out"
    if decoding.top_p is not None and not 0 < decoding.top_p <= 1:
        yield "top_p", f"{decoding.top_p:g} is no probability above 0 and at most 1"
    if decoding.beams < 1:
        yield "beams", f"{decoding.beams} is no number of beams; give 1 or more"
    if decoding.beams > 1 and decoding.samples:
        yield (
            "beams",
            "beam search takes the likeliest texts, and nothing is drawn; give either beams or temperature, "
            "top_k and top_p",
        )
    if decoding.beams > 1 and decoding.stop:
        yield "stop", "beam search ends at [EOS] alone; leave out stop, or beams"
    if decoding.beams == 1 and decoding.length_penalty != 1:
        yield "length_penalty", f"{decoding.length_penalty:g} belongs to beams; give 2 or more, or leave it out"
    elif not abs(decoding.length_penalty) <= STEEPEST:
        yield "length_penalty", f"{decoding.length_penalty:g} does not lie between {-STEEPEST:g} and {STEEPEST:g}"
    for stop in decoding.stop:
        if not stop:
            yield "stop", "an empty text stands at the beginning of every text; leave it out"
        elif HALF.search(stop):
            yield "stop", f"{stop!a} holds half of a surrogate pair or a byte that is not UTF-8, which no text has"
    if not 0 <= decoding.seed < 1 << 63:
        yield "seed", f"{decoding.seed} does not lie between 0 and {(1 << 63) - 1}"
    elif decoding.seed and not decoding.samples:
        yield "seed", "nothing is drawn without temperature, top_k or top_p; give one of them, or leave it out"
