"""Few-shot answers are those of a naive harness, nothing is trained, and tasks that cannot be meant are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream.few_shot import rules, task_file
from pipeline.downstream.few_shot.job import Config, needs, pool_of, remarks, settings
from pipeline.downstream.few_shot.prompts import context, in_order, shots_of
from pipeline.downstream.few_shot.trials import Trials, weights_digest
from pipeline.recipe.load import load as load_recipe
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.job_checks import table, whole_report
from tests.training.inference import writers
from training.inference.language_model import open_language_model
from training.inference.likelihood import Likelihood

TRAIN = [("a cat on a mat", 0), ("the dog sat", 1), ("on a log", 1), ("what they said", 0), ("a dog and a cat", 1)]
TEST = [("the cat sat", 0), ("a log and a dog  ", 1), ("on and on " * 9, 0), ("é à 中", 1), ("the mat", 1), ("they", 0)]
LABELLED = {
    "test": "test.jsonl", "train": "train.jsonl", "prompt": "{text}\nIt is",
    "choices": {"0": "a cat", "1": "a big dog"}, "description": "Say what it is.\n\n",
}  # fmt: skip
CHOICES = {
    "test": "choices.jsonl",
    "prompt": "Who {text}? ",
    "choices": "options",
    "label": "answer",
    "unconditional": "A:",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretraining."""
    return writers.write(tmp_path_factory.mktemp("gpt2"), "gpt2").parent


