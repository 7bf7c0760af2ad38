"""Discrete codes: straight-through gradients, exact round trips, and a codebook that all workers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.training import tiny_arrays as tiny
from tests.training.group import in_group
from training.distributed import Worker
from training.inference.networks.arrays import open_model
from training.models.autoencoders.autoencoder import save_model
from training.models.autoencoders.config import AutoencoderConfig
from training.models.autoencoders.vq import DiscreteAutoencoder, Usage, perplexity, straight_through
from training.objectives.arrays.discrete import DiscreteOptions

CODES: list[dict[str, Any]] = [
    {"codes": "binary"},
    {"codes": "one-hot", "size": 5},
    {"codes": "vq", "size": 16, "dimension": 4},
]


def model(shape: tuple[int, ...] = (6,), latent: str = "vector", seed: int = 0, **options: Any) -> DiscreteAutoencoder:
    torch.manual_seed(seed)
    values = {"architecture": "conv" if len(shape) == 3 else "mlp", "hidden": [8], "bottleneck": 3, "latent": latent}
    return DiscreteAutoencoder(AutoencoderConfig.model_validate(values), shape, DiscreteOptions(**options))


def test_the_straight_through_gradient_is_the_identitys() -> None:
    soft = torch.rand(4, 3, requires_grad=True)
    hard = (soft > 0.5).float()
    output = straight_through(soft, hard)
    assert torch.equal(output, hard)
    wanted = torch.randn(4, 3)
    assert torch.equal(torch.autograd.grad(output, soft, wanted)[0], wanted)


def test_gradients_pass_the_quantiser_unchanged() -> None:
    """Binary: that of the sigmoid; one-hot: that of the softmax; vq: the identity's."""
    wanted = torch.randn(5, 3, 4)
    bits = torch.randn(5, 3, 1, requires_grad=True)
    codes, _ = model(codes="binary", sample=False).train().quantise(bits)
    (gradient,) = torch.autograd.grad(codes, bits, wanted[..., :1])
    share = torch.sigmoid(bits)
    torch.testing.assert_close(gradient, wanted[..., :1] * share * (1 - share))

    logits = torch.randn(5, 3, 4, requires_grad=True)
    codes, indices = model(codes="one-hot", size=4, sample=False, temperature=0.7).train().quantise(logits)
    assert torch.equal(codes, F.one_hot(logits.argmax(-1), 4).float()) and torch.equal(indices, logits.argmax(-1))
    (gradient,) = torch.autograd.grad(codes, logits, wanted)
    (expected,) = torch.autograd.grad(torch.softmax(logits / 0.7, -1), logits, wanted)
    torch.testing.assert_close(gradient, expected)

    vectors = torch.randn(5, 3, 4, requires_grad=True)
    vq = model(codes="vq", size=16, dimension=4).train()
    codes, indices = vq.quantise(vectors)
    nearest = torch.cdist(vectors.flatten(0, 1), vq.quantizer.codebook).argmin(-1).view(5, 3)  # type: ignore[union-attr]
    assert torch.equal(indices, nearest)
    torch.testing.assert_close(codes, vq.quantizer.codebook[nearest])  # type: ignore[union-attr]
    assert torch.equal(torch.autograd.grad(codes, vectors, wanted)[0], wanted)


def test_training_draws_codes_by_their_probabilities_and_evaluation_takes_the_likeliest() -> None:
    logits = torch.tensor([0.5, 1.0, -0.3, 0.0]).expand(20_000, 1, 4)
    shares = torch.softmax(logits[0, 0], -1)
    chosen = model(codes="one-hot", size=4)
    drawn = torch.bincount(chosen.train().quantise(logits)[1].flatten(), minlength=4) / 20_000
    assert float((drawn - shares).abs().max()) < 0.02
    assert (chosen.eval().quantise(logits)[1] == 1).all()
    bit = model(codes="binary")
    assert float(bit.train().quantise(logits[..., :1])[1].float().mean()) == pytest.approx(0.6225, abs=0.02)
    assert (bit.eval().quantise(logits[..., :1])[1] == 1).all()


@pytest.mark.parametrize("options", CODES)
@pytest.mark.parametrize(("shape", "latent"), [((6,), "vector"), ((2, 9, 6), "grid")])
def test_whole_numbers_stand_for_what_the_decoder_sees(options, shape, latent, tmp_path: Path) -> None:
    vq = model(shape, latent, **options).eval()
    x = torch.randn(4, *shape)
    indices = vq.indices(x)
    assert indices.shape == (4, *vq.code_shape()) and indices.dtype == torch.int64
    assert vq.code_shape() == ((3,) if latent == "vector" else (5, 3, 3))
    assert int(indices.min()) >= 0 and int(indices.max()) < vq.size
    assert torch.equal(vq.from_indices(indices), vq.encode(x))
    assert torch.equal(vq.decode(vq.from_indices(indices)), vq(x))
    save_model(tmp_path, vq)
    assert torch.equal(open_model(tmp_path).indices(x), indices)


