"""Which choice a network takes, by the log-likelihoods of all of them; the names are those of lm-evaluation-harness.

    acc                argmax Σ log p(choice | prompt)
    acc_norm           Σ log p ÷ characters of the choice
    acc_bytes          Σ log p ÷ its bytes in UTF-8
    acc_tokens         Σ log p ÷ its tokens (GPT-3: Brown et al. 2020, section 2.4)
    acc_mutual_info    Σ log p − Σ log p(choice | nothing), the unconditional prior
    acc_calibrated     p(choice | prompt) ÷ mean p(choice | a prompt that says nothing), each normalised over the
                       choices (contextual calibration: Zhao et al. 2021, equation 2, W = diag(p)⁻¹, b = 0)
    exact_match        of what is written instead, white space at the ends aside

Characters and bytes are those of a choice without the space before it. The first of equal choices is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ACC, NORM, BYTES, TOKENS, PRIOR, CALIBRATED = RULES = (
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_tokens",
    "acc_mutual_info",
    "acc_calibrated",
)
WRITTEN = "exact_match"


def chosen(
    choices: Sequence[str],
    log_likelihoods: Sequence[float],
    tokens: Sequence[int],
    unconditional: Sequence[float],
    content_free: Sequence[Sequence[float]] = (),
) -> dict[str, int]:
    """The choice taken by each rule. content_free: log-likelihoods of the choices after each empty prompt."""
    values = np.asarray(log_likelihoods, np.float64)
    scores = {
        ACC: values,
        NORM: values / [max(len(choice), 1) for choice in choices],
        BYTES: values / [max(len(choice.encode("utf-8", "surrogatepass")), 1) for choice in choices],
        TOKENS: values / np.asarray(tokens),
        PRIOR: values - np.asarray(unconditional),
    }
    if len(content_free):
        empty = np.mean([_normalised(row) for row in content_free], 0)
        scores[CALIBRATED] = np.log(_normalised(values)) - np.log(np.maximum(empty, np.finfo(np.float64).tiny))
    return {rule: int(np.argmax(of_rule)) for rule, of_rule in scores.items()}


def _normalised(log_likelihoods: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities of the choices, given that it is one of them."""
    values = np.asarray(log_likelihoods, np.float64)
    p = np.exp(values - values.max())
    return np.maximum(p / p.sum(), np.finfo(np.float64).tiny)


def exact_match(written: str, answers: Sequence[str]) -> bool:
    """Whether a written answer is one of those that count, white space at the ends aside."""
    return written.strip() in {answer.strip() for answer in answers}
