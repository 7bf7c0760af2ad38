"""A network that exists goes on with other texts: what is trained, what is told of it, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_prep.errors import UserError
from data_prep.tokens.tokenizers import specials
from data_prep.tokens.vocabulary import extension
from pipeline import dag, start_from
from pipeline.artifact import MODEL, Artifact
from pipeline.recipe.load import load, load_pretraining
from pipeline.records import read_records
from pipeline.reports.report import read
from pipeline.stage import Context
from pipeline.stages.job import JOB
from pipeline.store.store import Store
from tests.pipeline import tiny, tiny_predictions
from training.job import METRICS

WAYS = ("masked", "causal", "sequence")
MORE = 6
NEW_WORDS = ["kubernetes", "daemon", "restarts", "container", "scheduler", "namespace"]


def carried_out(folder: Path, path: str | Path, *settings: str) -> dict[str, Artifact]:
    """All nodes of a recipe, in a store of the folder."""
    recipe, store, artifacts = load(path, None, settings), Store(folder / "store"), dict[str, Artifact]()
    for node in dag.nodes(recipe, folder / "downloads"):
        context = Context(
            downloads=folder / "downloads", placement=recipe.placement.model_dump(mode="json"), files=node.files
        )
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts


def new_texts(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(16):
        words = [NEW_WORDS[(number + place * place) % len(NEW_WORDS)] for place in range(160)]
        lines = [f"The {' '.join(words[start : start + 4])}." for start in range(0, 160, 4)]
        (folder / f"manual-{number:02d}.txt").write_text(" ".join(lines))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adaptation")


class Networks(dict[str, Path]):
    """Folders of small networks, trained for a few steps when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, way: str) -> Path:
        path = tiny_predictions.recipe(self.folder, way, steps=20)
        self[way] = carried_out(self.folder, path, "downstream=[]")["pretrain"].path / MODEL
        return self[way]


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return Networks(folder)


def recipe(folder: Path, way: str, network: Path, name: str = "goes-on") -> Path:
    """A recipe that goes on with manuals, and measures what is forgotten of the old texts."""
    old, new = tiny.corpus(folder / "texts", documents=30), new_texts(folder / "manuals")
    sections = {
        name: text for name, text in tiny_predictions.SECTIONS[way].items() if name not in ("network", "tokenizer")
    }
    roles = tiny_predictions.SECTIONS[way]["tokenizer"].partition("roles: ")[2].partition("]")[0]
    more = [f"roles: {roles}]", "sentinels: 20"] if way == "sequence" else []  # others: those of the folder
    tokenizer = f"{{{', '.join(['kind: pretrained', f'add: {MORE}', *more])}}}"
    sources = f"[{{path: {new}, corpus: manuals}}, {{path: {old}, corpus: old}}]"
    given = {
        "name": name,
        "data": f"{{kind: text, sources: {sources}, split: {{validation: 0.3, test: 0.05}}}}",
        **sections,
        "tokenizer": tokenizer,
        "order": "{weights: {manuals: 1.0, old: 0.0}}",
        "train": f"{{global_batch: 16, steps: 30, lr: 1e-2, warmup_steps: 5, log_every: 10, precision: fp32, "
        f"evaluate_every: 15, start: {{folder: {network}}}}}",
        "downstream": "[{name: told, task: adaptation, rows: 200}]",
        "placement": "{threads: 1}",
    }
    path = folder / f"{name}-{way}.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in given.items()) + "\n")
    return path


