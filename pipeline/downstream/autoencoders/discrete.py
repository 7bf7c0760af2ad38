"""The job `discrete`: meaning and usage of discrete codes, and a learned prior to sample new rows from.

Everything is measured on test rows, except the meaning of bits, which needs many rows and uses training rows. The prior
(`training.models.autoencoders.code_prior`) learns the codes of training rows; it is stored with the auto-encoder in
`model/`, from which `sesame sample` draws.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.corruptions.noise import scaled
from data_prep.rng import key
from pipeline.artifact import MODEL
from pipeline.downstream.autoencoders.discrete_measures import (
    attributes,
    counts_of,
    entropy,
    matched,
    mutual_information,
    perplexity,
    unchanging,
)
from pipeline.downstream.config import JobConfig, Problem, kind_problems, objective_problems, training_settings
from pipeline.downstream.finished import digest_of, once
from pipeline.downstream.rows import are_classes, flat, rows_of
from pipeline.reports.report import Figure, Report, Table

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "shards", "corpus")
SHOWN = 12  # images in a row
SIDE = 8  # images along a grid of samples
MOST_BITS = 16  # in the table


class Config(JobConfig):
    """Meaning and usage of discrete codes, and a learned prior to sample new rows from."""

    task: Literal["discrete"]
    """Which job it is."""
    prior_steps: int = Field(default=1000, ge=1)
    """Training steps of the prior."""
    prior_lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate of the prior."""
    prior_hidden: int = Field(default=128, ge=1)
    """Units of the prior's GRU."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """An auto-encoder with discrete codes."""
    yield from kind_problems(recipe, job, ("table", "images"))
    yield from objective_problems(recipe, job, "discrete")


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """The recipe's training settings, which the prior shares."""
    training = training_settings(recipe)
    return {"train": training["train"], "seed": training["seed"]}


