"""How unusual rows are to a trained auto-encoder: higher is more unusual.

    error               Σ_d e_d²,  e = x − x̂
    standardised-error  Σ_d e_d² / s_d,  s_d the mean of e_d² over the training rows: values that are rebuilt well count
                        for more
    latent-distance     (z − m)ᵀ C⁻¹ (z − m), the squared Mahalanobis distance of the code to the training rows' codes
    error-and-distance  the sum of these two: twice the negative logarithm of the density that probabilistic PCA gives
                        (Tipping & Bishop 1999), read off a network that need not be linear
    likelihood          of a variational auto-encoder: minus its importance-weighted bound on log p(x), in nats

A denoising auto-encoder's e is, for small Gaussian noise, −σ² ∇ log p(x) (Alain & Bengio 2014): it is long where the
density of training rows falls steeply. Several members, trained alike except for their seeds, are averaged.

A score is a function of its row only, to the bit: other rows of the batch have no influence, noise is keyed by the
row's values, and rows are always taken as many at a time (the last ones beside zeros), for sums of other sizes are
rounded otherwise. So a row is flagged in a batch if and only if it is flagged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from data_prep.errors import UserError
from data_prep.opening import tensors
from data_prep.opening.files import UnfitError, inside
from training.models.autoencoders.autoencoder import Autoencoder
from training.models.autoencoders.vae import VariationalAutoencoder

ERROR, STANDARDISED, DISTANCE = "error", "standardised-error", "latent-distance"
BOTH, LIKELIHOOD = "error-and-distance", "likelihood"
BATCH = 128  # rows at once, never more or fewer
FILE = "anomaly.safetensors"  # next to a model: the reference of its scores
LEAST_ERROR = 1e-2  # of the mean over the values: a value never rebuilt wrongly must not outweigh all others
PASSES = 3  # after which what a column should hold hardly changes
FAR = 1.0  # outside
RIDGE = 1e-6  # of the mean variance of codes, added to each: some never vary


@dataclass(frozen=True)
class Reference:
    """Statistics of the training rows under one network, against which scores are measured."""

    spread: np.ndarray  # [D] mean squared error of each value over the training rows
    centre: np.ndarray  # [K] mean code of the training rows
    precision: np.ndarray  # [K, K] inverse of these codes' covariance

    def save(self, folder: Path) -> None:
        """Write FILE into the folder of the network."""
        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, folder / FILE)

    @staticmethod
    def load(folder: Path) -> Reference:
        """Read what `save` wrote. Raises UserError where the folder does not hold it."""
        try:
            return Reference(**tensors.load(inside(folder, FILE), "numpy"))
        except (TypeError, UnfitError) as error:
            raise UserError(f"{folder / FILE}: not what scores are measured against ({error}); train again.") from error


@dataclass(frozen=True)
class Usual:
    """The range of the scores of normal rows, above which rows come that lie far outside of what was learned.

    A network sees what its inputs express: a missing value is filled up, a new category is "other", a column that never
    varied is not there, and numbers beyond the learned range are at its ends. So what lies outside counts
    separately, by how far out each value is, o ≥ 0 (0: within):

        raised score = max(s, low) + Σ o · (high − low), and, if any o ≥ 1, + top − high

    It never falls as a value moves further out, since then s stays and o grows; and with any o ≥ 1 it is above every
    normal row's, also of those that lie a little outside.
    """

    low: float
    high: float
    top: float
    """The highest raised score of normal rows of which no value is far outside."""

    @staticmethod
    def of(*normal: tuple[np.ndarray, np.ndarray]) -> Usual:
        """The range of finite scores [R] of normal rows, whose values lie `outside` [R, columns]."""
        score, outside = (np.concatenate(parts) for parts in zip(*normal, strict=True))
        is_finite = np.isfinite(score)
        if not is_finite.any():
            return Usual(0.0, 1.0, 1.0)
        score, outside = score[is_finite], outside[is_finite]
        low, high = float(score.min()), float(score.max())
        near = ~(outside >= FAR).any(1)
        raised = Usual(low, high, high).raised(score[near], outside[near])
        return Usual(low, high, max(high, float(raised.max(initial=high))))

    def lift(self, score: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """How much the scores [R] are raised of rows that lie `outside` [R, columns]."""
        return self.raised(score, outside) - score

    def raised(self, score: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """The raised scores [R]."""
        how_far, is_far = outside.sum(1), (outside >= FAR).any(1)
        width = max(self.high - self.low, np.finfo(np.float32).tiny)
        least = np.where(how_far > 0, np.maximum(score, self.low), score)
        return least + how_far * width + is_far * (self.top - self.high)


class Scorer:
    """Scores by networks of one kind, each with its own reference."""

    def __init__(self, members: Sequence[tuple[Autoencoder, Reference]]) -> None:
        self.members = [(model.eval(), reference) for model, reference in members]

    @staticmethod
    def fit(models: Sequence[Autoencoder], train: np.ndarray) -> Scorer:
        """Measure each model's errors and codes on the rows that it learned from, `train` float32 [R ≥ 2, *shape].

        Held-out rows are not used, so that thresholds can be chosen by their scores.
        """
        return Scorer([(model, _reference(model.eval(), train)) for model in models])

    @property
    def names(self) -> list[str]:
        """Names of the scores."""
        likelihood = [LIKELIHOOD] * isinstance(self.members[0][0], VariationalAutoencoder)
        return [ERROR, STANDARDISED, DISTANCE, BOTH, *likelihood]

    def scores(self, rows: np.ndarray, importance_samples: int = 50) -> dict[str, np.ndarray]:
        """Every score of rows float32 [R, *shape], averaged over the members: float64 [R] by name."""
        by_member = [_scores(model, reference, rows, importance_samples) for model, reference in self.members]
        return {name: np.mean([member_scores[name] for member_scores in by_member], 0) for name in self.names}

    def by_feature(self, rows: np.ndarray) -> np.ndarray:
        """The terms of the standardised error, which show what makes a row unusual: float64 [R, D]."""
        return np.mean(
            [_applied(model, rows, lambda x, model=model: _errors(model, x))[0].numpy() / _floored(reference.spread)
             for model, reference in self.members], 0,
        )  # fmt: skip

    def reasons(self, rows: np.ndarray, columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Which columns make rows float32 [R, D] unusual; `columns` are the places of each one's features.

        Returns float64 [R, C]: the share of a row's standardised error that vanishes when only this column is replaced
        by its reconstruction (for a linear network the contribution of Alcala & Qin 2009, which identifies a single
        fault where `by_feature` spreads it over the columns that a wrong code affects); and float32 [R, D]: the values
        that would replace each column.
        """
        error = self.by_feature(rows).sum(1)
        shares, instead = np.empty((len(rows), len(columns))), rows.copy()
        for number, places in enumerate(columns):
            mended = rows.copy()
            for _ in range(PASSES):
                mended[:, places] = self.rebuilt(mended)[:, places]
            remaining = self.by_feature(mended).sum(1)
            shares[:, number] = np.clip(1 - remaining / np.maximum(error, np.finfo(np.float64).tiny), 0, 1)
            instead[:, places] = mended[:, places]
        return shares, instead

    def rebuilt(self, rows: np.ndarray) -> np.ndarray:
        """The reconstruction of rows [R, *shape], averaged over the members: float32 [R, *shape]."""
        reconstructions = [_applied(model, rows, lambda x, model=model: [model(x)])[0] for model, _ in self.members]
        return torch.stack(reconstructions).float().mean(0).numpy()


