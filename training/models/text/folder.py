"""Networks and tokenizers in folders of `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.opening.pretrained import checked_config, open_as
from data_prep.opening.tensors import header_of_folder
from training.models.opening import bounded
from training.models.text.architectures import architecture_in
from training.models.text.block_sparse import with_block_sparse

NOT_KEPT = ("pooler",)  # of encoders that were trained without them; what reads features does not use them


def open_pretrained(folder: Path, auto: str = "AutoModel", **options: Any) -> Any:
    """The network of a folder of `transformers`, by the auto class named `auto`, in evaluation mode.

    UserError where the folder holds none of that sort, lacks some of its weights, or asks for more than its weights
    can hold.
    """
    model, lacking, _ = loaded(folder, auto, **options)
    missing = sorted(name for name in lacking if not any(part in name for part in NOT_KEPT))
    if missing:
        raise UserError(f"{folder}: has no weights of {missing[0]}, which {auto} needs; pretrain one.")
    return with_block_sparse(model.eval())


def open_features(folder: Path, **options: Any) -> Any:
    """The network of a folder that gives features of texts: of an encoder–decoder the encoder, which may be alone.

    UserError as `open_pretrained`.
    """
    if not architecture_in(open_config(folder).to_dict()).encoder_decoder:
        return open_pretrained(folder, **options)
    model, lacking, _ = loaded(folder, "AutoModel", **options)
    if missing := sorted(name for name in lacking if not name.startswith("decoder.")):
        raise UserError(f"{folder}: has no weights of {missing[0]}, which its encoder needs; pretrain one.")
    return model.eval().get_encoder()


def loaded(folder: Path, auto: str, **options: Any) -> tuple[Any, set[str], set[str]]:
    """The network of a folder, and names of weights: those that it lacks, and those that `auto` has no use for.

    UserError as `open_pretrained`, except for weights that the folder lacks.
    """
    import transformers

    checked_config(folder)
    held = header_of_folder(folder)
    if not auto.startswith("AutoModel"):
        kind = getattr(transformers, auto, None)
        if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
            raise UserError(f"{folder}: {auto!r} is no network of transformers; pretrain one.")
    with bounded(held):
        model, loading = open_as(folder, auto, output_loading_info=True, **options)
    unused = set(loading["unexpected_keys"])
    if undescribed := sorted(name for name in unused if _is_of_encoder(model, name)):
        raise UserError(
            f"{folder}: config.json describes no {undescribed[0]}, which its weights are for; pretrain one."
        )
    parameters = [f".{name}" for name, _ in model.named_parameters()]
    for name, entry in held.items():  # the library would make numbers of any type weights
        if "F" not in entry.dtype and any(f".{name}".endswith(p) or p.endswith(f".{name}") for p in parameters):
            raise UserError(f"{folder}: {name} holds {entry.dtype}, which are no weights; pretrain one.")
    return model, set(loading["missing_keys"]), unused


def _is_of_encoder(model: Any, name: str) -> bool:
    """Whether weights of that name are of the network without its heads, which are left out where they are not used."""
    inner = name.removeprefix(f"{model.base_model_prefix}.")
    is_inside = inner != name or hasattr(model.base_model, name.partition(".")[0])
    return is_inside and name.endswith((".weight", ".bias")) and not any(part in name for part in NOT_KEPT)


def open_config(folder: Path) -> Any:
    """The config of a folder of `transformers`; UserError where there is none."""
    checked_config(folder)
    return open_as(folder, "AutoConfig")


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as `transformers` has it."""
    return open_as(folder, "AutoTokenizer")
