"""The model card of an exported model: its network, data and training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.legible import escaped
from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from training.config import NetworkConfig, ObjectiveConfig, TrainConfig
from training.inference.networks import Usage
from training.models.experts.config import has_experts
from training.monitor.names import single
from training.objectives import options_of


def model_card(config: dict[str, Any], inputs: dict[str, Artifact], summary: dict[str, Any], folder: Path) -> str:
    """Markdown with the metadata block that model hubs read. folder: of the exported network."""
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
        for name, value in sorted(single(summary).items())
        if isinstance(value, int | float)
    )
    unit = "documents" if "corpus_tokens" in shards else "rows"
    return f"""{_about(config, shards, folder)}
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


_FEATURES_OF_TEXT = """from data_prep.shards.rows import Ragged
from data_prep.tokens.tokenizers import load
from training.inference.encoding import open_encoder

ids = load("this/folder").encode("A text.").ids
features = open_encoder("this/folder").encode({"input": Ragged.from_rows([ids])}).values  # [texts, tokens, width]"""
_FEATURES = """from training.inference.encoding import open_encoder

features = open_encoder("this/folder").encode({"input": values}).values"""


def usage_of(folder: Path, is_text: bool) -> Usage:
    """How the network of a folder is used, by what opens it."""
    from training.inference.opening import module_of

    module = module_of(folder)
    if hasattr(module, "usage"):
        return module.usage(folder)
    remarks = ("Texts of any length are taken.",) if is_text else ()
    return Usage("sesame", "feature-extraction", _FEATURES_OF_TEXT if is_text else _FEATURES, remarks)


def _about(config: dict[str, Any], shards: dict[str, Any], folder: Path) -> str:
    network, train = NetworkConfig.model_validate(config["network"]), TrainConfig.model_validate(config["train"])
    objective, is_text = ObjectiveConfig.model_validate(config["objective"]), "corpus_tokens" in shards
    usage = usage_of(folder, is_text)
    seen = (
        f"{shards['corpus_tokens']:,} tokens of {shards['documents']:,} documents"
        if is_text
        else f"{shards['rows']:,} rows of shape {tuple(shards['shape'])}"
    )
    remarks = ("The tokenizer cleans texts as those were cleaned that were learned from.",) if is_text else ()
    return f"""---
library_name: {usage.library}
pipeline_tag: {usage.task}
tags: [sesame, {network.architecture}, {objective.name}]
---
# {escaped(config["name"])}

A network ({network.architecture}) pretrained with the {objective.name} objective
{escaped(json.dumps(dict(objective.options)))} for {train.steps:,} steps of {train.global_batch} rows, on
{seen}.

```python
{usage.code}
```

{" ".join((*remarks, *usage.remarks))}
{_of_experts(objective, network)}"""


def _of_experts(objective: ObjectiveConfig, network: NetworkConfig) -> str:
    """How what is exported differs from what was trained, where there are layers of experts."""
    if not has_experts(network):
        return ""
    routing = options_of(objective).routing
    return f"""
In training an expert had room for {routing.capacity:g} even shares of the tokens of {routing.group} rows, and for
{routing.evaluation_capacity:g} where rows were held out (0: for all); tokens beyond that passed its layer unchanged.
Here none is dropped, for `expert_capacity` is more than any row needs: logits are those of training where none was.
"""


def _short(value: Any) -> str:
    return "–" if value is None else escaped(str(value))


def _licence(line: str) -> str:
    """The licence in a line `SOURCE: LICENCE`."""
    return line.partition(": ")[2]
