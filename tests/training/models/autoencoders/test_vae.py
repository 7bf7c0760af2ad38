"""The variational auto-encoder: its terms by other means, its gradients numerically, and what its bounds bound."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from tests.training import tiny_arrays as tiny
from training.config import ObjectiveConfig
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.row_noise import normals
from training.models.autoencoders.vae import LEAST_VARIANCE, VariationalAutoencoder, divergence
from training.objectives import build
from training.objectives.arrays.vae import VaeOptions


def model(shape: tuple[int, ...] = (6,), output: str = "linear", seed: int = 0, **options: object):
    torch.manual_seed(seed)
    config = AutoencoderConfig.model_validate(
        {"architecture": "mlp", "hidden": [7], "bottleneck": 2, "activation": "tanh", "output": output}
    )
    return VariationalAutoencoder(config, shape, VaeOptions.model_validate(options)).eval()


def test_the_divergence_is_that_of_torch_and_of_a_monte_carlo_estimate() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    posterior, prior = Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)
    nats = divergence(mean, log_variance)
    torch.testing.assert_close(nats, kl_divergence(posterior, prior))
    z = posterior.sample((200_000,))
    estimate = posterior.log_prob(z) - prior.log_prob(z)
    error = estimate.std(0) / math.sqrt(len(z))
    assert ((estimate.mean(0) - nats).abs() < 5 * error).all()
    assert float(divergence(torch.zeros(1), torch.zeros(1))) == 0


@pytest.mark.parametrize("options", [{}, {"variance": 0.3}, {"likelihood": "bernoulli"}])
def test_likelihoods_are_those_of_torch(options) -> None:
    vae = model(output="sigmoid", **options)
    logits, x = torch.randn(5, 6), torch.rand(5, 6).round()
    if options.get("likelihood") == "bernoulli":
        expected = Bernoulli(logits=logits).log_prob(x)
    else:
        variance = options.get("variance", 1.0 + LEAST_VARIANCE)
        expected = Normal(torch.sigmoid(logits), math.sqrt(variance)).log_prob(x)
    torch.testing.assert_close(vae.log_likelihood(logits, x), expected.sum(1))


@pytest.mark.parametrize("options", [{}, {"beta": 3.0}, {"likelihood": "bernoulli"}, {"free_bits": 0.05}])
def test_gradients_are_those_of_finite_differences(options, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = model(output="sigmoid", **options).double()
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # the losses are summed in what came
    x = torch.rand(3, 6, dtype=torch.float64)
    noise = torch.randn(3, 2, dtype=torch.float64)
    monkeypatch.setattr(vae, "noise", lambda x, like: noise)
    names, values = zip(*vae.named_parameters(), strict=True)

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        losses = torch.func.functional_call(
            _Losses(vae), {f"vae.{n}": p for n, p in zip(names, parameters, strict=True)}, (x,)
        )
        return losses["reconstruction"].sum() + losses["divergence"].sum()

    assert torch.autograd.gradcheck(loss, [value.detach().clone().requires_grad_() for value in values])


class _Losses(torch.nn.Module):
    def __init__(self, vae: VariationalAutoencoder) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.vae.losses(x, x)


def test_terms_are_the_bound() -> None:
    x = torch.from_numpy(tiny.vectors(9))[:, :6]
    losses = model().losses(x, x)
    torch.testing.assert_close(losses["elbo"], -(losses["reconstruction"] + losses["divergence"]))
    torch.testing.assert_close(losses["elbo"], model().elbo(x))
    heavy = model(beta=4.0).losses(x, x)
    torch.testing.assert_close(heavy["divergence"], 4 * losses["divergence"])
    torch.testing.assert_close(heavy["elbo"], losses["elbo"])
    free = model(free_bits=0.5).losses(x, x)
    mean, log_variance = model().posterior(x)
    torch.testing.assert_close(free["divergence"], divergence(mean, log_variance).clamp(min=0.5).sum(1))
    torch.testing.assert_close(free["elbo"], losses["elbo"])


def test_noise_is_drawn_by_the_row_in_evaluation_and_by_torch_in_training() -> None:
    vae, x = model(), torch.rand(8, 6)
    bounds = vae.losses(x, x)["elbo"]
    again = torch.cat([vae.losses(x[rows], x[rows])["elbo"] for rows in ([0], [1, 2, 3], [4, 5, 6, 7])])
    torch.testing.assert_close(again, bounds)
    vae.train()
    torch.manual_seed(5)
    first, second = vae.losses(x, x)["elbo"], vae.losses(x, x)["elbo"]
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(vae.losses(x, x)["elbo"], first)


def exact(vae: VariationalAutoencoder, x: torch.Tensor) -> torch.Tensor:
    """log p(x) by a fine grid over the two dimensions of z."""
    line = torch.linspace(-8, 8, 401)
    z = torch.cartesian_prod(line, line)
    logits = vae.decoder.logits(z)
    prior = Normal(0.0, 1.0).log_prob(z).sum(1) + 2 * math.log(16 / 400)
    return torch.stack([torch.logsumexp(vae.log_likelihood(logits, row.expand(len(z), -1)) + prior, 0) for row in x])


def trained() -> VariationalAutoencoder:
    training = tiny.training(
        "vae", steps=150, options={"variance": 0.02}, log_every=150,
        network=tiny.NetworkConfig(architecture="mlp", config={"hidden": [16], "bottleneck": 2}),
    )  # fmt: skip
    training.run()
    return training.objective.model.eval()  # type: ignore[attr-defined]


def test_the_importance_bound_lies_between_the_elbo_and_the_likelihood() -> None:
    vae, x = trained().requires_grad_(False), torch.from_numpy(tiny.vectors(40, seed=2))
    likelihood = exact(vae, x)
    bounds = [vae.importance_bound(x, k).mean() for k in (1, 2, 5, 50, 2000)]
    assert all(low < high for low, high in pairwise(bounds))
    elbo = vae.elbo(x).mean()
    assert elbo == pytest.approx(float(bounds[0]), abs=0.5)
    assert elbo < bounds[3] < likelihood.mean() + 0.05
    assert float((vae.importance_bound(x, 5000) - likelihood).abs().mean()) < 0.1
    assert float((likelihood - vae.elbo(x)).mean()) > 0.05  # there is something between them


@torch.no_grad()
def test_grey_values_are_drawn_as_zeros_and_ones() -> None:
    vae = model(output="sigmoid", likelihood="bernoulli", binarise=True)
    grey = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0, 0.3]).repeat(5000, 1)
    vae.train()
    torch.manual_seed(0)
    [first], [other] = vae.drawn(grey), vae.drawn(grey)
    assert set(first.unique().tolist()) == {0.0, 1.0} and not torch.equal(first, other)
    torch.testing.assert_close(first.mean(0), grey[0], atol=0.03, rtol=0)
    assert first[:, 0].sum() == 0 and first[:, 4].sum() == 5000  # black and white stay what they are
    noisy = torch.where(torch.rand_like(grey) < 0.5, 0.0, grey)
    seen, target = vae.drawn(noisy, grey)
    assert torch.equal(seen[noisy == grey], target[noisy == grey])
    vae.eval()
    rows = torch.rand(4000, 6)
    [drawn] = vae.drawn(rows)
    assert torch.equal(vae.drawn(rows[[9, 2]])[0], drawn[[9, 2]])  # a row's own draw, whatever its batch
    torch.testing.assert_close(drawn.mean(0), rows.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(vae.encode(rows), vae.posterior(drawn)[0])
    plain = model(output="sigmoid", likelihood="bernoulli")
    torch.testing.assert_close(vae.importance_bound(rows[:9], 4), plain.importance_bound(drawn[:9], 4))


def test_zeros_and_ones_need_the_likelihood_of_zeros_and_ones() -> None:
    facts = DataFacts("table", ("input",), (6,))
    with pytest.raises(UserError, match=r"objective\.options\.binarise: zeros and ones need likelihood: bernoulli"):
        build(ObjectiveConfig(name="vae", options={"binarise": True}), {"model": tiny.MLP}, facts, "cpu")


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_bound_does_not_depend_on_chunks_or_on_other_rows(chunk: int) -> None:
    vae, x = model(), torch.rand(20, 6)
    bounds = vae.importance_bound(x, 11)
    torch.testing.assert_close(vae.importance_bound(x, 11, chunk=chunk), bounds)
    torch.testing.assert_close(vae.importance_bound(x[[13]], 11), bounds[[13]])
    assert vae.importance_bound(x, 3).shape == (20,)


@torch.no_grad()
def test_the_bounds_of_a_grid_of_codes() -> None:
    config = AutoencoderConfig(architecture="conv", hidden=[4], bottleneck=2, latent="grid")
    vae = VariationalAutoencoder(config, (1, 5, 3), VaeOptions()).eval()
    x = torch.rand(6, 1, 5, 3)
    torch.testing.assert_close(vae.importance_bound(x, 7, chunk=5), vae.importance_bound(x, 7))
    torch.testing.assert_close(vae.elbo(x), vae.losses(x, x)["elbo"])
    assert vae.posterior(x)[0].shape == (6, 2, 3, 2)
    assert vae.sample(4).shape == (4, 1, 5, 3)


@torch.no_grad()
def test_the_bound_is_its_definition() -> None:
    vae, x, k = model(), torch.rand(4, 6), 6
    mean, log_variance = vae.posterior(x)
    posterior = Normal(mean, torch.exp(0.5 * log_variance))
    ratios = []
    for draw in range(k):
        z = mean + posterior.stddev * normals(x, 2, 2 * draw)
        ratio = vae.log_likelihood(vae.decoder.logits(z), x)
        ratios.append(ratio + Normal(0.0, 1.0).log_prob(z).sum(1) - posterior.log_prob(z).sum(1))
    expected = torch.stack(ratios).exp().mean(0).log()
    torch.testing.assert_close(vae.importance_bound(x, k), expected)


@torch.no_grad()
def test_samples_are_decoded_from_the_prior() -> None:
    vae = model((1, 3, 2))
    sampled = vae.sample(30, torch.Generator().manual_seed(1))
    assert sampled.shape == (30, 1, 3, 2)
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sampled, vae.decode(z))


def test_a_learned_variance_finds_the_noise_of_each_column() -> None:
    """Two columns that nothing explains: their variance is what is left."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(2000, 2)) * [0.1, 1.0]).astype(np.float32)
    network = tiny.NetworkConfig(architecture="mlp", config={"bottleneck": 1})
    training = tiny.training(
        "vae", rows=rows, network=network, options={"beta": 20.0}, steps=600, global_batch=256, lr=2e-2, log_every=600
    )
    training.run()
    spreads = training.objective.model.variance(torch.zeros(1)).sqrt().tolist()  # type: ignore[attr-defined]
    assert spreads == pytest.approx([0.1, 1.0], rel=0.1)


@torch.no_grad()
def test_an_input_far_from_all_others_has_a_finite_bound() -> None:
    x = torch.full((2, 6), 1e6)
    assert torch.isfinite(model().elbo(x)).all()
    assert (model().elbo(x) < -1e6).all()
