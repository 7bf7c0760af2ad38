"""Properties of the architectures of `transformers`: one line per model type, read without torch.

Code branches on what an architecture can do, never on its name. Of a type that has no line nothing is assumed but
which way it reads: it trains on rows of one sequence each.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from data_prep.errors import UserError, choices
from data_prep.shards.rows import Specials
from training.config import NetworkConfig

Problem = tuple[str, str]
AFTER_PADDING = "after padding"
_DOCUMENTATION = "https://huggingface.co/docs/transformers"
_SIZES = re.compile(
    r"(?!num_sparse_)\w*_(?:size|dim|layers?|heads?|positions|position_embeddings|embd|inner|model|ff|kv)"
)  # where the default is not 0
_ACTIVATIONS = re.compile(r"hidden_act|hidden_activation|activation_function|dense_act_fn")
FIXED_BLOCKS = 5  # that a block sees besides random ones: the first, itself and its neighbours, the last


@dataclass(frozen=True)
class BlockSparse:
    """Attention of blocks to a few others (`training.models.text.block_sparse`): defaults of its config."""

    size: int = 64
    random: int = 3

    def shape(self, config: Mapping[str, Any]) -> tuple[int, int] | None:
        """Tokens of a block, and random blocks that each sees; None where the config asks for full attention."""
        if config.get("attention_type", "block_sparse") != "block_sparse":
            return None
        return config.get("block_size", self.size), config.get("num_random_blocks", self.random)

    def fewest(self, config: Mapping[str, Any]) -> int | None:
        """The fewest tokens of a row whose blocks have others to see; None where attention is full."""
        shape = self.shape(config)
        return None if shape is None else (FIXED_BLOCKS + 1 + 2 * shape[1]) * shape[0]


@dataclass(frozen=True)
class Architecture:
    """One model type.

    causal: a token sees only those before it. encoder_decoder: a second stack, the decoder, predicts a sequence of
    its own. packable: tokens interact only in full attention, and positions can be
    given, so that a sequence learns nothing of its neighbours in a row (tests/training/objectives/test_packed.py shows
    it of each); not so if tokens interact in convolutions or windows. first_position: of a sequence's first token;
    RoBERTa and its kin count from the padding's id on. block: row lengths are rounded up to a multiple of it.
    linear_head: the head ends in a linear projection on the vocabulary, whose outputs are the logits, but for a buffer
    that is added to them (logits_bias).
    registered_attention: attention comes from the registry of transformers, with as many heads of keys as of queries.
    On those two `training.models.cpu_kernels` works (its tests show that it computes the same).
    sentence_head: has a pretraining class with one, for NSP and SOP. shared_layers: where in its
    encoder the groups of layers are that are run `num_hidden_layers` times in all. discriminator: its pretraining class
    tells replaced tokens from others. block_sparse: how its attention skips blocks, if it does. experts: some of its
    feed-forward layers are mixtures of experts (`training.models.experts`). fused_attention: the library has a fused
    kernel for its attention. settings: what its config class calls the usual settings, where they differ from BERT's.
    """

    causal: bool = False
    encoder_decoder: bool = False
    packable: bool = False
    first_position: int | str = 0
    block: int = 8
    linear_head: bool = False
    logits_bias: str = ""
    registered_attention: bool = False
    sentence_head: bool = False
    shared_layers: str = ""
    discriminator: bool = False
    block_sparse: BlockSparse | None = None
    experts: bool = False
    fused_attention: bool = True
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def first(self, pad: int) -> int:
        """The position of a sequence's first token, for a vocabulary whose padding has the id `pad`."""
        return pad + 1 if self.first_position == AFTER_PADDING else int(self.first_position)

    def task(self, exported: str) -> str:
        """What a network does, as model cards call it. exported: its class, as in the `architectures` of its config."""
        if self.causal or self.encoder_decoder:
            return "text-generation" if self.causal else "text2text-generation"
        fills = exported.endswith("ForMaskedLM") or (exported.endswith("ForPreTraining") and not self.discriminator)
        return "fill-mask" if fills else "feature-extraction"

    @property
    def auto_class(self) -> str:
        """The class of `transformers` by which a network of it is opened to write, or else for its features."""
        if self.causal or self.encoder_decoder:
            return "AutoModelForCausalLM" if self.causal else "AutoModelForSeq2SeqLM"
        return "AutoModel"

    def setting(self, name: str) -> str:
        """What this architecture's config class calls BERT's setting `name`, as in hidden_size."""
        return self.settings.get(name, name)