def _reference(model: Autoencoder, train: np.ndarray) -> Reference:
    errors, codes = (tensor.numpy() for tensor in _applied(model, train, lambda x: _errors(model, x)))
    covariance = np.atleast_2d(np.cov(codes, rowvar=False))
    ridge = RIDGE * max(np.trace(covariance) / len(covariance), np.finfo(np.float32).tiny)
    return Reference(errors.mean(0), codes.mean(0), np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def _scores(
    model: Autoencoder, reference: Reference, rows: np.ndarray, importance_samples: int
) -> dict[str, np.ndarray]:
    spread, centre, precision = (
        torch.from_numpy(np.ascontiguousarray(array))
        for array in (_floored(reference.spread), reference.centre, reference.precision)
    )

    def batch_scores(x: Tensor) -> list[Tensor]:
        squared, codes = (tensor.cpu() for tensor in _errors(model, x))
        deviation = codes - centre
        columns = [squared.sum(1), (squared / spread).sum(1), ((deviation @ precision) * deviation).sum(1)]
        if isinstance(model, VariationalAutoencoder):
            columns.append(-model.importance_bound(x, importance_samples).double().cpu())
        return columns

    error, standardised, distance, *bound = (array.numpy() for array in _applied(model, rows, batch_scores))
    scores = {ERROR: error, STANDARDISED: standardised, DISTANCE: distance, BOTH: standardised + distance}
    return {**scores, LIKELIHOOD: bound[0]} if bound else scores


def _errors(model: Autoencoder, x: Tensor) -> list[Tensor]:
    """Squared errors [B, D] and codes [B, K], float64."""
    code = model.encode(x)
    return [(model.decode(code).double() - x.double()).flatten(1).square(), code.flatten(1).double()]


def _floored(spread: np.ndarray) -> np.ndarray:
    return np.maximum(spread, LEAST_ERROR * max(float(spread.mean()), np.finfo(np.float32).tiny))


@torch.no_grad()
def _applied(model: Autoencoder, rows: np.ndarray, function: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """`function` applied to rows [R, *shape], BATCH at a time: tensors [R, …] on the CPU."""
    device = next(model.parameters()).device
    batches = []
    for start in range(0, max(len(rows), 1), BATCH):
        batch_rows = rows[start : start + BATCH]
        batch = np.zeros((BATCH, *rows.shape[1:]), np.float32)
        batch[: len(batch_rows)] = batch_rows
        batches.append([tensor[: len(batch_rows)].cpu() for tensor in function(torch.from_numpy(batch).to(device))])
    return [torch.cat(column) for column in zip(*batches, strict=True)]