class _Split(NamedTuple):
    """Rows of a split, their codes and classes."""

    rows: np.ndarray  # float32 [R, *shape]
    codes: np.ndarray  # [R, places]
    labels: np.ndarray  # [R] from 0; −1: none


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Measure the codes of test rows and their meaning; train a prior of the codes, stored in `model/`.

    inputs: `pretrained`, an auto-encoder with discrete codes in `model/`; `shards`, columns `input` [R, *shape] and
    `label` [R] of the splits train and test; `corpus`, for names of classes. Errors are squared and summed over a
    row's values; entropies, mutual information and the prior's code length are in bits (a row); perplexity is
    exp(−Σ p log p) of a code's values (van den Oord et al. 2017, section 4).
    """
    from pipeline.downstream.train_in_memory import applied, rebuilt
    from training.inference.networks.arrays import open_model

    folder = inputs["pretrained"].path / MODEL
    model = open_model(folder)
    context.progress("encoding")
    train, test = (_split(model, inputs["shards"], split) for split in ("train", "test"))
    kind, size, places = model.options.codes, model.size, train.codes.shape[1]
    counts = counts_of(test.codes, size)
    if kind == "vq":
        counts = counts.sum(0, keepdims=True)  # one codebook for all places
    rows, numbers = _use_of_codes(model, test, counts)
    if kind != "vq" and places > 1:
        numbers["codes/constant"] = float(unchanging(train.codes))
        rows.append(["codes that are the same in every row", f"{numbers['codes/constant']:.0f} of {places}"])
    prior, numbers["bits/prior"] = _prior(job, settings, model, train.codes, test.codes, context)
    rows.append(["bits a row: by the learned prior", f"{numbers['bits/prior']:.1f}"])
    shutil.copytree(folder, out_dir / MODEL, ignore=shutil.ignore_patterns("README.md"))
    _keep(prior, out_dir / MODEL)

    figures = _Figures(out_dir / "figures")
    names = inputs["corpus"].summary["classes"]
    meaning = _meaning_of(kind, size, train, test, names, settings["seed"], figures, context)
    if test.rows.ndim == 4:
        sample = np.linspace(0, len(test.rows) - 1, SHOWN).astype(int)
        figures.rebuilt({"input": test.rows[sample], "rebuilt": rebuilt(model, test.rows[sample])})
        figures.samples(_drawn(out_dir / MODEL, SIDE * SIDE, settings["seed"]), test.rows)
        if places == 1:
            figures.codes(applied(model.decode, _every_code(model)))
    else:
        figures.use(counts)
    return Report(
        title=job.name,
        about=f"Codes: {kind}, {places} a row, each of {size} values; {len(train.rows):,} training rows, "
        f"{len(test.rows):,} test rows. Mutual information is that of training rows, chance taken off; attributes "
        "other than classes are above or below the median.",
        tables=[Table("Codes", ["measure", "value"], [*rows, *(meaning.rows if meaning else [])])],
        figures=figures.drawn,
        verdict=_verdict(places, size, numbers, meaning),
        numbers=numbers | (meaning.numbers if meaning else {}),
        notes={"task": job.task},
    )


def _split(model: Any, shards: Artifact, split: str) -> _Split:
    from pipeline.downstream.train_in_memory import applied

    table = rows_of(shards, split)
    rows = scaled(np.asarray(table["input"]))
    return _Split(rows, flat(applied(model.indices, rows)), np.asarray(table["label"]))


def _use_of_codes(model: Any, test: _Split, counts: np.ndarray) -> tuple[list[list[str]], dict[str, float]]:
    """Lines of the table and numbers: the error, and how codes are used. counts [places or 1, size] of test rows."""
    from pipeline.downstream.train_in_memory import rebuilt

    size, places = model.size, test.codes.shape[1]
    error = float(np.square(flat(rebuilt(model, test.rows) - test.rows).astype(np.float64)).sum(1).mean())
    numbers = {
        "squared_error": error,
        "codes/perplexity": float(perplexity(counts).mean()),
        "codes/used": float((counts > 0).mean()),
        "bits/stored": places * math.log2(size),
        "bits/entropy": float(entropy(counts_of(test.codes, size)).sum()),
    }
    over_places = ", mean over places" if len(counts) > 1 else ""
    rows = [
        ["error on unseen rows", f"{error:.4g}"],
        [f"perplexity of the {size} values{over_places}", _short(numbers["codes/perplexity"])],
        ["values in use", f"{numbers['codes/used']:.1%}"],
        ["bits a row: as stored", f"{numbers['bits/stored']:.1f}"],
        ["bits a row: each place by its own shares", f"{numbers['bits/entropy']:.1f}"],
    ]
    return rows, numbers


def _meaning_of(
    kind: str,
    size: int,
    train: _Split,
    test: _Split,
    names: list[str],
    seed: int,
    figures: _Figures,
    context: Context,
) -> _Meaning | None:
    """The meaning of bits, or of a single code a row; None where rows have no classes."""
    if not are_classes(train.labels, test.labels):
        return None
    if kind == "binary":
        images = train.rows if train.rows.ndim == 4 else None
        return _bits(train.codes, train.labels, attributes(images, train.labels, names), figures)
    if train.codes.shape[1] == 1:
        context.progress("k-means, to compare")
        clusters = _clusters(flat(train.rows), flat(test.rows), size, seed)
        return _classes(test.codes[:, 0], clusters, test.labels, size, names, figures)
    return None


def _verdict(places: int, size: int, numbers: Mapping[str, float], meaning: _Meaning | None) -> str:
    many = f"{places} codes" if places > 1 else "One code"
    verdict = f"{many} of {size} values a row: the error on unseen rows is {numbers['squared_error']:.3g}"
    if constant := int(numbers.get("codes/constant", 0)):
        verdict += f"; {constant} of them say nothing, for they are the same in every row"
    return f"{verdict}; {meaning.verdict}." if meaning else f"{verdict}."


class _Meaning(NamedTuple):
    """The meaning of codes: lines of the table, metrics, a clause of the verdict."""

    rows: list[list[str]]
    numbers: dict[str, float]
    verdict: str


def _bits(
    codes: np.ndarray, labels: np.ndarray, attribute_values: dict[str, np.ndarray], figures: _Figures
) -> _Meaning:
    """The attribute with the most mutual information for each bit; codes [N, P], attribute values [N] by name."""
    names, values = list(attribute_values), np.stack(list(attribute_values.values()), 1)
    information = np.stack([mutual_information(codes, value) for value in values.T], 1)  # [P, attributes]
    highest, order = information.max(1), np.argsort(-information.max(1))
    rows = []
    for bit in order[:MOST_BITS]:
        best = int(information[bit].argmax())
        agrees = codes[values[:, best], bit].mean() > codes[:, bit].mean()
        rows.append([f"bit {bit}", f"1: {names[best] if agrees else negated(names[best])} ({highest[bit]:.2f} bits)"])
    figures.heat(
        "what bits mean", information[order].T, [str(bit) for bit in order], names, "bit", "mutual information (bits)"
    )
    label_information = float(mutual_information(codes, labels).mean())
    return _Meaning(
        rows,
        {"information/label": label_information, "information/attribute": float(highest.mean())},
        f"a bit tells {highest.mean():.2f} bits of the attribute that it means most",
    )


def _classes(
    codes: np.ndarray, clusters: np.ndarray, truth: np.ndarray, size: int, names: list[str], figures: _Figures
) -> _Meaning:
    """Agreement of codes [N] with classes [N], compared with clusters [N]."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    def measured(clusters: np.ndarray) -> tuple[float, float, float]:
        accuracy = matched(clusters, truth, size)[0]
        return accuracy, normalized_mutual_info_score(truth, clusters), adjusted_rand_score(truth, clusters)

    ours, theirs = measured(codes), measured(clusters)
    keys = ("hungarian_accuracy", "nmi", "ari")
    numbers = {f"classes/{key}": float(value) for key, value in zip(keys, ours, strict=True)}
    numbers |= {f"classes/kmeans_{key}": float(value) for key, value in zip(keys, theirs, strict=True)}
    titles = ("accuracy as classes, matched one to one", "normalised mutual information", "adjusted Rand index")
    rows = [[name, f"{mine:.3f} (k-means {other:.3f})"] for name, mine, other in zip(titles, ours, theirs, strict=True)]
    table = matched(codes, truth, size)[1]
    codes_by_class = [names[label] for label in range(table.shape[1])]
    figures.heat("codes and classes", table, codes_by_class, [str(code) for code in range(size)], "class", "test rows")
    return _Meaning(
        rows,
        numbers,
        f"without a label its codes are the classes in {ours[0]:.1%} of rows, clusters of k-means in {theirs[0]:.1%}",
    )


