"""Text: documents become a corpus of sentences, a tokenizer is learned from it, and shards hold token ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_prep.corpus.documents import Corpus
from data_prep.facts import DataFacts
from data_prep.ingest import ingest
from data_prep.kinds import DataConfig, Inputs, Kind, Problem, Progress, Sections, Use
from data_prep.settings import identity
from data_prep.shards.rows import Specials
from data_prep.shards.streams import LONGER
from data_prep.sources.config import TEXT, Accepts
from data_prep.text.clean import CleanConfig
from data_prep.tokens.tokenizers import TokenizerConfig, specials, train
from data_prep.workers import HERE, Workers


class TextData(DataConfig):
    """Where documents come from, how they are cleaned, and which are held out."""

    kind: Literal["text"]
    """What the sources hold."""
    clean: CleanConfig = Field(default_factory=CleanConfig)
    """How text is cleaned."""


class TextKind(Kind):
    """See the module's docstring."""

    Data = TextData
    sections: ClassVar = {"tokenizer": True, "compose": True}
    unit = "documents"
    mixes = True
    fits = "tokenizer"

    def problems(self, recipe: Sections) -> Iterator[Problem]:
        longer = recipe.train.longer
        if longer and longer.length <= recipe.compose.length:
            yield "train.longer.length", f"{longer.length} is not longer than compose.length {recipe.compose.length}"

    def accepts(self, data: TextData) -> Accepts:
        return TEXT

    def ingest(
        self,
        data: TextData,
        seed: int,
        out_dir: Path,
        downloads: Path,
        progress: Progress = lambda message, done: None,
        workers: Workers = HERE,
    ) -> dict[str, Any]:
        return ingest(data.sources, data.clean, data.split, seed, out_dir, downloads, progress, workers)

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        return identity(recipe.tokenizer)

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        documents = Corpus(corpus, "train")
        progress(f"learning from {len(documents):,} documents", None)
        return train(TokenizerConfig.model_validate(settings), documents.sentences(), out_dir)

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        """Corruption at load time is a matter of training: only corruption at writing time forks the shards."""
        masking, longer = recipe.corruption, recipe.train.longer
        written = masking.at == "shards"
        settings: dict[str, Any] = {"name": recipe.name, "seed": recipe.seed, "compose": identity(recipe.compose)}
        if written:
            settings["corruption"] = identity(masking)
        if longer:
            settings[LONGER] = {"length": longer.length}
            if written:
                settings[LONGER]["corruption"] = identity(longer.corruption(masking))
        return settings

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        from data_prep.text.write_shards import write_shards

        return write_shards(settings, made_of, out_dir, use)

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Under `rows` what rows and tokens look like by split, under `corpus` documents."""
        from data_prep.stats import stats
        from data_prep.text.write_shards import row_length

        lengths = {name: row_length(settings, name) for folders in parts.values() for name in folders}
        folders = {name: shards / name for name in lengths}
        rows = stats.of_shards(folders, made_of.preprocessor, lengths)
        return {"rows": rows, "corpus": stats.of_corpus(made_of.corpus)}

    def expected(self, recipe: Sections) -> DataFacts:
        """Ids of special tokens as a tokenizer that is learned here gives them; of a pretrained one, its own."""
        tokenizer = recipe.tokenizer
        if tokenizer.path is not None and Path(tokenizer.path).is_dir():
            tokens = specials(tokenizer.path)
        else:
            roles: dict[str, Any] = {role: number for number, role in enumerate(tokenizer.tokens)}
            if "decoder_start" in tokenizer.roles:
                roles["decoder_start"] = roles["pad"]
            last = tokenizer.vocabulary - 1
            tokens = Specials(tokenizer.vocabulary, sentinels=range(last, last - tokenizer.sentinels, -1), **roles)
        return DataFacts(recipe.data.kind, ("input",), length=recipe.compose.length, specials=tokens)

    def specials(self, preprocessor: Path) -> Specials:
        return specials(preprocessor)


KIND = TextKind()
