"""`sesame embed`: the vectors of a file in its order, as the network and its folder give them, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from data_prep.errors import UserError
from data_prep.kinds import kind_of
from data_prep.labelled.examples import Example
from data_prep.sound.frames import FramesConfig, Scale, frames
from data_prep.tokens.cleaning import Cleaning
from flows.cli import app
from flows.inference import embedder
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.heads import Layout, Shape
from tests.data_prep.sound.recordings import RATE, tone, written
from tests.training.inference import writers
from training.inference.networks.text import open_trainable
from training.models.frame_network import FrameNetwork, save_network
from training.objectives.fine_tuning import FineTuning

TEXTS = ["a b", "c", "d d d a b c", "", "b", "a c d", "c c c c"]
POSITIONS = 12


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=8, max_position_embeddings=POSITIONS, initializer_range=0.5, **sizes))
    model.save_pretrained(folder)
    vocabulary = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"])}
    inner = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


def run(*arguments: Any) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["embed", *map(str, arguments), "--json"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout.splitlines()[-1])


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all().to_pylist()


def states(network: Path, text: str, layer: int = -1) -> torch.Tensor:
    """Hidden states of one text alone, [L, D], by `transformers`."""
    ids = [2, *("__ab cd".index(letter) + 2 - (letter > "b") for letter in text.split()), 3]
    model = AutoModel.from_pretrained(network, local_files_only=True)
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_vectors_are_the_networks_in_the_order_of_the_file(
    network: Path, file: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "ROWS", 3)
    out = tmp_path / f"out{suffix}"
    about = run(network, file, "--out", out, "--text")
    rows = rows_of(out)
    assert [row["row"] for row in rows] == list(range(1, 8))
    assert [row["text"] for row in rows] == [text or None for text in TEXTS]
    for row in rows:
        if row["text"] is None:
            assert row["vector"] is None
        else:
            assert row["vector"] == pytest.approx(states(network, row["text"]).mean(0).tolist(), abs=1e-5)
    assert (about["rows"], about["pooling"], about["declared"]) == (7, "mean", "its folder says nothing")
    assert about["remarks"] == ["rows without content, which have no vector: 1 (texts.txt:4)"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, out.name])


def test_poolings_layers_and_lengths_are_as_asked(network: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.arrow"
    for pooling, place in (("cls", 0), ("last", -1)):
        run(network, file, "--out", out, "--pooling", pooling, "--layer", 1)
        assert rows_of(out)[2]["vector"] == pytest.approx(states(network, TEXTS[2], 1)[place].tolist(), abs=1e-5)
    run(network, file, "--out", out, "--normalize")
    norms = [np.linalg.norm(row["vector"]) for row in rows_of(out) if row["vector"]]
    assert norms == pytest.approx([1] * 6, abs=1e-5)
    about = run(network, file, "--out", out, "--length", 4)
    assert about["remarks"][0] == "texts of over 4 tokens, which are cut: 3 (texts.txt:3, texts.txt:6, texts.txt:7)"
    assert rows_of(out)[2]["vector"] == pytest.approx(states(network, "d d").mean(0).tolist(), abs=1e-5)
    run(network, file, "--out", out, "--precision", "bf16")
    exact = states(network, TEXTS[2]).mean(0).numpy()
    rough = np.array(rows_of(out)[2]["vector"])
    assert 0 < np.abs(rough - exact).max() < 0.1, "bf16 is near, and is not the same"


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}]
)
def test_a_folder_of_sentence_transformers_says_how(
    network: Path, file: Path, tmp_path: Path, pooling: dict[str, Any]
) -> None:
    folder, out = tmp_path / "network", tmp_path / "out.arrow"
    shutil.copytree(network, folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    about = run(folder, file, "--out", out)
    assert (about["pooling"], about["declared"], about["normalize"], about["length"]) == (
        "cls", "as its folder says", True, 4,
    )  # fmt: skip
    assert about["remarks"][0] == "the network's folder also names Dense, which is not computed here"
    first = states(network, "a b")[0]
    assert rows_of(out)[0]["vector"] == pytest.approx((first / first.norm()).tolist(), abs=1e-5)
    (folder / "modules.json").write_text("{")
    with pytest.raises(UserError, match=r"modules.json: describes no modules"):
        run(folder, file, "--out", out)


def test_a_fine_tuned_networks_vectors_give_the_scores_of_its_evaluation(
    network: Path, file: Path, tmp_path: Path
) -> None:
    objective = FineTuning(open_trainable(network), "class", 2, "cls")
    shape, layout = Shape("class", ("no", "yes")), Layout(8, 2)
    made = exported.FineTuned(objective, shape, layout, network, "cls", False, Cleaning(), "fp32", {"head": "class"})
    exported.save(tmp_path / "job" / "fine-tuned", made)
    about = run(tmp_path / "job", file, "--out", tmp_path / "out.arrow")
    assert (about["pooling"], about["declared"], about["length"]) == ("cls", "as it was fine-tuned", 8)
    vectors = np.array([row["vector"] for row in rows_of(tmp_path / "out.arrow") if row["vector"]])
    layer = objective.network.classifier
    scores = torch.from_numpy(vectors).float() @ layer.weight.T + layer.bias
    wanted = made.predict([Example(text=text) for text in TEXTS if text])
    assert scores.argmax(-1).tolist() == wanted.answers
    assert scores.softmax(-1).max(-1).values.tolist() == pytest.approx(wanted.scores, abs=1e-6)


def test_neighbours_are_the_nearest_and_never_the_row_itself(network: Path, file: Path, tmp_path: Path) -> None:
    out, found = tmp_path / "out.arrow", tmp_path / "found.parquet"
    file.write_text("a b\nc\na b\nd d\na b\n")
    run(network, file, "--out", out, "--nearest", 2, "--neighbours", found)
    vectors = np.array([row["vector"] for row in rows_of(out)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -2)
    rows = rows_of(found)
    assert [(row["query"], row["rank"]) for row in rows] == [(str(q), r) for q in range(1, 6) for r in (1, 2)]
    assert all(row["query"] != row["neighbour"] for row in rows)
    best = np.sort(similarities, axis=1)[:, ::-1][:, :2]
    assert [row["similarity"] for row in rows] == pytest.approx(best.ravel().tolist(), abs=1e-5)
    (tmp_path / "asked.jsonl").write_text('{"text": "d d", "name": "q"}\n')
    file.write_text("".join(f'{{"text": "{text}", "name": "{text} it"}}\n' for text in ("a b", "c", "d d")))
    file.rename(tmp_path / "rows.jsonl")
    asked = ["--nearest", 9, "--queries", tmp_path / "asked.jsonl", "--id", "name"]
    about = run(network, tmp_path / "rows.jsonl", *asked)
    assert len(about["neighbours"]) == 3 and {row["query"] for row in about["neighbours"]} == {"q"}
    assert about["neighbours"][0]["neighbour"] == "d d it"
    assert about["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "options", "text"),
    [
        ("a.txt", b"a\n\xff\n", (), r"a.txt: line 2 holds the byte 0xff"),
        ("a.txt", b"", (), "has no rows"),
        ("a.txt", b"a\n", ("--column", "x"), "has no columns"),
        ("a.txt", b"a\n", ("--pooling", "max"), "--pooling: allowed: mean, cls, last"),
        ("a.txt", b"a\n", ("--layer", "3"), "layer 3: the network has 0, its embeddings, to 2"),
        ("a.txt", b"a\n", ("--length", "99"), "positions for 12 tokens"),
        ("a.txt", b"a\n", ("--length", "2"), "--length 2: special tokens alone are 2"),
        ("a.txt", b"a\n", ("--device", "tpu"), "--device tpu: is no device; name cpu or cuda"),
        ("a.txt", b"a\n", ("--device", "cuda:99"), "--device cuda:99: (PyTorch finds no GPU|this machine has)"),
        ("a.txt", b"a\n", ("--queries", "x"), "goes with --nearest"),
        ("a.jsonl", b'{"texts": "a"}\n', (), r"a.jsonl line 1: has no 'text'.*texts"),
        ("a.jsonl", b'{"text": "a"}\n{"text": true}\n', (), r"line 2: 'text' is true"),
        ("a.jsonl", b'{"text": "a"}\nno\n', (), r"line 2 is not JSON"),
        ("a.tsv", b"text\tid\na\t1\nb\n", (), r"line 3 has 1 columns"),
        ("a.xml", b"<a/>", (), "cannot be read as labelled data"),
    ],
)
def test_what_cannot_be_embedded_is_refused_and_the_old_file_stays(
    network: Path, tmp_path: Path, name: str, content: bytes, options: tuple[str, ...], text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.arrow"
    out.write_text("older")
    with pytest.raises(UserError, match=text) as caught:
        run(network, tmp_path / name, "--out", out, *options)
    assert "\n" not in str(caught.value)
    assert out.read_text() == "older" and sorted(path.name for path in tmp_path.iterdir()) == sorted([name, out.name])


def test_a_file_of_blank_lines_has_rows_without_vectors(network: Path, tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n")
    said = run(network, tmp_path / "blank.txt", "--out", tmp_path / "out.arrow")
    assert said["rows"] == 2 and "rows without content, which have no vector: 2" in said["remarks"][0]
    assert [row["vector"] for row in rows_of(tmp_path / "out.arrow")] == [None, None]


def test_outputs_are_checked_first(network: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a file for the vectors"):
        run(network, file)
    with pytest.raises(UserError, match=r"ends in .csv; name a file that ends in .arrow or .parquet"):
        run(network, file, "--out", tmp_path / "a.csv")
    with pytest.raises(UserError, match="is where --out goes"):
        run(network, file, "--out", tmp_path / "a.arrow", "--nearest", 1, "--neighbours", tmp_path / "a.arrow")


def test_an_encoder_decoder_gives_the_states_of_its_encoder(tmp_path: Path) -> None:
    folder, texts = writers.write(tmp_path, "t5"), ["the cat", "a dog and a log sat on the mat"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    said = run(folder, tmp_path / "texts.txt", "--out", tmp_path / "out.arrow")
    assert said["pooling"] == "mean" and said["width"] == 32
    model = AutoModel.from_pretrained(folder, local_files_only=True).get_encoder()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text, row in zip(texts, rows_of(tmp_path / "out.arrow"), strict=True):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)
        assert np.allclose(row["vector"], alone.numpy(), atol=1e-4)


def of_sound(folder: Path) -> FrameNetwork:
    """An encoder of frames of three bands, in a folder."""
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=2, max_position_embeddings=8, intermediate_size=16, **sizes)
        network = FrameNetwork(config, 3).eval()
    save_network(folder, network)
    return network


def test_rows_of_frames_have_vectors_of_a_network_of_sound(tmp_path: Path) -> None:
    network = of_sound(tmp_path / "network")
    generator = np.random.default_rng(0)
    sounds = [generator.normal(size=(length, 3)).astype(np.float32) for length in (4, 1, 7)]
    lines = [json.dumps({"name": f"s{number}", "frames": sound.tolist()}) for number, sound in enumerate(sounds)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, '{"name": "none", "frames": []}']) + "\n")
    asked = ("--column", "frames", "--id", "name", "--out", tmp_path / "out.arrow")
    said = run(tmp_path / "network", tmp_path / "rows.jsonl", *asked)
    *rows, last = rows_of(tmp_path / "out.arrow")
    assert (said["rows"], said["width"], last["vector"]) == (4, 16, None)
    for sound, row in zip(sounds, rows, strict=True):
        with torch.no_grad():
            states = network.encode(torch.from_numpy(sound)[None], torch.ones(1, len(sound), dtype=torch.int64))[0]
        assert np.allclose(row["vector"], states.mean(0).numpy(), atol=1e-5)
    (tmp_path / "long.jsonl").write_text(json.dumps({"name": "long", "frames": [[0.0] * 3] * 9}) + "\n")
    with pytest.raises(UserError, match=r"has 9 positions, and the network 8; cut it"):
        run(tmp_path / "network", tmp_path / "long.jsonl", *asked)


def test_recordings_are_read_as_the_folder_of_a_network_of_sound_says(tmp_path: Path) -> None:
    config = FramesConfig(bands=3, length=8)
    network = of_sound(tmp_path / "network")
    scale = Scale.fit([frames(tone(0.3), RATE, config)], RATE, config)
    asked = (tmp_path / "network", tmp_path / "rows.tsv", "--column", "path", "--out", tmp_path / "out.arrow")
    written(tmp_path / "clips" / "a.wav", 300, 0.07)
    (tmp_path / "rows.tsv").write_text("path\tother\nclips/a.wav\t1\n")
    with pytest.raises(UserError, match=r"line 2: 'path' is \"clips/a.wav\"; expected any number × 3 numbers"):
        run(*asked)  # its folder does not say how recordings become frames
    scale.save(tmp_path / "network")
    run(*asked)
    (row,) = rows_of(tmp_path / "out.arrow")
    values = torch.from_numpy(kind_of("sound").file_reader(tmp_path / "network")(tmp_path / "clips" / "a.wav"))
    with torch.no_grad():
        states = network.encode(values[None], torch.ones(1, len(values), dtype=torch.int64))[0]
    assert len(values) == 5 and np.allclose(row["vector"], states.mean(0).numpy(), atol=1e-5)
    (tmp_path / "rows.tsv").write_text("path\tother\nclips/b.wav\t1\n")
    with pytest.raises(UserError, match=rf"line 2: b.wav is not there; give the path of a file, from {tmp_path} on"):
        run(*asked)