@pytest.mark.parametrize("way", WAYS)
def test_a_network_goes_on_with_other_texts(way: str, folder: Path, networks: dict[str, Path]) -> None:
    path = recipe(folder, way, networks[way])
    made = carried_out(folder, path)
    added = extension.read(made["tokenizer"].path)
    assert added is not None and len(added.pieces) == made["tokenizer"].summary["added"] == MORE
    before, after = (specials(place) for place in (networks[way], made["tokenizer"].path))
    assert after.vocabulary == before.vocabulary + MORE and after.roles == before.roles
    config = json.loads((made["pretrain"].path / MODEL / "config.json").read_text())
    assert config["vocab_size"] == after.vocabulary
    assert list(made["shards"].summary["parts"]["train"]) == ["train-manuals"], "of the old texts nothing is read"

    records = read_records(made["pretrain"].path / METRICS)
    assert records[0]["step"] == 0
    first, last = records[0], [record for record in records if "validation/loss" in record][-1]
    assert last["step"] == 30
    for source in ("manuals", "old"):
        assert first[f"validation/bits_per_byte/{source}"] > 0
    assert last["validation/bits_per_byte/manuals"] < first["validation/bits_per_byte/manuals"]

    report = read(made["told"].path)
    numbers = report.numbers
    for when, of_step in (("start", first), ("after", last)):
        for source in ("manuals", "old"):
            bits_per_byte = numbers[f"bits_per_byte/{when}/{source}"]
            assert bits_per_byte == pytest.approx(of_step[f"validation/bits_per_byte/{source}"], rel=1e-4)
    assert numbers["gain/manuals"] > 0
    assert numbers["fertility/after/manuals"] < numbers["fertility/before/manuals"]
    assert "bits_per_byte/before/old" in numbers
    assert report.tables[0].rows[0][0] == "**manuals**" and report.tables[0].rows[1][1] == "held out only"
    assert f"{MORE} new pieces" in report.verdict
    page = (made["report"].path / "report.md").read_text()
    assert "| source | read | as it was | with new pieces, untrained | trained | gain |" in page
    assert "| manuals |" in page and "| source | tokens trained on | tokens per word |" in page

    moved = load_file(made["pretrain"].path / MODEL / "model.safetensors")
    theirs = load_file(networks[way] / "model.safetensors")
    assert any(
        moved[name].shape == theirs[name].shape and not torch.equal(moved[name], theirs[name]) for name in theirs
    )


def test_what_the_network_knew_is_what_it_knows_of_texts_that_hold_no_new_piece(
    folder: Path, networks: dict[str, Path]
) -> None:
    """Without new pieces, the loss at step 0 is that of the folder's network: nothing is lost on the way."""
    path = recipe(folder, "masked", networks["masked"], "as-it-was")
    settings = ["tokenizer.add=0", "train.steps=1", "train.warmup_steps=0", "train.lr=1e-9"]
    numbers = read(carried_out(folder, path, *settings)["told"].path).numbers
    for source in ("manuals", "old"):
        start, after = (numbers[f"bits_per_byte/{when}/{source}"] for when in ("start", "after"))
        assert start == pytest.approx(after, rel=1e-4)
    assert "bits_per_byte/before/old" not in numbers, "it would be the same"


def test_the_key_has_the_contents_of_the_folder_and_not_its_place(folder: Path, networks: dict[str, Path]) -> None:
    copied = shutil.copytree(networks["masked"], folder / "elsewhere" / "model")
    nodes = [
        {node.name: node for node in dag.nodes(load(recipe(folder, "masked", place, "key")), folder)}
        for place in (networks["masked"], copied)
    ]
    assert nodes[0]["pretrain"].config == nodes[1]["pretrain"].config
    assert list(nodes[0]["pretrain"].files.values()) != list(nodes[1]["pretrain"].files.values())
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    changed = dag.nodes(load(recipe(folder, "masked", copied, "key")), folder)
    assert {node.name: node for node in changed}["pretrain"].config != nodes[0]["pretrain"].config


