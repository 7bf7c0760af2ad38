"""Files of others are opened in one place; nothing else calls what runs code, looks names up, or believes headers."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep import OFFLINE

ROOT = Path(__file__).parent.parent
FOLDERS = ("data_prep", "training", "pipeline", "flows", "infra")
OPENING = "data_prep/opening/"
CHILD = "data_prep/text/bounded.py"  # pickles between a process and its own child, never from a file
SERVED = "pipeline/tracking/served_encoder.py"  # is copied beside a model, where none of our modules are
SAFE = {"trust_remote_code": False, "local_files_only": True}
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}
OPENERS = {"from_pretrained", "load_file", "safe_open", "hf_hub_download", "snapshot_download"}
LOADERS = {("torch", "load"), ("torch", "jit"), ("torch", "hub"), ("np", "load"), ("numpy", "load"), ("joblib", "load"),
           ("pickle", "load"), ("pickle", "loads"), ("pd", "read_pickle")}  # fmt: skip
BUILDERS = {"from_config", "for_model"}  # of settings, not of files


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a module uses that opens files of others, in words."""
    of_auto: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in OPENERS:
                yield node.attr, node
            elif (owner, node.attr) in LOADERS or (node.attr == "from_file" and owner.endswith("Tokenizer")):
                yield f"{owner}.{node.attr}", node
            if owner.startswith("Auto") and node.attr in BUILDERS:
                of_auto.add(id(node.value))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            names = [alias.name for alias in node.names]
            yield from ((f"import {module}", node) for module in modules if module.split(".")[0] in UNPICKLING)
            if isinstance(node, ast.ImportFrom):
                yield from ((f"import {name}", node) for name in names if name in OPENERS)
                if (node.module or "") in ("torch", "numpy", "joblib") and "load" in names:
                    yield f"import {node.module}.load", node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            yield node.func.id, node
        elif isinstance(node, ast.keyword):
            if node.arg in ("allow_pickle", "trust_remote_code") and getattr(node.value, "value", None) is not False:
                yield f"{node.arg}=True", node
            if node.arg == "weights_only" and getattr(node.value, "value", None) is not True:
                yield "weights_only=False", node
        elif isinstance(node, ast.Constant) and node.value in OPENERS:
            yield f"the name {node.value!r}", node
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and re.match("Auto[A-Z]", node.id) and id(node) not in of_auto:
            yield node.id, node


def places(file: str, text: str) -> list[str]:
    return [f"{file}:{getattr(node, 'lineno', 0)}: {what}" for what, node in calls(ast.parse(text))]


def test_nothing_else_opens_files_of_others() -> None:
    offences = [
        place
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not (file := str(path.relative_to(ROOT))).startswith(OPENING) and file not in (CHILD, SERVED)
        for place in places(file, path.read_text())
    ]
    assert not offences, "use data_prep.opening:\n" + "\n".join(offences)


@pytest.mark.parametrize("file", [f"{OPENING}pretrained.py", SERVED])
def test_what_opens_them_is_safe(file: str) -> None:
    openers = [
        node
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    ]
    assert openers
    for call in openers:
        named = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords if keyword.arg}
        if file == SERVED:
            assert SAFE.items() <= named.items(), ast.unparse(call)
            assert named.get("use_safetensors") or "Tokenizer" in ast.unparse(call.func)
        else:
            assert any(keyword.arg is None and ast.unparse(keyword.value) == "SAFE" for keyword in call.keywords)


def test_the_settings_are_those() -> None:
    from data_prep.opening.pretrained import SAFE as SETTINGS

    assert SETTINGS == SAFE


@pytest.mark.parametrize(
    "text",
    [
        "from transformers import AutoModel\nAutoModel.from_pretrained('x')",
        "from transformers import AutoTokenizer as A\nA.from_pretrained('x')",
        "import transformers\ngetattr(transformers, 'AutoModel').from_pretrained('x')",
        "import transformers\ngetattr(transformers.AutoModel, 'from_pretrained')('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "from torch import load",
        "import pickle",
        "from joblib import load",
        "import numpy as np\nnp.load('x')",
        "from safetensors.torch import load_file",
        "from safetensors import safe_open",
        "from tokenizers import Tokenizer\nTokenizer.from_file('x')",
        "from transformers import AutoProcessor\nopener = AutoProcessor",
        "eval('1')",
    ],
)
def test_each_way_around_is_seen(text: str) -> None:
    assert places("a.py", text)


def test_building_by_settings_is_no_opening() -> None:
    text = "from transformers import AutoModel, AutoConfig\nAutoModel.from_config(AutoConfig.for_model('bert'))"
    assert not places("a.py", text)


@pytest.mark.parametrize("first", ["flows.cli", "data_prep.errors", "training.launch", "pipeline.execute"])
def test_hubs_are_offline_whatever_a_process_imports_first(first: str) -> None:
    code = f"import {first}; from huggingface_hub import constants; print(constants.HF_HUB_OFFLINE)"
    environment = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "True"
