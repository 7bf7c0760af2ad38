"""The model card of an exported model: its network, data and training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.legible import escaped
from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from training.config import NetworkConfig, ObjectiveConfig, TrainConfig
from training.models.text.architectures import architecture_of


def model_card(config: dict[str, Any], inputs: dict[str, Artifact], summary: dict[str, Any]) -> str:
    """Markdown with the metadata block that model hubs read."""
    licences = sorted(
        {
            licence
            for artifact in inputs.values()
            for licence in artifact.manifest["provenance"].get("licences", [])
            if licence
        }
    )
    shards = inputs["shards"].summary["train"]
    rows = "\n".join(f"| {escaped(name)} | {_short(value)} |" for name, value in flatten(config).items())
    sources = "\n".join(
        f"| {escaped(Path(source['source']).name)} | {escaped(_licence(source['licence']))} | {source['files']:,} "
        f"| {source['bytes']:,} "
        f"| {source['kept']:,} of {source['rows']:,} | `{source['digest'][:16]}` |"
        for source in inputs["shards"].summary.get("sources", [])
    )
    metrics = "\n".join(
        f"| {escaped(name)} | {value:.4g} |"
        for name, value in sorted(summary.items())
        if isinstance(value, int | float)
    )
    about, unit = (_of_text, "documents") if "corpus_tokens" in shards else (_of_arrays, "rows")
    return f"""{about(config, shards)}
Trained on artifacts {", ".join(f"`{artifact.key}`" for artifact in inputs.values())}.
Licences of the sources: {escaped(", ".join(licences)) or "not stated"}.

## Data
| source | licence | files | bytes | {unit} kept | digest |
|---|---|---|---|---|---|
{sources}

## Results
| metric | value |
|---|---|
{metrics}

## Settings
| key | value |
|---|---|
{rows}
"""


_OPENED_BY_TRANSFORMERS = """```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModel.from_pretrained("this/folder")
batch = tokenizer(["A text.", "Another."], truncation=True, padding=True, return_tensors="pt")
```
"""
_OPENED_HERE = """```python
from data_prep.shards.rows import Ragged
from data_prep.tokens.tokenizers import load
from training.inference.encoding import open_encoder

ids = load("this/folder").encode("A text.").ids
features = open_encoder("this/folder").encode({"input": Ragged.from_rows([ids])}).values
```
"""


def _of_text(config: dict[str, Any], shards: dict[str, Any]) -> str:
    from transformers import CONFIG_MAPPING

    network, train = NetworkConfig.model_validate(config["network"]), TrainConfig.model_validate(config["train"])
    objective, line = ObjectiveConfig.model_validate(config["objective"]), architecture_of(network.architecture)
    is_of_transformers = network.architecture in CONFIG_MAPPING
    return f"""---
library_name: {"transformers" if is_of_transformers else "sesame"}
pipeline_tag: {line.task if is_of_transformers else "feature-extraction"}
tags: [sesame, {network.architecture}, {objective.name}]
---
# {escaped(config["name"])}

A {network.architecture} network pretrained with the {objective.name} objective
{escaped(json.dumps(dict(objective.options)))} for {train.steps:,} steps of {train.global_batch} rows, on
{shards["corpus_tokens"]:,} tokens of {shards["documents"]:,} documents.

{_OPENED_BY_TRANSFORMERS.replace("AutoModel", line.auto_class) if is_of_transformers else _OPENED_HERE}
The tokenizer cleans texts as those were cleaned that were learned from, and cuts them to what the network takes.
"""


def _of_arrays(config: dict[str, Any], shards: dict[str, Any]) -> str:
    network, train = NetworkConfig.model_validate(config["network"]), TrainConfig.model_validate(config["train"])
    objective = ObjectiveConfig.model_validate(config["objective"])
    return f"""---
library_name: sesame
pipeline_tag: feature-extraction
tags: [sesame, {network.architecture}, {objective.name}]
---
# {escaped(config["name"])}

A network ({network.architecture}) trained with the {objective.name} objective
{escaped(json.dumps(dict(objective.options)))} for {train.steps:,} steps of {train.global_batch} rows, on
{shards["rows"]:,} rows of shape {tuple(shards["shape"])}.

```python
from training.inference.encoding import open_encoder

features = open_encoder("this/folder").encode({{"input": values}}).values
```
"""


def _short(value: Any) -> str:
    return "–" if value is None else escaped(str(value))


def _licence(line: str) -> str:
    """The licence in a line `SOURCE: LICENCE`."""
    return line.partition(": ")[2]
