"""Metrics of labels: accuracy, F1, Matthews correlation.

truth, predicted: one label per row; for accuracy and macro-F1 also a sequence of labels per row, whose words are
counted, but for those whose true label is None: it is not known. Otherwise a prediction of None is not a label: it is
always wrong, and with two labels it counts as the wrong one. labels: all
labels in the task's order; by default those that occur. With constant predictions Matthews is 0, and so is the F1 of a
label that is never predicted, as in scikit-learn, against which all of these are tested.
"""

from __future__ import annotations

import numpy as np

from data_prep.errors import UserError
from pipeline.downstream.metrics.measured import Column, Measured, Values, check_rows, f1_of, of_sums, percent


def accuracy(truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """The share of correct rows, or of correct words over all rows."""
    check_rows(truth, predicted)
    in_words = _in_words(truth)
    if in_words:
        _check_words(truth, predicted)
        num_right = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in zip(truth, predicted, strict=True)]
        num_known = [len(row) - row.count(None) for row in truth]
        parts = np.stack([np.array(num_right), np.array(num_known)], axis=-1)
    else:
        right, _, _ = _counted(truth, predicted, labels)
        parts = np.stack([right, np.ones(len(right))], axis=-1)
    return of_sums(
        parts.astype(np.float64),
        lambda sums: {"accuracy": percent(sums[..., 0], sums[..., 1])},
        None if in_words else parts[:, 0] > 0,
    )


def f1(truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """F1 of the positive label, which is the second of two."""
    right, is_true, is_predicted = _counted(truth, predicted, labels)
    if is_true.shape[1] != 2:
        raise UserError(f"f1 needs two labels, found {is_true.shape[1]}; use macro-f1 for more.")
    positive = np.stack([right * is_true[:, 1], is_predicted[:, 1], is_true[:, 1]], axis=-1)
    return of_sums(positive, lambda sums: {"f1": f1_of(sums[..., 0], sums[..., 1], sums[..., 2])})


def macro_f1(truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """The unweighted mean of the F1 of all labels that occur in truth or predictions."""
    check_rows(truth, predicted)
    parts = _parts_of_words(truth, predicted) if _in_words(truth) else _parts(*_counted(truth, predicted, labels))

    def value(sums: np.ndarray) -> Values:
        hits, predictions, truths = np.split(sums, 3, axis=-1)
        occurs = predictions + truths > 0
        return {"macro-f1": f1_of(hits, predictions, truths).sum(-1) / np.maximum(occurs.sum(-1), 1)}

    return of_sums(parts, value)


def matthews(truth: Column, predicted: Column, labels: Column | None = None) -> Measured:
    """Matthews correlation coefficient, for any number of labels (Gorodkin 2004)."""
    right, is_true, is_predicted = _counted(truth, predicted, labels)
    num_labels = is_true.shape[1]

    def value(sums: np.ndarray) -> Values:
        hits, truths, predictions = sums[..., 0], sums[..., 1 : 1 + num_labels], sums[..., 1 + num_labels :]
        rows = truths.sum(-1)
        covariance = hits * rows - (truths * predictions[..., :num_labels]).sum(-1)
        spread = (rows**2 - (truths**2).sum(-1)) * (rows**2 - (predictions**2).sum(-1))
        return {"matthews": percent(covariance, np.sqrt(np.maximum(spread, 0)))}

    return of_sums(np.concatenate([right[:, None], is_true, is_predicted], axis=-1), value)


def _parts(right: np.ndarray, is_true: np.ndarray, is_predicted: np.ndarray) -> np.ndarray:
    """[N, 3 · labels]: of each label whether a row has it and is right, is predicted to have it, has it."""
    num_labels = is_true.shape[1]
    return np.concatenate([right[:, None] * is_true, is_predicted[:, :num_labels], is_true], axis=-1)


def _parts_of_words(truth: Column, predicted: Column) -> np.ndarray:
    """[rows, 3 · labels]: the sums of `_parts` over each row's words."""
    _check_words(truth, predicted)
    known = [
        [(true, tag) for true, tag in zip(*pair, strict=True) if true is not None]
        for pair in zip(truth, predicted, strict=True)
    ]
    labels = sorted({tag for pairs in known for pair in pairs for tag in pair})
    number = {label: place for place, label in enumerate(labels)}
    parts = np.zeros((len(known), 3, len(number)))
    for row, pairs in enumerate(known):
        true, said = np.array([[number[tag] for tag in pair] for pair in pairs], np.int64).reshape(-1, 2).T
        for part, counted in enumerate((true[true == said], said, true)):
            parts[row, part] = np.bincount(counted, minlength=len(number))
    return parts.reshape(len(known), -1)


def _in_words(truth: Column) -> bool:
    return isinstance(truth[0], list | tuple)


def _check_words(truth: Column, predicted: Column) -> None:
    """ValueError unless each row has a prediction for each word."""
    for row, (words, tags) in enumerate(zip(truth, predicted, strict=True)):
        if len(words) != len(tags):
            raise ValueError(f"row {row} has {len(words)} words and {len(tags)} predicted tags; expected one each")


def _counted(truth: Column, predicted: Column, labels: Column | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each row is right [N], and one-hot truth [N, labels] and predictions [N, labels + 1].

    With more than two labels, the last column is for predictions that are not a label.
    """
    check_rows(truth, predicted)
    truth, predicted = (values.tolist() if isinstance(values, np.ndarray) else values for values in (truth, predicted))
    if labels is None:
        known = {*truth, *predicted} - {None}
        labels = sorted(known) if len({type(label) for label in known}) == 1 else sorted(known, key=str)
    number = {label: place for place, label in enumerate(labels)}
    for which, values in (("truth", truth), ("predicted", predicted)):
        for row, label in enumerate(values):
            if label not in number and (label is not None or which == "truth"):
                raise ValueError(f"{which} of row {row} is {label!r}; expected one of {list(labels)}")
    truth_numbers = np.array([number[label] for label in truth])
    no_label = 1 - truth_numbers if len(labels) == 2 else np.full(len(truth_numbers), len(labels))
    predicted_numbers = np.array([number.get(label, -1) for label in predicted])
    predicted_numbers = np.where(predicted_numbers < 0, no_label, predicted_numbers)
    columns = np.eye(len(labels) + 1)
    right = (truth_numbers == predicted_numbers).astype(np.float64)
    return right, columns[truth_numbers][:, :-1], columns[predicted_numbers]