def _clusters(train: np.ndarray, test: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The k-means cluster of each test row, fitted on training rows; rows [N, values]."""
    from sklearn.cluster import KMeans

    means: Any = KMeans(size, n_init=10, random_state=seed % 2**32).fit(train)  # type: ignore[arg-type]
    return means.predict(test)


def negated(attribute: str) -> str:
    """The opposite of an attribute, in words."""
    return attribute.replace("is ", "is not ", 1) if attribute.startswith("is ") else f"not {attribute}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _prior(
    job: Config, settings: dict[str, Any], model: Any, codes: np.ndarray, unseen: np.ndarray, context: Context
) -> tuple[Any, float]:
    """A prior trained on the codes of training rows, and its bits per test row."""
    import torch

    from pipeline.downstream.train_in_memory import applied, train_objective
    from training.models.autoencoders.code_prior import CodePrior, PriorConfig, open_prior
    from training.objectives.arrays.code_prior import PriorObjective

    *_places, count = model.code_shape()
    across = _places[-1] * count if _places else 0
    seed = key(settings["seed"], f"{job.name} prior") >> 1
    prior_config = PriorConfig(size=model.size, places=codes.shape[1], across=across, hidden=job.prior_hidden)
    train = {
        **settings["train"],
        "steps": job.prior_steps,
        "lr": job.prior_lr,
        "warmup_steps": job.prior_steps // 20,
        "warmup": None,
    }
    train |= {"schedule": "cosine", "decay_steps": 0, "weight_decay": 0.0, "global_batch": 128}

    def learn() -> CodePrior | None:
        torch.manual_seed(seed)
        objective = PriorObjective(CodePrior(prior_config))
        train_objective(
            objective,
            {"codes": codes},
            train,
            seed,
            context,
            progress=lambda done: context.progress("learning a prior of the codes", done),
        )
        return objective.prior.eval().cpu()

    identity = {
        "prior": prior_config.model_dump(mode="json"),
        "train": train,
        "seed": seed,
        "codes": digest_of({"codes": codes}),
    }
    prior: Any = once(context, identity, learn, _keep, open_prior)
    return prior, float(applied(prior.nats, unseen).mean() / math.log(2))


def _keep(prior: Any, folder: Path) -> None:
    from training.models.autoencoders.code_prior import save_prior

    save_prior(folder, prior)


def _drawn(folder: Path, count: int, seed: int) -> np.ndarray:
    import torch

    from training.inference.sampling import open_sampler

    with torch.no_grad():
        return np.asarray(open_sampler(folder).sample(count, torch.Generator().manual_seed(seed))["input"])


def _every_code(model: Any) -> np.ndarray:
    """The decoder's input for each of K codes, where there is one code a row."""
    import torch

    return model.from_indices(torch.arange(model.size).view(-1, *model.code_shape())).numpy()


class _Figures:
    """Draws figures and lists them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn: list[Figure] = []

    def _path(self, title: str, file: str) -> Path:
        self.drawn.append(Figure(title, file))
        return self.folder / file

    def heat(self, title: str, values: np.ndarray, x: list[str], y: list[str], xlabel: str, unit: str) -> None:
        from pipeline.reports.images import heat_map

        heat_map(values, x, y, title, xlabel, unit, self._path(title, "meaning.png"))

    def rebuilt(self, images: dict[str, np.ndarray]) -> None:
        from pipeline.reports.images import image_grid

        image_grid(images, self._path("rebuilt", "rebuilt.png"))

    def samples(self, samples: np.ndarray, unseen: np.ndarray) -> None:
        from pipeline.reports.images import tiles

        sample = np.linspace(0, len(unseen) - 1, len(samples)).astype(int)
        tiles({"samples of the prior": samples, "test images": unseen[sample]}, self._path("samples", "samples.png"))

    def codes(self, images: np.ndarray) -> None:
        from pipeline.reports.images import tiles

        tiles({"what each code is decoded to": images}, self._path("codes", "codes.png"))

    def use(self, counts: np.ndarray) -> None:
        from pipeline.reports.images import bars

        shares = np.sort(counts.sum(0))[::-1] / counts.sum()
        by_rank = {str(rank): {"share": float(share)} for rank, share in enumerate(shares[:SHOWN], 1)}
        bars(by_rank, "The most frequent values", "share of codes", self._path("use of codes", "use.png"))