_DISTILBERT = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
_BART = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
_GPT2 = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
}

_LLAMA = {"attention_probs_dropout_prob": "attention_dropout"}

_T5 = {
    "hidden_size": "d_model",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "d_ff",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "dropout_rate",
}

_BARTS = Architecture(
    encoder_decoder=True,
    linear_head=True,
    logits_bias="final_logits_bias",
    registered_attention=True,
    settings=_BART,
)
ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": Architecture(
        packable=True,
        linear_head=True,
        registered_attention=True,
        sentence_head=True,
        shared_layers="encoder.albert_layer_groups",
    ),
    "bart": _BARTS,
    "bert": Architecture(packable=True, linear_head=True, registered_attention=True, sentence_head=True),
    "big_bird": Architecture(linear_head=True, sentence_head=True, block_sparse=BlockSparse()),
    "camembert": Architecture(packable=True, linear_head=True, registered_attention=True, first_position=AFTER_PADDING),
    "distilbert": Architecture(packable=True, linear_head=True, registered_attention=True, settings=_DISTILBERT),
    "electra": Architecture(packable=True, linear_head=True, registered_attention=True, discriminator=True),
    "ernie": Architecture(packable=True, linear_head=True, registered_attention=True, sentence_head=True),
    "gpt2": Architecture(causal=True, packable=True, linear_head=True, registered_attention=True, settings=_GPT2),
    "llama": Architecture(causal=True, packable=True, linear_head=True, settings=_LLAMA),
    "mbart": _BARTS,
    "mobilebert": Architecture(sentence_head=True),
    "mpnet": Architecture(packable=True, first_position=2),  # whatever the padding's id
    "nystromformer": Architecture(sentence_head=True),
    "roberta": Architecture(packable=True, linear_head=True, registered_attention=True, first_position=AFTER_PADDING),
    "switch_transformers": Architecture(
        encoder_decoder=True, experts=True, linear_head=True, fused_attention=False, settings=_T5
    ),
    "t5": Architecture(encoder_decoder=True, linear_head=True, settings=_T5),
    "xlm-roberta": Architecture(
        packable=True, linear_head=True, registered_attention=True, first_position=AFTER_PADDING
    ),
}


def architecture_of(model_type: str) -> Architecture:
    """The properties of a model type; of one without a line, which way it reads, as far as transformers tells it."""
    return ARCHITECTURES.get(model_type) or _registered(model_type)


def line_of(model_type: str) -> Architecture:
    """The line of a model type, or one of which nothing is assumed: for what only lines say, which needs no import."""
    return ARCHITECTURES.get(model_type, Architecture())


