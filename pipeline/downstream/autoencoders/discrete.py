"""What discrete codes mean and how well they are used, and a prior of them to draw new rows from.

Everything is measured on test rows, but what needs many: which attribute a bit means is told of training rows. The
prior (`training.models.code_prior`) learns the codes of training rows; it is kept with the auto-encoder in
`model/`, from which `sesame sample` draws.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.rng import key
from pipeline.artifact import Artifact
from pipeline.downstream.autoencoders.discrete_measures import (
    attributes,
    counts_of,
    entropy,
    matched,
    mutual_information,
    perplexity,
    unchanging,
)
from pipeline.downstream.job import are_classes, flat, rows_of
from pipeline.downstream.train_in_memory import applied, rebuilt, train_on
from pipeline.recipe.jobs.autoencoders import DiscreteConfig
from pipeline.reports import pictures as array_figures
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL

SHOWN = 12  # pictures in a row
SIDE = 8  # pictures along a grid of samples
MOST_BITS = 16  # in the table


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.models.autoencoder import open_model

    job = DiscreteConfig.model_validate(config["job"])
    folder = inputs["pretrained"].path / MODEL
    model = open_model(folder)
    train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")
    seen, unseen = (scaled(np.asarray(rows["input"])) for rows in (train, test))
    context.progress("encoding")
    codes, unseen_codes = (flat(applied(model.indices, rows)) for rows in (seen, unseen))
    error = float(np.square(flat(rebuilt(model, unseen) - unseen).astype(np.float64)).sum(1).mean())
    kind, size, places = model.options.codes, model.size, codes.shape[1]
    counts = counts_of(unseen_codes, size)
    if kind == "vq":
        counts = counts.sum(0, keepdims=True)  # one codebook for all places
    summary: dict[str, float] = {
        "squared_error": error,
        "perplexity": float(perplexity(counts).mean()),
        "codes_used": float((counts > 0).mean()),
        "bits_a_row": places * math.log2(size),
        "entropy_bits": float(entropy(counts_of(unseen_codes, size)).sum()),
    }
    rows = [
        ["error on unseen rows", f"{error:.4g}"],
        [
            f"perplexity of the {size} values" + (", mean over places" if len(counts) > 1 else ""),
            _short(summary["perplexity"]),
        ],
        ["values in use", f"{summary['codes_used']:.1%}"],
        ["bits a row: as stored", f"{summary['bits_a_row']:.1f}"],
        ["bits a row: each place by its own shares", f"{summary['entropy_bits']:.1f}"],
    ]

    if kind != "vq" and places > 1:
        summary["constant"] = float(unchanging(codes))
        rows.append(["codes that are the same in every row", f"{summary['constant']:.0f} of {places}"])
    prior, summary["prior_bits"] = _prior(job, config, model, codes, unseen_codes, context)
    rows.append(["bits a row: by the learned prior", f"{summary['prior_bits']:.1f}"])
    shutil.copytree(folder, out_dir / MODEL, ignore=shutil.ignore_patterns("README.md"))
    _kept(prior, out_dir / MODEL)

    labels, truth = np.asarray(train["label"]), np.asarray(test["label"])
    names = inputs["corpus"].summary["classes"]
    figures = _Figures(out_dir / "figures")
    many = f"{places} codes" if places > 1 else "One code"
    verdict = f"{many} of {size} values a row: the error on unseen rows is {error:.3g}"
    if stuck := int(summary.get("constant", 0)):
        verdict += f"; {stuck} of them say nothing, for they are the same in every row"
    meaning = None
    if are_classes(labels, truth) and kind == "binary":
        meaning = _bits(codes, labels, attributes(seen if seen.ndim == 4 else None, labels, names), figures)
    elif are_classes(labels, truth) and places == 1:
        context.progress("k-means, to compare")
        clusters = _clusters(flat(seen), flat(unseen), size, config["seed"])
        meaning = _classes(unseen_codes[:, 0], clusters, truth, size, names, figures)
    if meaning:
        rows += meaning.rows
        summary |= meaning.summary
        verdict += f"; {meaning.verdict}"

    if unseen.ndim == 4:
        some = np.linspace(0, len(unseen) - 1, SHOWN).astype(int)
        figures.rebuilt({"input": unseen[some], "rebuilt": rebuilt(model, unseen[some])})
        figures.samples(_drawn(out_dir / MODEL, SIDE * SIDE, config["seed"]), unseen)
        if places == 1:
            figures.codes(applied(model.decode, _every_code(model)))
    else:
        figures.use(counts)
    return {
        "title": job.name,
        "task": job.task,
        "about": f"Codes: {kind}, {places} a row, each of {size} values; {len(seen):,} training rows, {len(unseen):,} "
        "test rows. Mutual information is that of training rows, chance taken off; attributes other than classes are "
        "above or below the median.",
        "heads": ["measure", "value"],
        "rows": rows,
        "figures": figures.drawn,
        "verdict": verdict + ".",
        "summary": summary,
    }


class _Meaning(NamedTuple):
    """What codes were found to mean."""

    rows: list[list[str]]
    summary: dict[str, float]
    verdict: str


def _bits(codes: np.ndarray, labels: np.ndarray, known: dict[str, np.ndarray], figures: _Figures) -> _Meaning:
    """Which attribute each bit means; codes [N, P], known attributes [N] by name."""
    names, values = list(known), np.stack(list(known.values()), 1)
    told = np.stack([mutual_information(codes, of) for of in values.T], 1)  # [P, attributes]
    most, order = told.max(1), np.argsort(-told.max(1))
    rows = []
    for bit in order[:MOST_BITS]:
        best = int(told[bit].argmax())
        agrees = codes[values[:, best], bit].mean() > codes[:, bit].mean()
        rows.append([f"bit {bit}", f"1: {names[best] if agrees else denied(names[best])} ({most[bit]:.2f} bits)"])
    figures.heat(
        "what bits mean", told[order].T, [str(bit) for bit in order], names, "bit", "mutual information (bits)"
    )
    about = float(mutual_information(codes, labels).mean())
    return _Meaning(
        rows,
        {"bits_about_label": about, "bits_about_attribute": float(most.mean())},
        f"a bit tells {most.mean():.2f} bits of the attribute that it means most",
    )


def _classes(
    codes: np.ndarray, clusters: np.ndarray, truth: np.ndarray, size: int, names: list[str], figures: _Figures
) -> _Meaning:
    """How well codes [N] are the classes [N] that nobody named, beside clusters [N]."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    def measured(found: np.ndarray) -> tuple[float, float, float]:
        accuracy = matched(found, truth, size)[0]
        return accuracy, normalized_mutual_info_score(truth, found), adjusted_rand_score(truth, found)

    ours, theirs = measured(codes), measured(clusters)
    keys = ("hungarian_accuracy", "nmi", "ari")
    summary = dict(zip(keys, map(float, ours), strict=True))
    summary |= {f"kmeans_{key}": float(value) for key, value in zip(keys, theirs, strict=True)}
    called = ("accuracy as classes, matched one to one", "normalised mutual information", "adjusted Rand index")
    rows = [[name, f"{mine:.3f} (k-means {other:.3f})"] for name, mine, other in zip(called, ours, theirs, strict=True)]
    table = matched(codes, truth, size)[1]
    codes_by_class = [names[label] for label in range(table.shape[1])]
    figures.heat("codes and classes", table, codes_by_class, [str(code) for code in range(size)], "class", "test rows")
    return _Meaning(
        rows,
        summary,
        f"without a label its codes are the classes in {ours[0]:.1%} of rows, clusters of k-means in {theirs[0]:.1%}",
    )


