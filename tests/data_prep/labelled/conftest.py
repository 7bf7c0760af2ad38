from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.labelled.examples import Labelled
from data_prep.labelled.loading import load_task

Load = Callable[..., Labelled]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write files (rows as JSON lines, or texts) and a task file that names them, and load it."""

    def written(files: dict[str, Any], **settings: Any) -> Labelled:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, list):
                content = "\n".join(json.dumps(row, ensure_ascii=False) for row in content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path = tmp_path / "task.yaml"
        path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
        return load_task(path)

    return written
