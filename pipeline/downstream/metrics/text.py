"""How near written texts are to what was to be written: BLEU, chrF and ROUGE, by the libraries that papers use.

    bleu    sacrebleu (Post 2018; Papineni et al. 2002), of the corpus, with its smoothing `exp`; T5 tokenises by `intl`
    chrf    sacrebleu (Popović 2015), of the corpus: character n-grams up to 6, recall counted twice (β = 2)
    rouge   rouge-score (Lin 2004), F1 of each text, averaged: 1, 2, L, and Lsum, which takes lines as sentences;
            without stemming

All are percentages: 100 for a text that is the reference, if it has as many words as are counted together. A text may
have several references; ROUGE takes the nearest. Read without the libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pipeline.downstream.metrics.measured import Measured, Values, check_rows, of_sums, percent

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
Tokenization = Literal["13a", "intl", "zh", "char"]
References = Sequence[Sequence[str]]
"""Of each text, what would be right."""


def bleu(texts: Sequence[str], references: References, tokenize: Tokenization = "13a") -> float:
    """BLEU of a corpus of texts. zh, char: for languages that put no spaces between words."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU(tokenize=tokenize, smooth_method="exp").corpus_score(*_checked(texts, references)).score)


def unigram_precision(tokens: Sequence[Sequence[int]], references: Sequence[Sequence[Sequence[int]]]) -> float:
    """BLEU-1 of a corpus without brevity penalty: the share of tokens that a reference has, each as often as there.

    tokens: ids of each text. references: of each text, the ids of what would be right, one or more.
    """
    from sacrebleu.metrics.bleu import BLEU

    most = max((len(right) for right in references), default=0)
    streams = [
        [" ".join(map(str, right[number])) if number < len(right) else None for right in references]
        for number in range(most)
    ]
    metric = BLEU(tokenize="none", max_ngram_order=1, smooth_method="none", force=True)
    texts = [" ".join(map(str, ids)) for ids in tokens]
    return float(metric.corpus_score(texts, streams).precisions[0]) if any(texts) else 0.0  # type: ignore[arg-type]


def chrf(texts: Sequence[str], references: References) -> float:
    """chrF2 of a corpus of texts, which needs no words and so no tokenizer."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(*_checked(texts, references)).score)


def chrf_of_each(texts: Sequence[str], references: References) -> list[float]:
    """chrF2 of each text by itself."""
    from sacrebleu.metrics.chrf import CHRF

    _checked(texts, references)
    metric = CHRF()
    return [
        float(metric.sentence_score(text, list(right)).score) for text, right in zip(texts, references, strict=True)
    ]


def rouge(texts: Sequence[str], references: References) -> dict[str, float]:
    """F1 by the names in `ROUGE`. Words are runs of a to z and digits, in lower case: other scripts have none."""
    from rouge_score.rouge_scorer import RougeScorer

    _checked(texts, references)
    scorer = RougeScorer(list(ROUGE))
    scores = [scorer.score_multi(list(right), text) for text, right in zip(texts, references, strict=True)]
    return {name: 100 * sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGE}


def measured_bleu(truth: References, predicted: Sequence[str], tokenize: Tokenization = "13a") -> Measured:
    """`bleu`, from the n-gram counts of each text, which add up."""
    from sacrebleu.metrics.bleu import BLEU

    _checked(predicted, truth)
    metric = BLEU(tokenize=tokenize, smooth_method="exp")
    rows = []
    for text, right in zip(predicted, truth, strict=True):
        of_text = metric.corpus_score([text], [[reference] for reference in right])
        rows.append([*of_text.counts, *of_text.totals, of_text.sys_len, of_text.ref_len])
    order = metric.max_ngram_order

    def one(sums: np.ndarray) -> float:
        counts: list[int] = [int(total) for total in sums]
        length, wanted = counts[2 * order :]
        return BLEU.compute_bleu(counts[:order], counts[order : 2 * order], length, wanted, smooth_method="exp").score

    return of_sums(np.array(rows, np.float64), lambda sums: {"bleu": np.apply_along_axis(one, -1, sums)})


def measured_bleu_zh(truth: References, predicted: Sequence[str]) -> Measured:
    """`bleu` of Chinese, whose characters count as words."""
    return measured_bleu(truth, predicted, "zh")


def measured_chrf(truth: References, predicted: Sequence[str]) -> Measured:
    """`chrf`, from the n-gram counts of each text, which add up; of several references the nearest is counted."""
    from sacrebleu.metrics.chrf import CHRF

    texts, references = _checked(predicted, truth)
    metric = CHRF()
    counts = np.array(metric._extract_corpus_statistics(texts, references), np.float64)

    def one(sums: np.ndarray) -> float:
        return float(metric._compute_score_from_stats([int(total) for total in sums]).score)

    return of_sums(counts, lambda sums: {"chrf": np.apply_along_axis(one, -1, sums)})


def measured_exact(truth: References, predicted: Sequence[str | None]) -> Measured:
    """The share of texts that equal a reference, spaces around them aside. None: no text, which is wrong."""
    check_rows(truth, predicted)
    right = np.array(
        [text is not None and text.strip() in {reference.strip() for reference in references}
         for text, references in zip(predicted, truth, strict=True)]
    )  # fmt: skip
    parts = np.stack([right, np.ones(len(right))], axis=-1).astype(np.float64)
    return of_sums(parts, lambda sums: {"exact-match": percent(sums[..., 0], sums[..., 1])}, right)


def measured_rouge(truth: References, predicted: Sequence[str]) -> Measured:
    """`rouge`, of which rougeL comes first."""
    names = ("rougeL", *(name for name in ROUGE if name != "rougeL"))
    each = [rouge([text], [right]) for text, right in zip(predicted, truth, strict=True)]
    parts = np.array([[*(scores[name] for name in names), 1] for scores in each])

    def value(sums: np.ndarray) -> Values:
        return {name: sums[..., place] / sums[..., -1] for place, name in enumerate(names)}

    return of_sums(parts, value)


def _checked(texts: Sequence[str], references: References) -> tuple[list[str], Any]:
    """Texts, and references as sacrebleu takes them: the first of each, the second of each … ValueError without any."""
    if not texts or len(texts) != len(references) or not all(references):
        raise ValueError(f"{len(texts)} texts need a reference each, found {sum(map(bool, references))}")
    most = max(map(len, references))
    return list(texts), [
        [right[place] if place < len(right) else None for right in references] for place in range(most)
    ]