def _clusters(seen: np.ndarray, unseen: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The k-means cluster of each unseen row, of clusters of rows seen; rows [N, values]."""
    from sklearn.cluster import KMeans

    found: Any = KMeans(size, n_init=10, random_state=seed % 2**32).fit(seen)  # type: ignore[arg-type]
    return found.predict(unseen)


def denied(attribute: str) -> str:
    """The opposite, in words."""
    return attribute.replace("is ", "is not ", 1) if attribute.startswith("is ") else f"not {attribute}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _prior(
    job: DiscreteConfig, config: dict[str, Any], model: Any, codes: np.ndarray, unseen: np.ndarray, context: Context
) -> tuple[Any, float]:
    """A prior that has learned the codes of training rows, and its bits per test row."""
    import torch

    from training.models.code_prior import CodePrior, PriorConfig
    from training.objectives.code_prior import PriorObjective

    *_places, count = model.code_shape()
    across = _places[-1] * count if _places else 0
    seed = key(config["seed"], f"{job.name} prior") >> 1
    torch.manual_seed(seed)
    asked = PriorConfig(size=model.size, places=codes.shape[1], across=across, hidden=job.prior_hidden)
    objective = PriorObjective(CodePrior(asked))
    train = {
        **config["train"],
        "steps": job.prior_steps,
        "lr": job.prior_lr,
        "warmup_steps": job.prior_steps // 20,
        "warmup": None,
    }
    train_on(
        objective,
        {"codes": codes},
        {**train, "schedule": "cosine", "decay_steps": 0, "weight_decay": 0.0, "global_batch": 128},
        seed,
        context,
        progress=lambda done: context.progress("learning a prior of the codes", done),
    )
    prior = objective.prior.eval().cpu()
    return prior, float(applied(prior.nats, unseen).mean() / math.log(2))


def _kept(prior: Any, folder: Path) -> None:
    from training.models.code_prior import save_prior

    save_prior(folder, prior)


def _drawn(folder: Path, count: int, seed: int) -> np.ndarray:
    import torch

    from training.inference.sampling import open_sampler

    with torch.no_grad():
        return np.asarray(open_sampler(folder).sample(count, torch.Generator().manual_seed(seed))["input"])


def _every_code(model: Any) -> np.ndarray:
    """What the decoder sees of each of K codes, where there is one code a row."""
    import torch

    return model.from_indices(torch.arange(model.size).view(-1, *model.code_shape())).numpy()


class _Figures:
    """What was drawn, by what it shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn: dict[str, str] = {}

    def _path(self, shows: str, file: str) -> Path:
        self.drawn[shows] = file
        return self.folder / file

    def heat(self, shows: str, values: np.ndarray, x: list[str], y: list[str], xlabel: str, told: str) -> None:
        array_figures.heat_map(values, x, y, shows, xlabel, told, self._path(shows, "meaning.png"))

    def rebuilt(self, pictures: dict[str, np.ndarray]) -> None:
        array_figures.picture_grid(pictures, self._path("rebuilt", "rebuilt.png"))

    def samples(self, samples: np.ndarray, unseen: np.ndarray) -> None:
        some = np.linspace(0, len(unseen) - 1, len(samples)).astype(int)
        grids = {"samples of the prior": samples, "test pictures": unseen[some]}
        array_figures.tiles(grids, self._path("samples", "samples.png"))

    def codes(self, pictures: np.ndarray) -> None:
        array_figures.tiles({"what each code is decoded to": pictures}, self._path("codes", "codes.png"))

    def use(self, counts: np.ndarray) -> None:
        shares = np.sort(counts.sum(0))[::-1] / counts.sum()
        told = {str(rank): {"share": float(share)} for rank, share in enumerate(shares[:SHOWN], 1)}
        array_figures.bars(told, "The most frequent values", "share of codes", self._path("use of codes", "use.png"))
