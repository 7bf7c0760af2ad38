"""Deterministic training of WordPiece vocabularies.

Sentences are read once and reduced to counts of words, from which characters are ranked and pieces
are learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

MIN_COUNT = 2  # of a pair of pieces to be merged
_CHUNK = 1 << 20  # characters to normalise at a time


def count_words(sentences: Iterator[str], normalizer: Any) -> Counter[str]:
    """Counts of words, as split by BERT's pre-tokenizer."""
    between_spaces: Counter[str] = Counter()
    for chunk in chunks(sentences):
        between_spaces.update(normalizer.normalize_str(chunk).split())
    words: Counter[str] = Counter()
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    for text, count in between_spaces.items():
        for word, _ in split(text):
            words[word] += count
    return words


def chunks(sentences: Iterator[str]) -> Iterator[str]:
    chunk: list[str] = []
    size = 0
    for sentence in sentences:
        chunk.append(sentence)
        size += len(sentence)
        if size >= _CHUNK:
            yield "\n".join(chunk)
            chunk, size = [], 0
    yield "\n".join(chunk)


def learn(words: Counter[str], size: int, special_tokens: list[str]) -> dict[str, int]:
    """A WordPiece vocabulary: special tokens, frequent characters, pieces, further characters.

    The characters, in both forms (a, ##a), first get at most half of the ids. Their order is fixed
    before training; otherwise their ids, and thereby ties between pieces, would depend on the order
    of a hash table in the trainer.
    """
    forms: Counter[str] = Counter()
    for word, count in words.items():
        forms[word[0]] += count
        for character in word[1:]:
            forms["##" + character] += count
    ranked = [form for form, _ in sorted(forms.items(), key=lambda item: (-item[1], item[0]))]
    vocabulary = [*special_tokens]
    vocabulary += sorted(ranked[: max(1, (size - len(vocabulary)) // 2)])
    known_pieces = set(vocabulary)

    # Words with characters without ids cannot be spelled, so they are not used for training.
    def spelled(word: str) -> bool:
        return word[0] in known_pieces and all("##" + character in known_pieces for character in word[1:])

    usable = sorted(word for word in words if len(word) > 1 and spelled(word))
    if usable:
        trainer = trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=MIN_COUNT,
            special_tokens=vocabulary,
            show_progress=False,
        )
        learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        learner.train_from_iterator(_repeat_words(words, usable), trainer)
        learned = learner.get_vocab(with_added_tokens=False)
        vocabulary = sorted(learned, key=learned.__getitem__)
        known_pieces = set(vocabulary)
    rest = [form for form in ranked if form not in known_pieces]
    vocabulary += rest[: size - len(vocabulary)]
    return {piece: number for number, piece in enumerate(vocabulary)}


def _repeat_words(words: Counter[str], usable: list[str]) -> Iterator[str]:
    """Each word repeated by its count, up to 1000 per line, since the trainer does not accept counts."""
    for word in usable:
        occurrences = repeat(word, words[word])
        while line := " ".join(islice(occurrences, 1000)):
            yield line