def refusal(path: Path, *settings: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, None, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_started_from_is_refused_in_one_sentence(
    folder: Path, networks: dict[str, Path], tmp_path: Path
) -> None:
    def changed(change: Any) -> Path:
        place = tmp_path / f"network-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(networks["masked"], place)
        change(place)
        return recipe(tmp_path, "masked", place)

    def pickled(place: Path) -> None:
        (place / "model.safetensors").unlink()
        torch.save({}, place / "pytorch_model.bin")

    def of_config(**values: Any) -> Any:
        def change(place: Path) -> None:
            config = json.loads((place / "config.json").read_text())
            (place / "config.json").write_text(json.dumps(config | values))

        return change

    assert "weights as a pickle (pytorch_model.bin), and no pickle is opened" in refusal(changed(pickled))
    assert "model.safetensors is not there" in refusal(changed(lambda place: (place / "model.safetensors").unlink()))
    assert "holds neither tokenizer.json nor vocab.txt" in refusal(changed(lambda p: (p / "tokenizer.json").unlink()))
    assert "which is none of text that transformers knows" in refusal(changed(of_config(model_type="resnet")))
    assert "153 ids, and the network in" in refusal(changed(of_config(vocab_size=100)))
    assert "its network has pad_token_id 3, and its tokenizer 0" in refusal(changed(of_config(pad_token_id=3)))
    assert "there is no such folder" in refusal(recipe(tmp_path, "masked", tmp_path / "nowhere"))

    path = recipe(tmp_path, "masked", networks["masked"])
    assert "'bert' does not predict a token from those before it alone" in refusal(
        path, "objective.name=gpt", "corruption={kind: none}", "downstream=[]"
    )
    assert "has 48, found 64; leave it out" in refusal(path, "network.config.hidden_size=64")
    assert "is 'bert', found 'roberta'" in refusal(path, "network.architecture=roberta")
    assert "has 32 positions are fewer than compose.length 64 needs; lower it" in refusal(path, "compose.length=64")
    other = path.with_name("other.yaml")
    other.write_text(path.read_text().replace(f"kind: pretrained, add: {MORE}", "kind: wordpiece"))
    assert "found 'wordpiece'; set it to pretrained" in refusal(other)
    assert "'electra' starts from no network of others" in refusal(
        path, "objective.name=electra", "corruption={kind: masked-slots}", "downstream=[]"
    )
    assert "tokenizer.path: missing" in refusal(
        path, "train.start=null", "network={architecture: bert}", "downstream=[]"
    )
    assert "takes one of experiment, folder and recipe" in refusal(path, "train.start.recipe=bert")


def test_a_job_and_a_weight_of_0_that_have_nothing_to_do(folder: Path, networks: dict[str, Path]) -> None:
    path = recipe(folder, "masked", networks["masked"], "odd")
    assert "above 0 for what is to be trained on" in refusal(path, "order.weights.manuals=0.0")
    assert "must not be below 0" in refusal(path, "order.weights.old=-1.0")
    plain = tiny_predictions.recipe(folder, "masked")
    message = refusal(plain, "downstream=[]", "downstream=[{name: told, task: adaptation}]")
    assert "compares with the network that training starts from" in message


def test_a_checkpoint_of_what_had_started_from_a_folder_goes_on_without_the_folder_s_weights(
    folder: Path, networks: dict[str, Path]
) -> None:
    """`--extend` names the checkpoint, and the folder goes on to say which network and tokenizer it is of."""
    path, store = recipe(folder, "masked", networks["masked"], "longer"), Store(folder / "store")
    schedule = ["train.schedule=constant", "train.warmup_steps=0", "train.log_every=1", "downstream=[]"]
    made = carried_out(folder, path, *schedule, "train.steps=4")["pretrain"]
    longer = [*schedule, "train.steps=6"]
    settings = start_from.extension_settings(load_pretraining(path, None, longer), store, folder / "downloads")
    assert settings == [f"train.start.experiment={made.key}", "train.start.step=4"]
    extended = carried_out(folder, path, *longer, *settings)["pretrain"]
    whole = carried_out(folder, path, *longer)["pretrain"]
    assert extended.key != whole.key
    losses = [
        {
            record["step"]: record["train/loss"]
            for record in read_records(artifact.path / METRICS)
            if "train/loss" in record
        }
        for artifact in (extended, whole)
    ]
    assert sorted(losses[0]) == [5, 6]
    assert all(losses[0][step] == losses[1][step] for step in losses[0])


def test_jobs_are_stages_of_their_own(folder: Path, networks: dict[str, Path]) -> None:
    nodes = {node.name: node for node in dag.nodes(load(recipe(folder, "masked", networks["masked"])), folder)}
    assert nodes["told"].stage.name == JOB.name and nodes["told"].files
