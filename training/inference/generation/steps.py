"""One network, several texts at once, a token at a time: what was computed for earlier tokens is kept.

    Steps(model, rows)  ─► logits [B, V] of the first tokens to write
    steps.step(tokens)  ─► logits [B, V] of the next ones
    steps.keep(index)   ─► some of the texts, in another order, or several times

A decoder's rows are padded on their left, so that all of them write into the same column. What is kept lies in buffers
that were as long as needed from the beginning: the cache of `transformers` is copied whole for each token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, EncoderDecoderCache

from training.inference.language_model import LanguageModel
from training.models.text.network import accepted


class _Buffer(CacheLayerMixin):
    """Keys and values of one layer [B, heads, capacity, D], of which the first `used` columns are filled."""

    is_sliding = False

    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.used = capacity, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_empty(*states.shape[:2], self.capacity, states.shape[3]) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.used + key_states.shape[2]
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.used + query_length, 0

    def get_seq_length(self) -> int:
        return self.used

    def get_max_length(self) -> int:
        return -1

    def keep(self, index: Tensor) -> None:
        """Rows `index` [B'] of this layer."""
        for name in ("keys", "values"):
            states: Tensor = getattr(self, name)
            kept = states if len(index) == len(states) else states.new_empty(len(index), *states.shape[1:])
            kept[:, :, : self.used] = states[:, :, : self.used].index_select(0, index)
            setattr(self, name, kept)

    def joined(self, other: _Buffer, width: int, capacity: int) -> _Buffer:
        """Rows of two layers in one, so that the last columns of both are column `width` − 1; padding holds zeros."""
        layer = _Buffer(capacity)
        layer.used, layer.is_initialized = width, True
        for name in ("keys", "values"):
            parts = [(getattr(part, name), part.used) for part in (self, other)]
            rows = sum(len(states) for states, _ in parts)
            whole = parts[0][0].new_empty(rows, parts[0][0].shape[1], capacity, parts[0][0].shape[3])
            row = 0
            for states, used in parts:
                kept = min(used, width)
                whole[row : row + len(states), :, : width - kept] = 0
                whole[row : row + len(states), :, width - kept : width] = states[:, :, used - kept : used]
                row += len(states)
            setattr(layer, name, whole)
        return layer


def takes_padding(model: LanguageModel) -> bool:
    """Whether rows of several lengths can be written at once: positions are given, or counted by the encoder."""
    return model.architecture.encoder_decoder or bool(accepted(model.network, "position_ids"))


class Steps:
    """Texts that a model is writing; `logits` [B, V] are those of their next tokens.

    rows: ids that are given; what an encoder reads where there is one. most: tokens that may be written.
    """

    logits: Tensor

    def __init__(self, model: LanguageModel, rows: Sequence[Sequence[int]], most: int) -> None:
        self.network, self.device, self._length = model.network, model.device, model.length
        self._two_stacks = model.architecture.encoder_decoder
        last = accepted(self.network, "logits_to_keep")
        self._options: dict[str, Any] = {"use_cache": True, **dict.fromkeys(last, 1)}
        width = max(map(len, rows))
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        ids = torch.full((len(rows), width), model.pad)
        for number, row in enumerate(rows):
            place = slice(0, len(row)) if self._two_stacks else slice(width - len(row), width)
            ids[number, place] = torch.tensor(row)
        if self._two_stacks:
            self._read(model, ids.to(self.device), lengths, most)
        else:
            self._begin(ids.to(self.device), lengths, most)

    def _begin(self, ids: Tensor, lengths: Tensor, most: int) -> None:
        """Run a decoder on what is given."""
        width = ids.shape[1]
        self._cache: Any = _new_cache(self.network.config, width + most)
        self._given = width - lengths  # the first column of each row
        self._padded = bool((self._given > 0).any())
        self._columns = torch.arange(width + most, device=self.device)
        self._positions = accepted(self.network, "position_ids")
        self._position = lengths - 1
        inputs = {}
        if self._positions:
            inputs["position_ids"] = (self._columns[:width] - self._given[:, None]).clamp_min(0)
        if self._padded:
            own = self._columns[:width] >= self._given[:, None]
            seen = own[:, None, :] & torch.ones(width, width, dtype=torch.bool, device=self.device).tril()
            # padding sees itself, for a row that sees nothing is not finite
            inputs["attention_mask"] = self._mask(seen | torch.eye(width, dtype=torch.bool, device=self.device))
        self._run(input_ids=ids, **inputs)

    def _read(self, model: LanguageModel, ids: Tensor, lengths: Tensor, most: int) -> None:
        """Run an encoder on what is given, and the decoder on the token that texts begin with."""
        self._seen = (torch.arange(ids.shape[1], device=self.device) < lengths[:, None]).long()
        states = self.network.get_encoder()(input_ids=ids, attention_mask=self._seen)
        self._states, self._read_as = states.last_hidden_state, type(states)
        own = _new_cache(self.network.config.get_text_config(decoder=True), most + 1)
        self._cache = EncoderDecoderCache(own, Cache(layers=[DynamicLayer() for _ in own.layers]))
        self._run(decoder_input_ids=torch.full((len(ids), 1), model.start, device=self.device))

    def step(self, tokens: Tensor) -> None:
        """Add a token to each text, [B]."""
        if self._two_stacks:
            self._run(decoder_input_ids=tokens[:, None])
            return
        self._position = self._position + 1
        if self._length is not None:  # texts that have ended may go on for a while
            self._position.clamp_max_(self._length - 1)
        inputs: dict[str, Tensor] = dict.fromkeys(self._positions, self._position[:, None])
        if self._padded:
            used = self._cache.get_seq_length() + 1
            inputs["attention_mask"] = self._mask((self._columns[:used] >= self._given[:, None])[:, None])
        self._run(input_ids=tokens[:, None], **inputs)

    def keep(self, index: Tensor, same_given: bool = False) -> None:
        """Go on with the texts `index` [B']; one may be named several times.

        same_given: each of them was given what the text in its place was, so that what was read stays.
        """
        if self._two_stacks:
            if not same_given:
                self._seen, self._states = self._seen[index], self._states[index]
                self._cache.cross_attention_cache.batch_select_indices(index)
            layers = self._cache.self_attention_cache.layers
        else:
            self._given, self._position = self._given[index], self._position[index]
            layers = self._cache.layers
        for layer in layers:
            if isinstance(layer, _Buffer):
                layer.keep(index)
            else:
                layer.reorder_cache(index)
        self.logits = self.logits[index]

    @property
    def can_join(self) -> bool:
        """Whether new texts can begin while others are being written."""
        return bool(
            not self._two_stacks and self._positions and all(isinstance(x, _Buffer) for x in self._cache.layers)
        )

    def joined(self, other: Steps, most: int) -> Steps:
        """These texts and those of `other`; both may be written on by `most` tokens, and neither is used any more."""
        used = [part._cache.get_seq_length() for part in (self, other)]
        width = max(columns - int(part._given.min()) for part, columns in zip((self, other), used, strict=True))
        layers = [
            layer.joined(beside, width, width + most)
            for layer, beside in zip(self._cache.layers, other._cache.layers, strict=True)
        ]
        self._cache = Cache(layers=layers)
        self._given = torch.cat([self._given - used[0], other._given - used[1]]) + width
        self._position = torch.cat([self._position, other._position])
        self._columns = torch.arange(width + most, device=self.device)
        self._padded = bool((self._given > 0).any())
        self.logits = torch.cat([self.logits, other.logits])
        return self

    def _run(self, **inputs: Tensor) -> None:
        if self._two_stacks:
            read: Any = self._read_as(last_hidden_state=self._states)
            inputs |= {"encoder_outputs": read, "attention_mask": self._seen}
        output = self.network(**inputs, past_key_values=self._cache, **self._options)
        self.logits = output.logits[:, -1].float()

    def _mask(self, seen: Tensor) -> Tensor:
        """What is added to attention's logits, [B, 1, Q, K]."""
        dtype = self.network.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=self.device).masked_fill_(~seen, torch.finfo(dtype).min)[
            :, None
        ]


def _new_cache(config: Any, capacity: int) -> Cache:
    """Buffers, where every layer attends to all that was before; otherwise what `transformers` has for the network."""
    theirs = DynamicCache(config=config)
    if theirs.layers and all(type(layer) is DynamicLayer for layer in theirs.layers):
        return Cache(layers=[_Buffer(capacity) for _ in theirs.layers])
    return theirs
