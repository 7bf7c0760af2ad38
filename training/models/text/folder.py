"""Networks and tokenizers in folders of `transformers`: opened from files alone, without code of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.errors import UserError

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


def open_pretrained(folder: Path, auto: str = "AutoModel", **options: Any) -> Any:
    """The network of a folder of `transformers`, by the auto class named `auto`, in evaluation mode.

    UserError where the folder holds none of that sort.
    """
    import transformers

    try:
        model = getattr(transformers, auto).from_pretrained(folder, use_safetensors=True, **SAFE, **options)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{folder}: cannot be opened as {auto} ({reason}); pretrain one.") from error
    return model.eval()


def open_config(folder: Path) -> Any:
    """The config of a folder of `transformers`; UserError where there is none."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, **SAFE)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{folder}: holds no network of transformers ({reason}); pretrain one.") from error


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as `transformers` has it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **SAFE)
