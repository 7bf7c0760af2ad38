"""The code of a served encoder: texts in, one embedding per text out, the same as `sesame embed` gives.

MLflow copies this file next to the weights and runs it there, so it imports none of our modules, only the model's
requirements. The folder it opens is a Hugging Face model with its tokenizer, in safetensors; how vectors are made of it
stands in the settings of the model (`embedding_settings` of the registry).

    texts ──► tokenizer ──► network ──► [batch, length, hidden] ──► mean, first or last position ──► [batch, hidden]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

BATCH = 32
_HALF = re.compile("[\ud800-\udfff]")


class ServedEncoder(PythonModel):
    """`predict(["a text", …])` gives a list of embeddings, each a list of floats."""

    def load_context(self, context: Any) -> None:
        folder, settings = context.artifacts["encoder"], context.model_config
        self.pooling, self.normalize, self.length = settings["pooling"], settings["normalize"], settings["length"]
        self.begin, self.end = list(settings["begin"]), list(settings["end"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with _quiet():  # the weights of pretraining's heads are not needed, and not worth a report
            model = AutoModel.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self.model = model.to(self.device).eval()
        if self.tokenizer.pad_token is None:  # padding is masked, so any token will do
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(0)
        self.tokenizer.padding_side = "right"

    def predict(self, context: Any, model_input: list[str], params: dict[str, Any] | None = None) -> list[list[float]]:
        for number, text in enumerate(model_input, 1):
            if _HALF.search(text):
                reason = f"text {number} holds half of a surrogate pair, which is no character; send whole characters"
                raise MlflowException(reason, error_code=INVALID_PARAMETER_VALUE)
        chunks = [model_input[start : start + BATCH] for start in range(0, len(model_input), BATCH)]
        return [vector for chunk in chunks for vector in self._embed(chunk).tolist()]

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> torch.Tensor:
        own = None if self.length is None else self.length - len(self.begin) - len(self.end)
        options = {"truncation": own is not None, "max_length": own, "split_special_tokens": True}
        cut = self.tokenizer(texts, **options)["input_ids"]
        framed = {"input_ids": [[*self.begin, *row, *self.end] for row in cut]}
        rows = self.tokenizer.pad(framed, return_tensors="pt")
        ids, real = rows["input_ids"].to(self.device), rows["attention_mask"].to(self.device)
        vectors = self._pooled(self.model(input_ids=ids, attention_mask=real).last_hidden_state, real)
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def _pooled(self, hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """One vector for each text, [batch, hidden], from [batch, length, hidden]; real: 0 at padding."""
        if self.pooling == "mean":
            weights = real.unsqueeze(-1).to(hidden.dtype)
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        places = torch.zeros_like(real[:, 0]) if self.pooling == "cls" else real.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), places.clamp(min=0)]


@contextmanager
def _quiet() -> Iterator[None]:
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


set_model(ServedEncoder())
