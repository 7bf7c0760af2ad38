"""A folder of sentence-transformers says the same wherever it is copied to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.errors import UserError
from training.inference.networks import copy_others
from training.inference.sentence_folder import MODULES, SETTINGS, Declared, declared, module_contents, module_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "2_Dense" / "inner").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    (folder / MODULES).write_text(json.dumps(modules))
    (folder / SETTINGS).write_text('{"max_seq_length": 4}')
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "2_Dense" / "inner" / "config.json").write_text("{}")
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "elsewhere" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_copy_beside_new_weights_declares_what_the_folder_does(folder: Path, tmp_path: Path) -> None:
    copy_others(folder, tmp_path / "copy")
    assert declared(tmp_path / "copy") == declared(folder) == Declared("cls", True, 4, ("Dense",))
    names = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert names == {MODULES, SETTINGS, "1_Pooling/config.json", "2_Dense/inner/config.json"}
    assert module_contents(tmp_path / "copy") == module_contents(folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert module_contents(tmp_path / "copy") != module_contents(folder)


@pytest.mark.parametrize("text", ["{", "[{}]", '[{"path": 3}]', '[{"path": "../network"}, {"path": "/"}]'])
def test_nothing_is_copied_of_what_describes_no_modules_inside(folder: Path, text: str) -> None:
    (folder / MODULES).write_text(text)
    assert module_files(folder) == [] and module_contents(folder) == ""
    with pytest.raises(UserError, match="describes no modules"):
        declared(folder)