def task(folder: Path, values: dict[str, Any] = LABELLED, **changes: Any) -> Path:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = [
        {"text": "sat", "options": ["the cat", "a dog on a log", "they"], "answer": 1},
        {"text": "said it", "options": ["they", "é"], "answer": "é"},
        {"text": "is on", "options": ["a", "the dog"], "answer": "0"},
    ]
    (folder / "choices.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}, allow_unicode=True))
    return path


def job(path: Path, **values: Any) -> Config:
    return Config.model_validate({"task": "few-shot", "name": "few", "file": str(path), **values})


def pretrained(network: Path) -> Artifact:
    return Artifact("pretrain-1", network, {"files": {}}, {})


def trials(network: Path, path: Path, **values: Any) -> Trials:
    return Trials(job(path, **values), 0, task_file.load(path), pretrained(network), Context())


class Naive:
    """One request at a time, by the definitions as they are written down."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.network: Any = AutoModelForCausalLM.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def is_cut(self, before: str, continuation: str) -> bool:
        return 1 + len(self.ids(before + continuation)) > writers.POSITIONS + 1

    def score(self, before: str, continuation: str) -> tuple[float, int]:
        if spaces := len(before) - len(before.rstrip()):
            continuation, before = before[len(before) - spaces :] + continuation, before.rstrip()
        whole, given = self.ids(before + continuation), self.ids(before)
        wanted = whole[len(given) :]
        ids = [self.tokenizer.bos_token_id, *whole[: len(given)], *wanted][-(writers.POSITIONS + 1) :]
        with torch.no_grad():
            log_p = torch.log_softmax(self.network(input_ids=torch.tensor([ids[:-1]])).logits[0], -1)
        return sum(log_p[place - len(wanted), token].item() for place, token in enumerate(wanted)), len(wanted)


def naive_taken(
    naive: Naive, prompts: list[str], rows: list[Any], unconditional: str, empty: list[str]
) -> list[dict[str, int]]:
    """Choices by rule. prompts: whole; empty: whole prompts that say nothing, for each row, joined by U+0000."""
    taken = []
    for prompt, (choices, _), nothing in zip(prompts, rows, empty, strict=True):
        sums, counts = zip(*(naive.score(prompt, f" {choice}") for choice in choices), strict=True)
        prior = [naive.score(unconditional, f" {choice}")[0] for choice in choices]
        values: dict[str, Any] = {
            "acc": sums,
            "acc_norm": [log_p / len(choice) for log_p, choice in zip(sums, choices, strict=True)],
            "acc_bytes": [log_p / len(choice.encode()) for log_p, choice in zip(sums, choices, strict=True)],
            "acc_tokens": [log_p / count for log_p, count in zip(sums, counts, strict=True)],
            "acc_mutual_info": [log_p - other for log_p, other in zip(sums, prior, strict=True)],
        }
        if nothing:
            shares = []
            for text in nothing.split("\0"):
                p = [math.exp(naive.score(text, f" {choice}")[0]) for choice in choices]
                shares.append([log_p / sum(p) for log_p in p])
            mean = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
            values["acc_calibrated"] = [math.exp(log_p) / other for log_p, other in zip(sums, mean, strict=True)]
        taken.append({rule: max(range(len(scores)), key=scores.__getitem__) for rule, scores in values.items()})
    return taken


def right(taken: list[dict[str, int]], rows: list[Any]) -> dict[str, float]:
    """Accuracies by rule."""
    return {
        rule: sum(row[rule] == gold for row, (_, gold) in zip(taken, rows, strict=True)) / len(rows)
        for rule in taken[0]
    }


@pytest.mark.parametrize(("shots", "draw"), [(0, "row"), (2, "row"), (2, "seed")])
def test_labels_are_chosen_as_one_by_one(shots: int, draw: Any, network: Path, tmp_path: Path) -> None:
    path = task(tmp_path)
    asked = trials(network, path, shots=[shots], seeds=1, draw=draw, models=["pretrained"], write=False)
    [cell] = asked.run()
    words = ("a cat", "a big dog")
    prompts, empty, before_rows = [], [], []
    for place, (text, _) in enumerate(TEST):
        own = task_file.Question(f"{text}\nIt is", ())
        drawn = shots_of(asked.pool, shots, "seed 0" + (f" row {place}" if draw == "row" else ""), 0, own)
        before = "Say what it is.\n\n" + "".join(f"{shot.prompt} {words[shot.gold]}\n\n" for shot in drawn)
        before_rows.append(drawn)
        prompts.append(f"{before}{text}\nIt is")
        empty.append("\0".join(f"{before}{nothing}\nIt is" for nothing in ("N/A", "", "[MASK]")))
    rows = [(words, label) for _, label in TEST]
    naive = Naive(network / "model")
    wanted = naive_taken(naive, prompts, rows, "", empty)
    taken, _ = asked._chosen(Likelihood(writers.opened(network / "model")), prompts, before_rows)
    assert taken == wanted and len({tuple(row.values()) for row in taken}) > 1
    assert cell["scores"] == right(wanted, rows)
    assert set(cell["scores"]) == set(rules.RULES)
    assert cell["cut"]["chosen"] == sum(any(naive.is_cut(prompt, f" {word}") for word in words) for prompt in prompts)
    assert bool(cell["cut"]["chosen"]) == bool(shots)  # the network has few positions
    assert cell["rows"] == len(TEST)


def test_multiple_choice_is_chosen_as_one_by_one(network: Path, tmp_path: Path) -> None:
    path = task(tmp_path, CHOICES)
    [cell] = trials(network, path, shots=[0], models=["pretrained"], write=False).run()
    data = task_file.load(path)
    assert [row.gold for row in data.test] == [1, 1, 0] and not data.has_labels
    rows = [(row.choices, row.gold) for row in data.test]
    taken = naive_taken(Naive(network / "model"), [row.prompt for row in data.test], rows, "A:", [""] * 3)
    assert cell["scores"] == right(taken, rows) and "acc_calibrated" not in cell["scores"]


def test_answers_are_written_and_compared(network: Path, tmp_path: Path) -> None:
    model = writers.opened(network / "model")
    prompts = [f"{text}\nIt is" for text, _ in TEST[:2]]
    wanted = []
    for prompt in prompts:  # what it will say
        ids = [model.bos, *model.plain_ids(prompt)]
        out = model.network.generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False, pad_token_id=0)[0].tolist()
        wanted.append(model.text_after(ids, [token for token in out[len(ids) :] if token != model.eos]).split("\n")[0])
    assert all(text.strip() for text in wanted)
    lines = [{"text": TEST[0][0], "label": ["no", f" {wanted[0]} "]}, {"text": TEST[1][0], "label": f"{wanted[1]}!"}]
    path = task(tmp_path, {"test": "free.jsonl", "prompt": "{text}\nIt is"})
    (tmp_path / "free.jsonl").write_text("\n".join(map(json.dumps, lines)))
    [cell] = trials(network, path, shots=[0], models=["pretrained"], max_new_tokens=5).run()
    assert cell["scores"] == {"exact_match": 0.5}
    assert [example["written"] for example in cell["shown"]] == wanted


def test_each_rule_can_take_another_choice() -> None:
    choices = ["ab", "éééé", "c d e f g"]
    taken = rules.chosen(
        choices, [-2.0, -3.0, -4.4], [1, 3, 4], [-1.0, -2.5, -4.2], [[-0.1, -3.0, -2.0], [-0.1, -2.0, -3.0]]
    )
    # per character −1, −.75, −.49; per byte −1, −.375, −.49; per token −2, −1, −1.1; minus the prior −1, −.5, −.2
    assert taken == {
        "acc": 0, "acc_norm": 2, "acc_bytes": 1, "acc_tokens": 1, "acc_mutual_info": 2, "acc_calibrated": 1,
    }  # fmt: skip
    p = np.exp([-2.0, -3.0, -4.4]) / np.exp([-2.0, -3.0, -4.4]).sum()
    empty = [np.exp(row) / np.exp(row).sum() for row in ([-0.1, -3.0, -2.0], [-0.1, -2.0, -3.0])]
    assert taken["acc_calibrated"] == int(np.argmax(p / np.mean(empty, 0)))
    assert rules.chosen(["a", "b"], [-1.0, -1.0], [1, 1], [0.0, 0.0])["acc"] == 0
    assert rules.chosen(["a", "b"], [-9000.0, -9001.0], [1, 1], [0.0, 0.0], [[0.0, -9000.0]])["acc_calibrated"] == 1
    assert rules.exact_match(" b\n", ["a", "b "]) and not rules.exact_match("b.", ["b"])


def test_shots_are_others_nested_and_named_by_keys() -> None:
    pool = [task_file.Question(f"{number}", (f"a{number}",)) for number in range(20)] + [
        task_file.Question("3", ("b",))
    ] * 9
    own = pool[3]
    drawn = {seed: shots_of(pool, 8, f"seed {seed}", 0, own) for seed in range(4)}
    for shots in drawn.values():
        assert len(shots) == 8 and all(shot.prompt != "3" for shot in shots)
    assert shots_of(pool, 3, "seed 1", 0, own) == drawn[1][:3]
    assert len({tuple(shot.prompt for shot in shots) for shots in drawn.values()}) == 4
    assert shots_of(pool, 8, "seed 1", 1, own) != drawn[1]
    assert len(shots_of(pool, 29, "seed 1", 0, own)) == 19
    other = in_order(drawn[0], 1, "seed 0", 0)
    assert other != drawn[0] == in_order(drawn[0], 0, "seed 0", 0) and sorted(map(hash, other)) == sorted(
        map(hash, drawn[0])
    )
    made = task_file.Task.model_validate(
        {"test": "", "prompt": "", "delimiter": "=", "between": "|", "description": ">"}
    )
    assert context(made, pool[:2], "2") == ">0=a0|1=a1|2"


def test_a_whole_job_reports_and_trains_nothing(network: Path, tmp_path: Path) -> None:
    path = task(tmp_path)
    config = job(path, shots=[0, 2], seeds=2, orders=2, rows=5, max_new_tokens=3).model_dump(mode="json")
    before = (network / "model" / "model.safetensors").read_bytes()
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    summary = job_stage.run(
        {"job": config, "version": 1, "seed": 0, "contents": {}}, {"pretrained": pretrained(network)}, out, Context()
    )
    assert (network / "model" / "model.safetensors").read_bytes() == before
    report = whole_report(Artifact("job-1", out, {"summary": summary, "config": {"job": config}}, {}))
    accuracy = table(report, "Accuracy")
    assert [row[0] for row in accuracy.rows] == ["**pretrained**"] * 2 + ["scratch"] * 2 + [
        "most frequent answer",
        "guess",
    ]
    assert "±" in accuracy.rows[1][2] and "±" not in accuracy.rows[0][2]  # without shots nothing is drawn
    cells = report.notes["cells"]
    assert len(cells) == 2 * (1 + 2 * 2)
    of_two = [cell["scores"]["acc"] for cell in cells if (cell["model"], cell["shots"]) == ("pretrained", 2)]
    assert report.numbers["acc/pretrained_2"] == pytest.approx(np.mean(of_two))
    scored = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert report.numbers["acc/guess"] == 0.5 and 0 <= report.numbers["acc/most frequent answer".replace(" ", "-")] <= 1
    assert report.notes["rows"] == 5 < len(scored)
    assert table(report, "acc by seed").rows and table(report, "Answers").rows
    assert "random weights" in report.verdict and "chance" in report.verdict


def test_a_weight_that_changes_is_found(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = trials(network, task(tmp_path), shots=[0], models=["pretrained"])

    def trained(self: Any, likelihood: Any, of: Any) -> dict[str, Any]:
        likelihood.model.network.lm_head.weight.data[0, 0] += 1e-3
        return {"rows": 1, "cut": {}, "scores": {}, "shown": []}

    monkeypatch.setattr(Trials, "_cell", trained)
    with pytest.raises(RuntimeError, match="pretrained: its weights changed"):
        asked.run()


def test_random_weights_are_others_of_the_same_shape(network: Path) -> None:
    first, again = (open_language_model(network / "model", random=4).network for _ in range(2))
    own = open_language_model(network / "model").network
    assert weights_digest(first) == weights_digest(again) != weights_digest(own)
    assert {name: value.shape for name, value in first.state_dict().items()} == {
        name: value.shape for name, value in own.state_dict().items()
    }


def test_rows_of_a_whole_seed_are_no_shots(tmp_path: Path) -> None:
    path = task(tmp_path, train="test.jsonl")
    data = task_file.load(path)
    assert pool_of(job(path, draw="seed"), data) == [] and pool_of(job(path), data) == data.test
    with pytest.raises(UserError, match=r"shots asks for 4 rows, and train of .* has 0 that are no"):
        settings(SimpleNamespace(seed=0, network=None), job(path, draw="seed"), tmp_path)
    [said] = remarks(None, job(path))
    assert "6 of 6 test rows are in train, too" in said


def test_a_row_that_stands_twice_is_no_shot_of_itself(tmp_path: Path) -> None:
    path = task(tmp_path, train="test.jsonl")
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write('\n{"text": "the mat", "label": 1}\n')
    recipe = SimpleNamespace(seed=0, network=None)
    settings(recipe, job(path, shots=[5]), tmp_path)
    with pytest.raises(UserError, match=r"asks for 6 rows, and train of .* has 5 that are not the row that is asked"):
        settings(recipe, job(path, shots=[6]), tmp_path)


def test_prompts_are_cut_apart_for_choices_and_for_what_is_written(network: Path, tmp_path: Path) -> None:
    positions = open_language_model(network / "model").length
    assert positions is not None
    values: dict[str, Any] = {"shots": [0], "seeds": 1, "models": ["pretrained"], "write": True}
    [cell] = trials(network, task(tmp_path), max_new_tokens=positions - 2, **values).run()
    assert cell["cut"]["written"] == len(TEST) > cell["cut"]["chosen"]
    with pytest.raises(UserError, match=f"max_new_tokens: {positions} leaves prompts no room in the {positions} pos"):
        trials(network, task(tmp_path), max_new_tokens=positions, **values).run()
    recipe = load_recipe("gpt", "tiny", [])
    most = recipe.network.config["n_positions"]
    with pytest.raises(UserError, match=rf"max_new_tokens: {most} leaves prompts no room \({most + 1} exceeds"):
        settings(recipe, job(task(tmp_path), max_new_tokens=most), tmp_path)


def test_rows_and_settings_that_are_not_used_are_told(tmp_path: Path) -> None:
    path = task(tmp_path, ignore=["-"], metrics=["mcc"], max_rejects=1)
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write('\n{"text": "a dog", "label": "-"}\n{"text": "a mat", "label": 2}\n')
    assert len(task_file.load(path).test) == len(TEST)
    of_file, ignored, unfit = remarks(None, job(path))
    assert of_file.endswith("metrics of task.yaml is not used: test is scored, by accuracy")
    assert ignored.endswith("rows with an ignored label, left out: 1 (test.jsonl:7)")
    assert unfit.endswith("test.jsonl line 8: the label '2' in 'label'; allowed: 0, 1)")


def test_the_key_holds_what_the_files_hold(tmp_path: Path) -> None:
    path, recipe = task(tmp_path), SimpleNamespace(seed=3, network=None)
    before = settings(recipe, job(path), tmp_path)
    assert before["seed"] == 3 and len(before["contents"]) == 3
    (tmp_path / "train.jsonl").write_text((tmp_path / "train.jsonl").read_text().replace("mat", "log"))
    assert settings(recipe, job(path), tmp_path) != before


def test_what_the_recipe_must_be(tmp_path: Path) -> None:
    path = task(tmp_path)
    assert not list(needs(load_recipe("gpt", None, []), job(path)))
    [(where, text)] = needs(load_recipe("bert", None, []), job(path))
    assert where == "network.architecture" and "writes on from a prompt" in text
    assert not list(needs(load_recipe("bert", None, []), job(path, models=[str(tmp_path)])))
    assert [where for where, _ in needs(load_recipe("gpt", None, []), job(path, shots=[-1, 2, 2]))] == [".shots"] * 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"prompt": "no field"}, "prompt: has no field of a row in braces"),
        ({"prompt": "{text.__class__}"}, "has no 'text.__class__'"),
        ({"prompt": "{text"}, "prompt: '{text' has a single {; write names of columns in braces"),
        ({"prompt": "{text} {label}"}, "prompt: 'label' is the column with the answer; leave it out"),
        ({"prompt": "{body}"}, "line 1: has no 'body', which task.yaml names; it has text, label"),
        ({"choices": {"0": "a"}}, "choices: 1 is no choice"),
        ({"choices": {"0": "a", "1": "a"}}, "two labels have the same words"),
        ({"choices": {"0": " ", "1": "a"}}, "choices: '0' has no words"),
        ({"choices": {True: "a", "1": "b"}}, "put both in quotes"),
        ({"choices": {"0": "a", "2": "b"}}, "line 2: the label '1' in 'label'; allowed: 0, 2"),
        ({"choices": "text"}, "line 1: 'text' is no list of two choices"),
        ({"test": "nowhere.jsonl"}, "nowhere.jsonl cannot be read"),
        ({"tset": "x"}, "tset: unknown key; "),
        ({"until": "x"}, "until: found 'x'"),
        ({"until": ["\n", ""]}, "until: an empty text stands at the beginning of every answer"),
        ({"description": "\ud800"}, "task.yaml: '.ud800' has half of a surrogate pair"),
    ],
)
def test_tasks_that_cannot_be_meant_are_refused(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text) as caught:
        task_file.load(task(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "holds no settings"), (b"- a", "holds no settings"), (b"a: [", "is no YAML"), (b"a: \xff", "is no YAML")],
)
def test_files_that_are_no_task_are_refused(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_bytes(content)
    with pytest.raises(UserError, match=text):
        task_file.load(tmp_path / "task.yaml")
    with pytest.raises(UserError, match="is not there; name the file of a task"):
        task_file.load(tmp_path / "none.yaml")


def test_labels_of_choices_are_read_alike_in_all_rows_or_as_labels_say(tmp_path: Path) -> None:
    files = {"choices.jsonl": [2, "1"], "train.jsonl": [4]}
    path = task(tmp_path, CHOICES, train="train.jsonl")
    for name, answers in files.items():
        lines = [json.dumps({"text": "is it", "options": ["1", "2", "3", "4"], "answer": answer}) for answer in answers]
        (tmp_path / name).write_text("\n".join(lines))
    data = task_file.load(path)
    assert [row.gold for row in (*data.test, *data.train)] == [1, 0, 3] and data.test[0].answers == ("2",)
    given = yaml.safe_load(path.read_text())
    (tmp_path / "coded.yaml").write_text(yaml.safe_dump({**given, "labels": {"1": 2, "2": 3, "4": 0}}))
    data = task_file.load(tmp_path / "coded.yaml")
    assert [row.gold for row in (*data.test, *data.train)] == [3, 2, 0]
    (tmp_path / "train.jsonl").write_text((tmp_path / "choices.jsonl").read_text())
    with pytest.raises(
        UserError, match=r"choices\.jsonl line 1: 'answer' is '2', which may be the text of a choice or"
    ):
        task_file.load(path)


def test_rows_may_be_separated_values(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text('sentence\tlabel\nso-called "good" film \t1\nbad\t0\n')
    path = task(tmp_path, {"test": "test.tsv", "prompt": "{sentence}:", "choices": {"0": "bad", "1": "good"}})
    assert [(row.prompt, row.gold) for row in task_file.load(path).test] == [
        ('so-called "good" film :', 1),
        ("bad:", 0),
    ]
    named = {"test": "test.tsv", "prompt": "{sentence}:", "labels": {"0": "bad", "1": "good"}}  # as for fine-tuning
    data = task_file.load(task(tmp_path, named))
    assert data.has_labels and [row.choices for row in data.test] == [("bad", "good")] * 2
    with (tmp_path / "options.csv").open("w") as file:
        file.write('text,options,answer\nwho,"[""a"", ""b""]",1\n')
    [row] = task_file.load(task(tmp_path, CHOICES, test="options.csv")).test
    assert (row.choices, row.gold) == (("a", "b"), 1)
