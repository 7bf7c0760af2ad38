"""Artifacts are made once, found again, named, explained and checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from data_prep.errors import UserError
from pipeline.artifact import checks_itself, read_manifest
from pipeline.fingerprint import digest
from pipeline.stage import Context, Stage
from pipeline.store import provenance
from pipeline.store import store as store_module
from pipeline.store.store import MANIFEST, Store
from tests.pipeline.store.stores import KEY, WRITE, fresh, write


def path_of(store: Store, key: str) -> Path:
    artifact = store.get(key)
    assert artifact is not None
    return artifact.path


# -- making and finding again -----------------------------------------------------------------------------------------


def test_an_artifact_is_made_once_and_found_again(store):
    artifact, reused = store.produce(WRITE, {"text": "a"})
    assert not reused
    again, reused = fresh(store).produce(WRITE, {"text": "a"})
    assert reused
    assert again.manifest == artifact.manifest
    assert (again.path / "deep/er/text").read_text() == "a"
    assert {path.name for path in again.path.iterdir()} == {"deep", "read", "empty"}
    assert again.summary == {"length": 1, "licences": []}
    assert again.size == 2
    assert store.verify(again) == []
    assert [listed.key for listed in store.list()] == [KEY] == store.keys()


def test_a_stage_reads_its_inputs_and_gets_a_context(store, tmp_path):
    seen = []
    parent, _ = store.produce(WRITE, {"text": "a", "licences": ["MIT"]})

    def child(config, inputs, out, context):
        seen.append((config, context))
        context.progress("half", 0.5)
        return write(config, inputs, out, context)

    lines = []
    context = Context(progress=lambda text, done=None: lines.append((text, done)), placement={"workers": 2})
    config = {"text": "b", "sizes": (1, 2), "licences": ["CC-BY-4.0"]}
    artifact, _ = store.produce(Stage("child", 1, child), config, {"parent": parent}, context)
    assert (artifact.path / "read").read_text() == "ab"
    assert lines == [("half", 0.5)]
    config_given, context_given = seen[0]
    assert config_given == artifact.config == {"text": "b", "sizes": [1, 2], "licences": ["CC-BY-4.0"]}
    assert context_given.key == artifact.key
    assert context_given.attempt == artifact.manifest["attempt"]
    assert context_given.work == store.work(artifact.key)
    assert context_given.downloads == store.downloads
    assert artifact.manifest["inputs"] == {"parent": {"key": parent.key, "digest": parent.output_digest}}
    assert artifact.manifest["provenance"]["licences"] == ["CC-BY-4.0", "MIT"]
    assert artifact.manifest["provenance"]["placement"] == {"workers": 2}
    assert artifact.manifest["provenance"]["versions"]["numpy"]


def test_the_stage_cannot_change_what_is_recorded(tmp_path):
    def mutate(config, inputs, out, context):
        config["text"] = "other"
        inputs.clear()
        return {}

    store = Store(tmp_path)
    parent, _ = store.produce(WRITE, {"text": "a"})
    artifact, _ = store.produce(Stage("mutate", 1, mutate), {"text": "a"}, {"parent": parent})
    assert artifact.config == {"text": "a"}
    assert list(artifact.manifest["inputs"]) == ["parent"]


@pytest.mark.parametrize("other", ["config", "inputs", "stage", "version"])
def test_a_key_of_two_things_is_refused(tmp_path, monkeypatch, other):
    """What is stored under a key was made of what is asked for now, or nothing is used."""
    store = Store(tmp_path)
    parents = [store.produce(WRITE, {"text": text})[0] for text in ("x", "y")]
    monkeypatch.setattr(Stage, "key", lambda *_: KEY)
    stored, reused = store.produce(WRITE, {"text": "a"}, {"x": parents[0]})
    assert not reused
    assert store.produce(WRITE, {"text": "a"}, {"x": parents[0]})[1]
    changed = {
        "config": (WRITE, {"text": "b"}, {"x": parents[0]}),
        "inputs": (WRITE, {"text": "a"}, {"x": parents[1]}),
        "stage": (Stage("other", 1, WRITE.run), {"text": "a"}, {"x": parents[0]}),
        "version": (Stage("write", 2, WRITE.run), {"text": "a"}, {"x": parents[0]}),
    }
    with pytest.raises(RuntimeError, match="is the key of two different things; raise the version of"):
        store.produce(*changed[other])
    assert store.verify(stored) == []


def test_deleting_is_the_only_invalidation(store):
    runs = []

    def count(config, inputs, out, context):
        runs.append((context.work / "checkpoint").exists())
        (context.work / "checkpoint").touch()
        (out / "file").write_text("x")
        return {}

    stage = Stage("count", 1, count)
    for _ in range(3):
        artifact, _ = store.produce(stage, {})
    assert runs == [False]
    assert store.delete(artifact.key) == 1
    assert store.get(artifact.key) is None
    assert store.list() == []
    assert not store.work(artifact.key).exists(), "a deleted artifact is made anew, not resumed"
    _, reused = store.produce(stage, {})
    assert not reused
    assert runs == [False, False]
    with pytest.raises(UserError, match="no artifact count-"):
        store.delete("count-" + "0" * 16)


def test_a_failed_stage_leaves_its_work_and_nothing_else(store):
    def fail(config, inputs, out, context):
        (out / "half").write_text("x")
        (context.work / "log").open("a").write("line\n")
        raise KeyboardInterrupt

    for count in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            store.produce(Stage("fail", 1, fail), {})
        key = Stage("fail", 1, fail).key({}, {})
        assert store.get(key) is None
        assert key not in store._files.folders()
        assert (store.work(key) / "log").read_text() == "line\n" * count
    assert {path.name for path in store.home.iterdir()} <= {".work", ".downloads", ".drafts", ".copies"}
    assert [path.name for path in (store.home / ".work").iterdir()] == [key], "no lock is left"


@pytest.mark.parametrize("summary", [None, {"loss": float("nan")}, {"path": Path("x")}, {1: 2}])
def test_a_summary_must_be_json(tmp_path, summary):
    store = Store(tmp_path)
    with pytest.raises(TypeError, match=r"summary|loss|path|key 1"):
        store.produce(Stage("bad", 1, lambda *_: summary), {})
    assert store.list() == []


def test_links_are_refused(tmp_path):
    def link(config, inputs, out, context):
        (out / "passwd").symlink_to("/etc/passwd")
        return {}

    with pytest.raises(ValueError, match="passwd: an artifact holds plain files"):
        Store(tmp_path).produce(Stage("link", 1, link), {})


def test_the_output_digest_is_of_names_and_contents_only(tmp_path):
    def make(name, content, summary):
        def run(config, inputs, out, context):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(content)
            (out / "kept").write_text("the same")
            return {"n": summary}

        return Store(tmp_path / digest([name, content, summary])).produce(Stage("s", 1, run), {})[0].output_digest

    assert make("a", "x", 1) == make("a", "x", 2)
    assert len({make("a", "x", 1), make("b", "x", 1), make("a", "y", 1)}) == 3
    for account in ("README.md", "metrics.jsonl", "figures/loss.png"):
        assert make(account, "x", 1) == make(account, "y", 1), "what tells of times is not content"
    for content in ("README.txt", "more-metrics.jsonl", "loss.png"):
        assert make(content, "x", 1) != make(content, "y", 1)


# -- names ------------------------------------------------------------------------------------------------------------


def test_resolve_wants_a_unique_prefix(store):
    keys = sorted(store.produce(WRITE, {"text": text})[0].key for text in "abc")
    assert store.resolve(keys[0]).key == keys[0]
    assert store.resolve(keys[1][:10]).key == keys[1]
    assert store.resolve(keys[2][6:12]).key == keys[2], "the hash alone will do"
    with pytest.raises(UserError, match=rf"several artifacts.*{keys[0]}, {keys[1]}, {keys[2]}"):
        store.resolve("write-")
    with pytest.raises(UserError, match=r"no artifact in .* starts with 'nothing'"):
        store.resolve("nothing")


@pytest.mark.parametrize("key", ["../secret", "write-../../x", "/etc", "", "write-0123", "Write-" + "0" * 16])
def test_what_is_not_a_key_is_refused(tmp_path, key):
    with pytest.raises(UserError, match="is not an artifact's key"):
        Store(tmp_path).get(key)


# -- why --------------------------------------------------------------------------------------------------------------


def test_why_names_what_differs_from_the_nearest_artifact(tmp_path):
    store = Store(tmp_path)
    parent, _ = store.produce(WRITE, {"text": "parent"})
    other, _ = store.produce(WRITE, {"text": "other parent"})
    stage = Stage("train", 1, lambda config, inputs, out, context: {})
    config = {"text": "", "train": {"lr": 0.1, "betas": [0.9, 0.99]}}

    def why(config=config, inputs=None, version=1):
        return store.why(Stage("train", version, stage.run), config, inputs or {"corpus": parent})

    assert why() == "never made"
    store.produce(stage, config, {"corpus": parent})
    assert why() == "stored"
    assert why({**config, "train": {"lr": 0.1, "betas": (0.9, 0.99)}}) == "stored"
    changed = {"text": "", "train": {"lr": 1, "betas": [0.9, 0.999]}}
    assert why(changed) == "train.betas [0.9, 0.99] → [0.9, 0.999]; train.lr 0.1 → 1"
    store.produce(stage, {"text": "", "train": {"lr": 1, "betas": [0.9, 0.99]}}, {"corpus": parent})
    assert why(changed) == "train.betas [0.9, 0.99] → [0.9, 0.999]", "the nearest, not the first"
    assert why(inputs={"corpus": other}) == "input corpus changed"
    assert why(inputs={"corpus": None}) == "input corpus is not made yet"
    assert why(version=2) == "version 1 → 2"
    assert why(inputs={"text": parent}) == "input corpus dropped; input text added"
    assert why({"text": ""}) == "train.betas [0.9, 0.99] → (none); train.lr 1 → (none)", "the latest of two"
    assert why({"text": "", "a": 1, "b": "x", "train": {"lr": 1.0}}, version=2) == (
        "version 1 → 2; a (none) → 1; b (none) → 'x'; and 2 more"
    )


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["read", "deep/er/text"])
def test_nothing_is_made_of_a_damaged_file(name, store):
    parent, _ = store.produce(WRITE, {"text": "abc"})
    child = Stage("child", 1, write)
    store.produce(child, {"text": "b"}, {"parent": parent})  # whole, and known to be
    path = parent.path / name
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])  # of the same size
    with pytest.raises(UserError, match=rf"{name} is damaged: its digest .*delete the artifact {parent.key}"):
        store.produce(child, {"text": "c"}, {"parent": parent})
    assert [artifact.config["text"] for artifact in store.list() if artifact.stage == "child"] == ["b"]


def test_files_that_were_whole_are_not_read_again(store, monkeypatch):
    parent, _ = store.produce(WRITE, {"text": "abc"})
    read = []
    real = store_module.file_digest
    monkeypatch.setattr(store_module, "file_digest", lambda path: read.append(path.name) or real(path))
    for _ in range(2):
        store.check_whole(parent)
    assert sorted(read) == sorted(Path(name).name for name in parent.manifest["files"])


def test_shards_check_themselves():
    assert checks_itself("train/shard-00000.arrow")
    assert not any(map(checks_itself, ("train/shard-00000.json", "rows.arrow", "model/model.safetensors")))


def test_verify_finds_every_kind_of_damage(tmp_path):
    store = Store(tmp_path)
    artifact, _ = store.produce(WRITE, {"text": "abc"})
    read, text = artifact.path / "read", artifact.path / "deep/er/text"
    read.write_text("abd")
    assert [problem.split(": ")[1] for problem in store.verify(artifact)] == ["its digest is not the manifest's"]
    read.write_text("ab")
    assert [problem.split(": ")[1] for problem in store.verify(artifact)] == ["2 bytes instead of 3"]
    text.unlink()
    (artifact.path / "extra").touch()
    problems = store.verify(artifact)
    assert len(problems) == 3
    assert any(problem == f"{text}: missing" for problem in problems)
    assert any(problem.endswith("extra: not in the manifest") for problem in problems)
    with pytest.raises(UserError, match=f"delete the artifact {artifact.key} and rerun"):
        store.produce(WRITE, {"text": "abc"})
    store.delete(artifact.key)
    assert not store.produce(WRITE, {"text": "abc"})[1]


def test_a_torn_manifest_is_damage_whatever_its_length(tmp_path):
    store = Store(tmp_path)
    artifact, _ = store.produce(WRITE, {"text": "a"})
    path = tmp_path / artifact.key / MANIFEST
    content = path.read_bytes()
    for length in range(len(content) - 1):
        with pytest.raises(UserError, match="damaged"):
            read_manifest(content[:length], artifact.key, str(path))
    path.write_bytes(content[:100])
    with pytest.raises(UserError, match=f"{path} is damaged .*; delete the artifact {artifact.key} and rerun"):
        store.produce(WRITE, {"text": "a"})
    with pytest.raises(UserError, match="is damaged"):
        store.gc(older_than=0)
    store.delete(artifact.key)
    assert not store.produce(WRITE, {"text": "a"})[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "format 1, and this version reads format 2"),
        ({"key": "write-" + "0" * 16}, "it belongs to write-0"),
        ({"attempt": "../../elsewhere"}, "not a name of ours"),
        ({"files": {"../../passwd": {"size": 1, "digest": "0"}}}, "does not stay inside"),
        ({"files": {"/etc/passwd": {"size": 1, "digest": "0"}}}, "does not stay inside"),
        ({"files": {"a//b": {"size": 1, "digest": "0"}}}, "does not stay inside"),
        ({"files": {"a\\b": {"size": 1, "digest": "0"}}}, "does not stay inside"),
        ({"files": {}}, "output digest"),
        ({"extra": 1}, "extra"),
        ({"version": "1"}, "version"),
    ],
)
def test_a_manifest_is_checked_in_full(tmp_path, change, message):
    store = Store(tmp_path)
    artifact, _ = store.produce(WRITE, {"text": "a"})
    (tmp_path / artifact.key / MANIFEST).write_text(json.dumps({**artifact.manifest, **change}))
    with pytest.raises(UserError, match=message):
        store.get(artifact.key)


def test_a_remote_copy_is_checked_when_it_is_fetched(tmp_path):
    (tmp_path / "root").mkdir()
    store = Store(fs.SubTreeFileSystem(str(tmp_path / "root"), fs.LocalFileSystem()), cache=tmp_path / "cache")
    artifact, _ = store.produce(WRITE, {"text": "abc"})
    remote = tmp_path / "root" / artifact.key / artifact.manifest["attempt"]
    (remote / "read").write_text("abd")
    assert path_of(store, artifact.key).is_dir(), "this machine's own copy is whole"
    with pytest.raises(UserError, match="read is damaged"):
        path_of(fresh(store), artifact.key)
    (remote / "read").unlink()
    with pytest.raises(UserError, match="read is missing"):
        path_of(store, artifact.key)
    assert [path.name for path in (tmp_path / "cache" / ".copies" / artifact.key).iterdir()] == []
    (remote / "read").write_text("abc")
    assert (path_of(store, artifact.key) / "read").read_text() == "abc"


def test_a_uri_shows_no_credentials():
    with pytest.raises(UserError) as caught:
        Store("nowhere://user:secret@host/folder")
    assert "secret" not in str(caught.value)


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_importing_the_store_is_cheap():
    code = (
        "import sys, pipeline.store.store, pipeline.stage;"
        "print([m for m in ('pyarrow', 'numpy', 'torch', 'ray', 'mlflow', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_store_that_cannot_be_used_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a folder"):
        Store(tmp_path / "file")
    assert Store(tmp_path / "nothing").list() == []
    assert not (tmp_path / "nothing").exists(), "reading makes nothing"

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=r"the store at .*nothing.* cannot be written: .*Permission denied"):
        Store(tmp_path / "nothing").produce(WRITE, {"text": "a"})


def test_provenance_notes_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() is None
    git("init")
    assert provenance.git_state() is None, "no commit yet"
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    state = provenance.git_state()
    assert state is not None
    assert len(state["commit"]) == 40
    assert not state["dirty"]
    (tmp_path / "file").write_text("b")
    assert provenance.git_state() == {**state, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() is None, "no git at all"