@pytest.mark.parametrize("options", CODES)
def test_a_code_belongs_to_its_place(options) -> None:
    """Changing what one place of the grid holds changes that place's codes and the image near it alone."""
    vq = model((1, 8, 8), "grid", **options).eval()
    codes = torch.zeros(1, *vq.code_shape(), dtype=torch.int64)
    other = codes.clone()
    other[0, 3, 3] = 1
    seen, changed = vq.from_indices(codes), vq.from_indices(other)
    assert (seen != changed).any(1).nonzero().tolist() == [[0, 3, 3]]
    difference = (vq.decode(seen) != vq.decode(changed))[0, 0]
    assert difference[5:, 5:].any() and not difference[:4].any() and not difference[:, :4].any()


def test_perplexity_counts_equally_frequent_codes() -> None:
    assert float(perplexity(torch.tensor([3.0, 3.0, 3.0, 3.0]))) == pytest.approx(4)
    assert float(perplexity(torch.tensor([0.0, 7.0, 0.0]))) == pytest.approx(1)
    shares = np.array([0.5, 0.25, 0.25])
    assert float(perplexity(torch.tensor(8 * shares))) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    perplexities = perplexity(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    assert perplexities.tolist() == pytest.approx([2, 1])


def test_the_divergence_from_uniform_is_log_k_minus_the_entropy() -> None:
    x = torch.randn(7, 6)
    vq = model(codes="one-hot", size=5, uniform=2.0, sample=False).train()
    logits = vq.vectors(x)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(vq.losses(x, x)["uniform"], 2 * (np.log(5) - entropy).sum(1))
    bits = model(codes="binary", uniform=1.0, sample=False).train()
    entropy = torch.distributions.Bernoulli(logits=bits.vectors(x)[..., 0]).entropy()
    torch.testing.assert_close(bits.losses(x, x)["uniform"], (np.log(2) - entropy).sum(1))


def step(vq: DiscreteAutoencoder, *batches: torch.Tensor, worker: Worker | None = None) -> None:
    losses = [vq.losses(x, x) for x in batches]
    usage = Usage([by_row["indices"] for by_row in losses], [by_row["vectors"] for by_row in losses], list(batches))
    vq.update(usage, worker or Worker())


def test_the_codebook_follows_the_means_of_its_vectors() -> None:
    """The published update (van den Oord et al. 2017, appendix A.1), written out."""
    vq = model(codes="vq", size=4, dimension=4, decay=0.8, revive=0.0).train()
    codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
    counts, sums = torch.ones(4), codebook.embed[0].clone()
    for number in range(3):
        x = torch.randn(50, 6, generator=torch.Generator().manual_seed(number))
        vectors = vq.vectors(x).detach().flatten(0, 1)
        chosen = torch.cdist(vectors, codebook.embed[0]).argmin(-1)
        for code in range(4):
            counts[code] = 0.8 * counts[code] + 0.2 * (chosen == code).sum()
            sums[code] = 0.8 * sums[code] + 0.2 * vectors[chosen == code].sum(0)
        step(vq, x[:20], x[20:])
        torch.testing.assert_close(codebook.embed[0], sums / counts[:, None], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vq.usage[0].sum(), torch.tensor(150 * (1 - 0.8 ** (number + 1))))


def test_dead_codes_come_back_as_vectors_of_the_batch() -> None:
    vq = model(codes="vq", size=8, dimension=4, decay=0.5).train()
    codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
    x = torch.randn(40, 6)
    step(vq, x)
    assert _are_among(codebook.embed[0], vq.vectors(x).flatten(0, 1)).all()  # the first step: all of them
    with torch.no_grad():
        codebook.embed[0, 5] = codebook.embed_avg[0, 5] = 1e3
    unused = 0
    while float(codebook.embed[0, 5].abs().max()) > 100 and unused < 9:
        assert (vq.indices(x) != 5).all()
        step(vq, x)
        unused += 1
    assert 3 <= unused < 8  # until its running use, halved in every step, fell to a tenth of the mean
    assert _are_among(codebook.embed[0, 5:6], vq.vectors(x).flatten(0, 1)).all()
    assert float(vq.usage[0, 5]) > 0


def test_fewer_vectors_than_codes_begin_some_of_them() -> None:
    vq = model(codes="vq", size=64, dimension=4).train()
    x = torch.randn(5, 6)
    step(vq, x)
    codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
    assert int(_are_among(codebook.embed[0], vq.vectors(x).flatten(0, 1)).sum()) == 15


def _are_among(vectors: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    return torch.cdist(vectors, others.detach()).min(1).values < 1e-3


def _codebook_of(worker: Worker, cuts: int) -> tuple[list[float], list[float]]:
    """After three steps over the same rows, cut among workers and micro-batches, dead codes revived."""
    vq = model(codes="vq", size=16, dimension=4, decay=0.5).train()
    for number in range(6):
        x = torch.randn(24, 6, generator=torch.Generator().manual_seed(number))
        if number > 2:
            x = x * 0.1 + 3  # most codes die
        step(vq, *x.chunk(cuts * worker.world)[worker.rank :: worker.world], worker=worker)
    codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
    return codebook.embed.flatten().tolist(), vq.usage.flatten().tolist()


@pytest.mark.parametrize("cuts", [1, 3])
def test_the_codebook_is_the_same_on_any_number_of_workers(cuts: int) -> None:
    alone = in_group(1, _codebook_of, 1)[0]
    together = in_group(3, _codebook_of, cuts)
    assert all(codebook == together[0] for codebook in together)  # to the bit
    for mine, theirs in zip(alone, together[0], strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-4)


def test_what_revives_is_drawn_by_the_rows() -> None:
    """Of the present vectors, each as likely; not the first, nor the same in every step."""
    vq = model(codes="vq", size=2, dimension=4).train()
    x = torch.randn(30, 6)
    revived = []
    for number in range(60):
        vq.steps.fill_(number)
        vq.usage.zero_()
        vq.usage[0, 0] = 1.0
        codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
        vectors = vq.vectors(x).detach()
        vq._revive(codebook, vectors, [x], Worker())
        revived.append(int(torch.cdist(codebook.embed[0, 1:], vectors.flatten(0, 1)).argmin()))
    assert len(set(revived)) > 35
    assert 30 < np.mean(revived) < 60


def test_watched_numbers_come_from_running_counts() -> None:
    vq = model(codes="vq", size=8, dimension=4)
    assert float(vq.watched()["codes_used"]) == 0
    vq.usage[0] = torch.tensor([1.0, 1.0, 0, 0, 0, 0, 0, 1e-4])
    metrics = vq.watched()
    assert float(metrics["codes_used"]) == 2 / 8
    assert float(metrics["perplexity"]) == pytest.approx(2, abs=0.01)


def test_training_uses_many_codes_where_a_plain_codebook_collapses() -> None:
    records: list[dict[str, Any]] = []
    training = tiny.training("vq", steps=150, log_every=50, log=records.append, options={"size": 64})
    training.run()
    last = [r for r in records if "train/perplexity" in r][-1]
    assert last["train/perplexity"] > 20 and last["train/codes_used"] > 0.6
    model = training.objective.model.eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        indices = model.indices(torch.from_numpy(tiny.vectors(400)))
    counts = torch.bincount(indices.flatten(), minlength=64)
    assert last["train/perplexity"] == pytest.approx(float(perplexity(counts.float())), rel=0.25)


def test_a_revived_code_stays_where_it_began() -> None:
    """Its sum is its vector times its count: the next average, over no vector at all, leaves it there."""
    vq = model(codes="vq", size=4, dimension=4, decay=0.5, revive=0.3).train()
    codebook: Any = vq.quantizer._codebook  # type: ignore[union-attr]
    codebook.cluster_size[0] = torch.tensor([8.0, 4.0, 3.0, 1.0])
    vq.usage[0] = torch.tensor([8.0, 4.0, 3.0, 0.1])
    vq.steps.fill_(5)
    x = torch.randn(20, 6)
    vectors = vq.vectors(x).detach()
    vq._revive(codebook, vectors, [x], Worker())
    revived = codebook.embed[0, 3].clone()
    assert _are_among(revived[None], vectors.flatten(0, 1)).all()
    assert float(codebook.cluster_size[0, 3]) == 4 and float(vq.usage[0, 3]) == pytest.approx(15.1 / 4)
    assert torch.equal(codebook.embed_avg[0, 3], revived * 4)
    nothing = Usage([torch.zeros(1, 3, dtype=torch.int64)], [torch.zeros(1, 3, 4)], [x[:1]])
    vq.update(nothing, Worker())  # three vectors that chose code 0
    torch.testing.assert_close(codebook.embed[0, 3], revived, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_commitment_moves_the_encoder_and_the_codebooks_loss_the_codebook(codebook: str) -> None:
    """Each by the distance of the vectors to their codes, the former weighted (van den Oord et al. 2017)."""
    vq = model(codes="vq", size=4, dimension=4, codebook=codebook, commitment=0.25).train()
    x = torch.randn(7, 6)
    by_row, vectors = vq.losses(x, x), vq.vectors(x)
    table: Any = vq.quantizer.codebook  # type: ignore[union-attr]
    distance = (vectors - table[by_row["indices"]]).square().flatten(1).sum(1)
    torch.testing.assert_close(by_row["commitment"], 0.25 * distance)
    encoder, embedding = next(vq.encoder.parameters()), vq.quantizer._codebook.embed  # type: ignore[union-attr]
    assert torch.autograd.grad(by_row["commitment"].sum(), encoder, retain_graph=True)[0].any()
    assert ("codebook" in by_row) is (codebook == "gradient") is embedding.requires_grad
    if codebook == "gradient":
        torch.testing.assert_close(by_row["codebook"], distance)
        still = [
            torch.autograd.grad(by_row[name].sum(), of, retain_graph=True, allow_unused=True)[0]
            for name, of in (("commitment", embedding), ("codebook", encoder))
        ]
        assert not any(gradient is not None and gradient.any() for gradient in still)
        assert torch.autograd.grad(by_row["codebook"].sum(), embedding)[0].any()
