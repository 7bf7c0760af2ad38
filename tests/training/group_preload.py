"""What the processes of `group` have imported before they are forked."""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401 - any engine imports it, and PyTorch's compiler with it
import transformers.models.bert.modeling_bert  # noqa: F401

import training.loop
import training.objectives.masked_lm  # noqa: F401
