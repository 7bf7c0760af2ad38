"""The DAG knows what is stored, what a change makes anew, and that placement changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import UserError
from data_prep.shards.order import quotas
from data_prep.shards.reader import Shards
from data_prep.shards.rows import network_input
from pipeline import dag
from pipeline.dag import Node
from pipeline.recipe.load import load, load_pretraining
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.pipeline import tiny
from training import launch
from training.objective import Batch
from training.objectives.masked_lm import MaskedLM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dag")
    tiny.recipe(folder)
    return folder


def planned(folder: Path, *settings: str) -> dict[str, str]:
    nodes = dag.nodes(load(folder / "tiny.yaml", overrides=settings), folder / "downloads")
    return {item.node.name: item.why for item in dag.plan(nodes, Store(folder / "store"))}


def make(folder: Path, names: tuple[str, ...]) -> None:
    store, artifacts = Store(folder / "store"), {}
    for node in dag.nodes(load(folder / "tiny.yaml"), folder / "downloads"):
        if node.name in names:
            artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts))


def test_every_node_follows_what_it_reads(folder: Path) -> None:
    seen: set[str] = set()
    for node in dag.nodes(load(folder / "tiny.yaml"), folder / "downloads"):
        assert set(node.inputs.values()) <= seen
        seen.add(node.name)
    assert seen == {"ingest", "tokenizer", "shards", "pretrain", "verbs", "report"}


def test_a_change_makes_anew_what_it_touches_and_no_more(folder: Path) -> None:
    make(folder, ("ingest", "tokenizer", "shards"))
    assert [name for name, why in planned(folder).items() if why == "stored"] == ["ingest", "tokenizer", "shards"]
    changed = planned(folder, "compose.length=24")
    assert [name for name, why in changed.items() if why == "stored"] == ["ingest", "tokenizer"]
    assert "length" in changed["shards"]
    changed = planned(folder, "tokenizer.lowercase=false")
    assert [name for name, why in changed.items() if why == "stored"] == ["ingest"]
    assert "stored" not in planned(folder, "data.split.test=0.2").values()


def test_load_time_corruption_does_not_fork_the_shards(folder: Path) -> None:
    make(folder, ("ingest", "tokenizer", "shards"))
    assert planned(folder, "corruption.rate=0.3")["shards"] == "stored"
    assert planned(folder, "corruption.at=shards")["shards"] != "stored"


@pytest.mark.parametrize("at", ["load", "shards"])
def test_the_last_steps_train_on_longer_rows(folder: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    count = MaskedLM.num_units
    monkeypatch.setattr(MaskedLM, "num_units", lambda self, batch: widths.append(most(batch)) or count(self, batch))

    def most(batch: Batch) -> int:
        return int(batch["attention_mask"].sum(1).max())

    settings = (
        "train.longer.length=64",
        "train.longer.share=0.25",
        "train.longer.max_predictions=9",
        "network.config.max_position_embeddings=64",
        "corruption.rate=0.5",
        f"corruption.at={at}",
        "train.global_batch=16",
    )
    recipe = load_pretraining(folder / "tiny.yaml", overrides=settings)
    assert recipe.train.longer_from == 6
    store, artifacts = Store(folder / "store"), {}
    context = Context(placement=recipe.placement.model_dump(mode="json"))
    for node in dag.nodes(recipe, folder / "downloads")[:4]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    shards = artifacts["shards"]
    lengths = {name: Shards(shards.path / name).read(np.arange(20)) for name in ("train", "longer")}
    longest = {name: int(network_input(rows).lengths.max()) for name, rows in lengths.items()}  # type: ignore[union-attr]
    assert longest["train"] <= 32 < longest["longer"] <= 64
    if at == "shards":
        targets = {n: int(np.diff(rows["target_ids"].offsets).max()) for n, rows in lengths.items()}  # type: ignore[union-attr]
        assert targets == {"train": 16, "longer": 9}
    first = len(widths) * 6 // 8
    assert max(widths[:first]) <= 32 < min(widths[first:])


def test_several_sequences_share_a_row(folder: Path) -> None:
    wide = ("compose.length=64", "network.config.max_position_embeddings=64", "compose.short_probability=1")
    recipe = load_pretraining(folder / "tiny.yaml", overrides=("compose.pack=true", *wide))
    store, artifacts = Store(folder / "store"), {}
    context = Context(placement=recipe.placement.model_dump(mode="json"))
    for node in dag.nodes(recipe, folder / "downloads")[:4]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    train = artifacts["shards"].summary["train"]
    assert train["sequences"] > train["rows"] and "sequence" in Shards(artifacts["shards"].path / "train").columns
    assert artifacts["pretrain"].summary["step"] == recipe.train.steps
    with pytest.raises(UserError, match="'funnel' cannot keep apart the sequences of a packed row"):
        load(folder / "tiny.yaml", overrides=("compose.pack=true", "network.architecture=funnel"))


def mixture(folder: Path) -> Path:
    """The tiny recipe on two corpora, one of them small."""
    path = tiny.recipe(folder)
    tiny.corpus(folder / "more", documents=3)
    for text in (folder / "more").iterdir():
        text.write_text(text.read_text().replace("The", "A"))  # no copies
    both = f"[{{path: {folder / 'texts'}, corpus: large}}, {{path: {folder / 'more'}, corpus: small}}]"
    path.write_text(re.sub(r"sources: .*", f"sources: {both}", path.read_text()))
    return path


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("order.temperature=1", lambda large, small: large / (large + small)),
        ("order.temperature=0", lambda large, small: 0.5),
        ("order.weights={large: 1, small: 3}", lambda large, small: 0.25),
        ("order.epochs={large: 1, small: 4}", lambda large, small: large / (large + 4 * small)),
    ],
)
def test_corpora_are_mixed_as_asked(
    tmp_path: Path, setting: str, expected: Callable[[int, int], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mixture(tmp_path)
    recipe = load(path, overrides=(setting, "train.steps=2"))
    store, artifacts, jobs = Store(tmp_path / "store"), {}, []
    train = launch.run
    monkeypatch.setattr(launch, "run", lambda job, *arguments: jobs.append(job) or train(job, *arguments))
    context = Context(placement=recipe.placement.model_dump(mode="json"))
    for node in dag.nodes(recipe, tmp_path / "downloads")[:4]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    (job,) = jobs
    parts = artifacts["shards"].summary["parts"]["train"]
    assert [Path(corpus.folder).name for corpus in job.corpora] == list(parts) == ["train-large", "train-small"]
    shares = quotas([corpus.weight for corpus in job.corpora]) / 1000
    rows = [part["rows"] for part in parts.values()]
    assert shares[0] == pytest.approx(expected(*rows), abs=1e-3)
    assert artifacts["shards"].summary["train"]["rows"] == sum(rows)


def test_impossible_mixtures_are_refused(tmp_path: Path) -> None:
    path = mixture(tmp_path)
    for setting, message in (
        ("order.weights={large: 1}", r"order\.weights: .*names large; the corpora of data.sources are large, small"),
        ("order.weights={large: 1, small: -1}", r"order\.weights: must not be below 0"),
        ("order.weights={large: 0, small: 0}", r"order\.weights: .*above 0 for what is to be trained on"),
        ("data.sources.0.corpus=null", r"data\.sources: .*of a mixture each source needs a corpus"),
    ):
        with pytest.raises(UserError, match=message):
            load(path, overrides=(setting,))
    with pytest.raises(UserError, match=r"order: .*several of temperature, weights and epochs"):
        load(path, overrides=("order.temperature=0.3", "order.epochs={large: 1, small: 2}"))


def test_longer_rows_fork_only_what_they_touch(folder: Path) -> None:
    make(folder, ("ingest", "tokenizer", "shards"))
    more = ("train.longer.length=56", "network.config.max_position_embeddings=64")
    assert [name for name, why in planned(folder, *more).items() if why == "stored"] == ["ingest", "tokenizer"]
    with pytest.raises(UserError, match=r"(?<![\d.,])32 positions are fewer than train\.longer\.length 56"):
        planned(folder, more[0])
    with pytest.raises(UserError, match=r"(?<![\d.,])32 is not longer than compose\.length 32"):
        planned(folder, "train.longer.length=32")


def test_a_changed_file_is_a_new_corpus(tmp_path: Path) -> None:
    tiny.recipe(tmp_path)
    make(tmp_path, ("ingest",))
    assert planned(tmp_path)["ingest"] == "stored"
    with next((tmp_path / "texts").iterdir()).open("a") as file:
        file.write(" One more sentence.")
    assert planned(tmp_path)["ingest"] != "stored"


def key_of(recipe: Recipe, folder: Path, name: str) -> dict[str, object]:
    nodes: dict[str, Node] = {node.name: node for node in dag.nodes(recipe, folder / "downloads")}
    return nodes[name].config


def test_placement_never_enters_a_config(folder: Path) -> None:
    recipe = load_pretraining(folder / "tiny.yaml")
    other = load_pretraining(
        folder / "tiny.yaml",
        overrides=["placement.workers=2", "placement.zero=3", "placement.micro_batch=2", "placement.compile=true"],
    )
    for name in ("ingest", "tokenizer", "shards", "pretrain", "verbs", "report"):
        assert key_of(recipe, folder, name) == key_of(other, folder, name)
