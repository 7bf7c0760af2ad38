"""How unusual rows are to a trained auto-encoder: higher is more unusual.

    error               Σ_d e_d²,  e = x − x̂
    standardised-error  Σ_d e_d² / s_d,  s_d the mean of e_d² over the training rows: values that are rebuilt well count
                        for more
    latent-distance     (z − m)ᵀ C⁻¹ (z − m), the squared Mahalanobis distance of the code to the training rows' codes
    error-and-distance  the sum of these two: twice the negative logarithm of the density that probabilistic PCA gives
                        (Tipping & Bishop 1999), read off a network that need not be linear
    likelihood          of a variational auto-encoder: minus its importance-weighted bound on log p(x), in nats

A denoising auto-encoder's e is, for small Gaussian noise, −σ² ∇ log p(x) (Alain & Bengio 2014): it is long where the
density of training rows falls steeply. Several members, trained alike but for their seeds, are averaged.

A score is a function of its row alone: nothing of other rows in the batch enters, noise is keyed by the row's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from data_prep.errors import UserError
from training.autoencoders import Autoencoder
from training.variational import VariationalAutoencoder

ERROR, STANDARDISED, DISTANCE = "error", "standardised-error", "latent-distance"
BOTH, LIKELIHOOD = "error-and-distance", "likelihood"
BATCH = 4096
FILE = "anomaly.safetensors"  # beside a model: what else its scores need
LEAST_ERROR = 1e-2  # of the mean over the values: a value never rebuilt wrongly must not outweigh all others
PASSES = 3  # after which what a column should hold hardly changes
RIDGE = 1e-6  # of the mean variance of codes, added to each: some never vary


@dataclass(frozen=True)
class Reference:
    """What is normal to one network."""

    spread: np.ndarray  # [D] mean squared error of each value over the training rows
    centre: np.ndarray  # [K] mean code of the training rows
    precision: np.ndarray  # [K, K] inverse of these codes' covariance

    def save(self, folder: Path) -> None:
        """Beside the network's own files."""
        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, folder / FILE)

    @staticmethod
    def load(folder: Path) -> Reference:
        """UserError where the folder does not hold what `save` wrote."""
        try:
            return Reference(**load_file(folder / FILE))
        except (OSError, TypeError, SafetensorError) as error:
            raise UserError(f"{folder / FILE}: not what scores are measured against ({error}); train again.") from error


class Scorer:
    """Scores by networks of one kind, each with its own reference."""

    def __init__(self, members: Sequence[tuple[Autoencoder, Reference]]) -> None:
        self.members = [(model.eval(), reference) for model, reference in members]

    @staticmethod
    def fit(models: Sequence[Autoencoder], train: np.ndarray) -> Scorer:
        """What is normal to each model: errors and codes of the rows that it learned from, float32 [R ≥ 2, *shape].

        Rows held out take no part, so that thresholds can be drawn by their scores.
        """
        return Scorer([(model, _reference(model.eval(), train)) for model in models])

    @property
    def names(self) -> list[str]:
        """Of the scores."""
        likelihood = [LIKELIHOOD] * isinstance(self.members[0][0], VariationalAutoencoder)
        return [ERROR, STANDARDISED, DISTANCE, BOTH, *likelihood]

    def scores(self, rows: np.ndarray, importance_samples: int = 50) -> dict[str, np.ndarray]:
        """Every score of rows float32 [R, *shape]: float64 [R] by name."""
        found = [_scores(model, reference, rows, importance_samples) for model, reference in self.members]
        return {name: np.mean([one[name] for one in found], 0) for name in self.names}

    def by_feature(self, rows: np.ndarray) -> np.ndarray:
        """float64 [R, D]: the terms of the standardised error, which say what makes a row unusual."""
        return np.mean([_errors(model, rows)[0] / _floored(of.spread) for model, of in self.members], 0)

    def reasons(self, rows: np.ndarray, columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Which columns make rows float32 [R, D] unusual; `columns` are the places of each one's features.

        Float64 [R, C]: the share of a row's standardised error that goes when this column alone holds what the networks
        make of the row (for a linear one the contribution of Alcala & Qin 2009, which names a single fault rightly
        where `by_feature` smears it over the columns that a wrong code comes out as). Float32 [R, D]: what each would
        hold then.
        """
        error = self.by_feature(rows).sum(1)
        shares, instead = np.empty((len(rows), len(columns))), rows.copy()
        for number, places in enumerate(columns):
            mended = rows.copy()
            for _ in range(PASSES):
                mended[:, places] = self.rebuilt(mended)[:, places]
            left = self.by_feature(mended).sum(1)
            shares[:, number] = np.clip(1 - left / np.maximum(error, np.finfo(np.float64).tiny), 0, 1)
            instead[:, places] = mended[:, places]
        return shares, instead

    def rebuilt(self, rows: np.ndarray) -> np.ndarray:
        """float32 [R, *shape]: what normal rows like these look like, to the members on average."""
        with torch.no_grad():
            made = [torch.cat([model(x) for x in _batches(model, rows)]).cpu() for model, _ in self.members]
        return torch.stack(made).float().mean(0).numpy()


def _reference(model: Autoencoder, train: np.ndarray) -> Reference:
    errors, codes = _errors(model, train)
    covariance = np.atleast_2d(np.cov(codes, rowvar=False))
    ridge = RIDGE * max(np.trace(covariance) / len(covariance), np.finfo(np.float32).tiny)
    return Reference(errors.mean(0), codes.mean(0), np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def _scores(model: Autoencoder, of: Reference, rows: np.ndarray, importance_samples: int) -> dict[str, np.ndarray]:
    squared, codes = _errors(model, rows)
    away = codes - of.centre
    found = {
        ERROR: squared.sum(1),
        STANDARDISED: (squared / _floored(of.spread)).sum(1),
        DISTANCE: np.einsum("rk,kl,rl->r", away, of.precision, away, optimize=True),
    }
    found[BOTH] = found[STANDARDISED] + found[DISTANCE]
    if isinstance(model, VariationalAutoencoder):
        with torch.no_grad():
            bound = [model.importance_bound(x, importance_samples).cpu() for x in _batches(model, rows)]
        found[LIKELIHOOD] = -torch.cat(bound).double().numpy()
    return found


def _errors(model: Autoencoder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors [R, D] and codes [R, K], float64."""
    errors, codes = [], []
    with torch.no_grad():
        for x in _batches(model, rows):
            code = model.encode(x)
            errors.append((model.decode(code).double() - x.double()).flatten(1).square().cpu())
            codes.append(code.flatten(1).double().cpu())
    return torch.cat(errors).numpy(), torch.cat(codes).numpy()


def _floored(spread: np.ndarray) -> np.ndarray:
    return np.maximum(spread, LEAST_ERROR * max(float(spread.mean()), np.finfo(np.float32).tiny))


def _batches(model: Autoencoder, rows: np.ndarray) -> Iterator[Tensor]:
    device = next(model.parameters()).device
    for start in range(0, len(rows), BATCH):
        yield torch.from_numpy(np.ascontiguousarray(rows[start : start + BATCH])).to(device)
