"""The code of a served fine-tuned network: rows in, an answer to each and how sure the network is of it out.

MLflow copies this file next to the network and runs it there. Unlike `served_encoder.py` it imports Sesame, which is
installed where it serves: how rows become what a network reads, and scores become answers, is written once.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from data_prep.errors import UserError
from pipeline.downstream.fine_tune.exported import open_fine_tuned
from pipeline.downstream.fine_tune.serving import answers


class ServedFineTuned(PythonModel):
    """`predict` takes the columns of the task, and gives `predicted` and `score`."""

    def load_context(self, context: Any) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = open_fine_tuned(context.artifacts["network"], device)

    # types of which MLflow makes no signature of its own: that of the saved model has the task's columns
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        rows = pd.DataFrame(model_input).to_dict("records")
        try:
            return pd.DataFrame(answers(self.network, rows))
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


set_model(ServedFineTuned())
