"""What a program of somebody else's does with exports: run by any interpreter that has `transformers` and torch.

python elsewhere.py FOLDER …    prints what was found in each as JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

TEXTS = ["The caf\u00e9 sat on a mat", "The cafe\u0301 sat\u00a0on\u00ad a mat", "x " * 300, ""]


def used(folder: str) -> dict[str, Any]:
    """Ids, the shape of a batch that is cut and padded, and what the network makes of it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    batch = tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    arguments = dict(batch)
    if model.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = torch.full((len(TEXTS), 1), model.config.decoder_start_token_id)
    with torch.no_grad():
        states = model.eval()(**arguments)[0]
    return {
        "transformers": transformers.__version__,
        "class": type(tokenizer).__name__,
        "model_max_length": tokenizer.model_max_length,
        "columns": sorted(batch),
        "ids": tokenizer(TEXTS, verbose=False)["input_ids"],
        "pair": tokenizer("a cat", "a mat")["input_ids"],
        "shape": list(batch["input_ids"].shape),
        "missing": sorted(name for name in report["missing_keys"] if "pooler" not in name),
        "states": states[:, -1].double().abs().sum(1).tolist(),
        "config": {name: getattr(model.config, name, None) for name in ("pad_token_id", "eos_token_id", "model_type")},
    }


if __name__ == "__main__":
    print(json.dumps({folder: used(folder) for folder in sys.argv[1:]}))