@functools.cache
def _registered(model_type: str) -> Architecture:
    """A type is what the pretraining classes say that transformers has for it."""
    from transformers.models.auto import modeling_auto as classes

    if model_type in classes.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return Architecture(encoder_decoder=True)
    is_encoder = model_type in classes.MODEL_FOR_MASKED_LM_MAPPING_NAMES  # which may have a class that writes, too
    return Architecture(causal=not is_encoder and model_type in classes.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def is_of_transformers(model_type: str) -> bool:
    """Whether transformers has networks of this type."""
    if model_type in ARCHITECTURES:
        return True
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def architecture_in(config: Mapping[str, Any]) -> Architecture:
    """The properties of the model type of a config.json; of a type that has no line, as far as its class tells them."""
    line = architecture_of(config["model_type"])
    if line.causal or line.encoder_decoder:
        return line
    if config.get("is_encoder_decoder"):
        return Architecture(encoder_decoder=True)
    name = (config.get("architectures") or [""])[0]
    return Architecture(causal=True) if name.endswith(("ForCausalLM", "LMHeadModel")) else line


def types_with(ability: str) -> str:
    """The model types whose line has this ability, as a person reads them."""
    return ", ".join(sorted(name for name, line in ARCHITECTURES.items() if getattr(line, ability)))


# -- what does not fit, before anything is built ----------------------------------------------------------------------


def encoder_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why a network cannot predict what is hidden in a row from both sides."""
    if architecture_of(network.architecture).causal:
        text = f"{network.architecture!r} sees what stands before a token alone"
        yield "network.architecture", f"{text}; choose an encoder such as bert, roberta or albert"
    if architecture_of(network.architecture).encoder_decoder:
        text = f"{network.architecture!r} predicts in its decoder, not in the row that it is given"
        yield "network.architecture", f"{text}; choose an encoder such as bert, roberta or albert"


def decoder_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why a network cannot predict each token from those before it."""
    if not architecture_of(network.architecture).causal:
        text = f"{network.architecture!r} does not predict a token from those before it alone"
        yield "network.architecture", f"{text}; choose a decoder such as {types_with('causal')}"


def sequence_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why a network cannot predict one sequence from another."""
    if not architecture_of(network.architecture).encoder_decoder:
        text = f"{network.architecture!r} has no decoder beside its encoder"
        yield "network.architecture", f"{text}; choose an encoder–decoder such as {types_with('encoder_decoder')}"


def sentence_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why a network cannot be given a sentence head."""
    if not line_of(network.architecture).sentence_head:
        yield (
            "network.architecture",
            f"{network.architecture!r} has no sentence head for NSP or SOP; use one of "
            f"{types_with('sentence_head')} or objective.options.sentence: none",
        )


def discriminator_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why a network cannot tell replaced tokens from others."""
    if not line_of(network.architecture).discriminator:
        text = f"{network.architecture!r} has no head that tells replaced tokens"
        yield "network.architecture", f"{text}; choose one of {types_with('discriminator')}"


def packing_problems(network: NetworkConfig) -> Iterator[Problem]:
    """Why rows of several sequences cannot be learned from."""
    if not line_of(network.architecture).packable:
        text = f"{network.architecture!r} cannot keep apart the sequences of a packed row"
        yield "network.architecture", f"{text}; set compose.pack to false or use one of {types_with('packable')}"


def position_problems(
    network: NetworkConfig, lengths: Mapping[str, int], pad: int = 0, positions: Any = None
) -> Iterator[Problem]:
    """Rows that have more tokens than the network has positions. `lengths`: of rows, by the setting that says so.

    positions: those of the network; None: what `network.config` says, if it does.
    """
    line = line_of(network.architecture)
    yield from _block_problems(network, lengths)
    name = line.setting("max_position_embeddings")
    positions = network.config.get(name) if positions is None else positions
    first = line.first(pad)
    for setting, length in lengths.items():
        if isinstance(positions, int) and positions < length + first:
            counted = f", for {network.architecture!r} counts them from {first} on" if first else ""
            yield (
                f"network.config.{name}",
                f"{positions} positions are fewer than {setting} {length} needs{counted}; set it to {length + first}",
            )


def without_effect(network: NetworkConfig) -> Iterator[Problem]:
    """Settings of the network that its kind of attention does not use."""
    line = line_of(network.architecture)
    name = line.setting("attention_probs_dropout_prob")
    if line.block_sparse and line.block_sparse.shape(network.config) and network.config.get(name):
        text = f"{network.config[name]} has no effect, as it belongs to attention_type original_full"
        yield f"network.config.{name}", text


def _block_problems(network: NetworkConfig, lengths: Mapping[str, int]) -> Iterator[Problem]:
    """Rows that are too short for the network's blocks, or that its blocks do not divide."""
    sparse = line_of(network.architecture).block_sparse
    shape = sparse.shape(network.config) if sparse else None
    if sparse is None or shape is None:
        return
    (size, random), fewest = shape, sparse.fewest(network.config)
    for setting, length in lengths.items():
        if fewest and length < fewest:
            text = f"{length} tokens are fewer than the {fewest} that blocks of {size} with {random} random ones take"
            yield setting, f"{text}; raise it, lower network.config.block_size, or set attention_type to original_full"
        elif length % size:
            text = f"{length} tokens are no multiple of network.config.block_size {size}, and would be padded to one"
            yield setting, f"{text}; set it to {length // size * size}"


# -- their config classes ---------------------------------------------------------------------------------------------


def text_config(network: NetworkConfig, specials: Specials, device: str = "cpu") -> Any:
    """The `transformers` config of `network` for a vocabulary, with the ids of all special tokens.

    Raises UserError when the architecture or one of its settings is unknown.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    if network.architecture not in CONFIG_MAPPING:
        raise UserError(
            f"network.architecture: transformers knows no model type {network.architecture!r}; "
            + choices(network.architecture, CONFIG_MAPPING, f"{_DOCUMENTATION}/index#supported-models")
        )
    kind = CONFIG_MAPPING[network.architecture]
    known_keys = set(inspect.signature(kind).parameters) | {"num_labels"}
    for key in network.config:
        if key not in known_keys:
            raise UserError(
                f"network.config.{key}: {kind.__name__} has no such setting; "
                + choices(
                    key, sorted(known_keys - {"self", "kwargs"}), f"{_DOCUMENTATION}/model_doc/{network.architecture}"
                )
            )
    _check_values(network.config, kind)
    try:
        config = kind(**{**network.config, "vocab_size": specials.vocabulary, **special_ids(specials)})
    except (TypeError, ValueError, StrictDataclassError) as error:  # of a setting that is not of its type
        raise UserError(f"network.config: {kind.__name__} refuses it ({' '.join(str(error).split())}).") from error
    # Measured: on CPU cores plain attention learns faster in bf16 than the fused kernel at these lengths.
    config._attn_implementation = "eager" if device == "cpu" else attention_of(network.architecture)
    return config


def attention_of(model_type: str) -> str:
    """The kernel of `transformers` for rows of one sequence each. Networks whose attention skips blocks have no fused
    one."""
    line = architecture_of(model_type)
    return "eager" if line.block_sparse or not line.fused_attention else "sdpa"


def _check_values(config: Mapping[str, Any], kind: type) -> None:
    """UserError for values that config classes take and networks cannot be made from."""
    from transformers.activations import ACT2FN

    defaults = kind()
    for name, value in config.items():
        is_size = _SIZES.fullmatch(name) and getattr(defaults, name, None) != 0
        if is_size and isinstance(value, int | float) and value < 1:
            raise UserError(f"network.config.{name}: found {value}; allowed: at least 1.")
        if _ACTIVATIONS.fullmatch(name) and isinstance(value, str) and value not in ACT2FN:
            raise UserError(f"network.config.{name}: found {value!r}; allowed: {', '.join(sorted(ACT2FN))}.")


def default_setting(architecture: str, name: str) -> Any:
    """A setting of a network whose recipe leaves it out; None if its config class has no such setting."""
    from transformers import CONFIG_MAPPING

    return getattr(CONFIG_MAPPING[architecture](), name, None) if architecture in CONFIG_MAPPING else None


def special_ids(specials: Specials) -> dict[str, int | None]:
    """The special tokens by the roles that `transformers` knows, None where a tokenizer has none.

    A text begins and ends with [BOS] and [EOS], or else with [CLS] and [SEP]. `decoder_start_token_id` is left out
    where there is none.
    """
    ids = {f"{role}_token_id": specials.get(role) for role in ("pad", "bos", "eos", "cls", "sep", "mask", "unk")}
    for role, substitute in (("bos", "cls"), ("eos", "sep")):
        if ids[f"{role}_token_id"] is None:
            ids[f"{role}_token_id"] = ids[f"{substitute}_token_id"]
    start = specials.get("decoder_start")
    return ids if start is None else {**ids, "decoder_start_token_id": start}


def longest(config: Any) -> int | None:
    """The most tokens of a text that a network has positions for; None if there is no most."""
    line = architecture_of(config.model_type)
    positions = getattr(config, line.setting("max_position_embeddings"), None)
    pad = getattr(config, "pad_token_id", None)
    return positions - line.first(pad or 0) if isinstance(positions, int) and positions > 0 else None


def blocks_of(config: Any) -> tuple[int, int] | None:
    """Tokens of a block of block-sparse attention, and how many blocks it sees; None where attention is full."""
    sparse = architecture_of(config.model_type).block_sparse
    shape = sparse.shape(config.to_dict()) if sparse else None
    return None if shape is None else (shape[0], FIXED_BLOCKS + shape[1])


def packed_attention(config: Any, device: str) -> str:
    """The kernel for rows of several sequences, as transformers names it; masks follow from it.

    On a GPU, FlexAttention skips the blocks between sequences, but it knows no dropout and not every size of heads;
    SDPA's fused kernel takes any mask and computes whole rows.
    """
    from transformers.utils.import_utils import is_torch_flex_attn_available

    if device != "cuda" or not architecture_of(config.model_type).packable:
        return config._attn_implementation
    dropout = getattr(config, architecture_of(config.model_type).setting("attention_probs_dropout_prob"), 1.0)
    head = config.hidden_size // config.num_attention_heads
    fits = dropout == 0 and head in (16, 32, 64, 128)
    return "flex_attention" if fits and is_torch_flex_attn_available() else "sdpa"
