"""The kind `text`: documents become a corpus of sentences, a tokenizer is trained on it, and shards hold token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_prep.arrow import pc
from data_prep.corpus.documents import UNREAD, Corpus, trained_parts
from data_prep.corpus.draft import Draft, Writing
from data_prep.corpus.summary import lost_files_in_words, notes_of_files
from data_prep.facts import DataFacts
from data_prep.findings import Finding, Known
from data_prep.kinds import DataConfig, Inputs, Kind, Problem, Progress, Sections, Use, Written
from data_prep.settings import identity
from data_prep.shards.order import shares
from data_prep.shards.rows import Specials
from data_prep.shards.streams import LONGER
from data_prep.sources.config import Accepts
from data_prep.sources.config import left_out as files_left_out
from data_prep.stats.blocks import Statistics
from data_prep.text import findings
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT
from data_prep.text.ingest import sample
from data_prep.text.ingest.decide import Table, TextDecision, decide, hold_out
from data_prep.text.ingest.plan import plan
from data_prep.text.ingest.units import Unit, read
from data_prep.text.ingest.write import write, write_rejects
from data_prep.text.language import better_rules
from data_prep.text.rules.spans import SENTENCE, TOO_LITTLE
from data_prep.tokens import compose, lexicon, pretrained, segment
from data_prep.tokens.cleaning import Cleaning, pieces
from data_prep.tokens.tokenizers import TokenizerConfig, specials, spells_white_space, train
from data_prep.views import Example, Selection

WHITE_SPACE = 1  # version of how documents become tokens where white space is tokens, too
MIXING = "mixing"  # in settings: what decides the shares of a mixture's parts
TOP_PHRASES = 60  # that are found, in the report


class TextData(DataConfig):
    """Sources, cleaning and splits of documents."""

    kind: Literal["text"]
    """Kind of data in the sources."""
    clean: CleanConfig = Field(default_factory=CleanConfig)
    """How text is cleaned."""

    @property
    def max_rejects(self) -> int | float:
        return self.clean.max_rejects


class TextKind(Kind):
    """See the module's docstring."""

    Data = TextData
    sections: ClassVar = {"tokenizer": True, "compose": True}
    unit = "documents"
    place = "line"
    mixes = True
    fits = "tokenizer"
    many_passes = 100
    more_examples = "add documents, or cut long ones into passages (data.clean.passage_words: 500)"
    how_to_offer = compose.HOW_TO_OFFER

    def problems(self, recipe: Sections) -> Iterator[Problem]:
        longer = recipe.train.longer
        if longer and longer.length <= recipe.compose.length:
            yield "train.longer.length", f"{longer.length} is not longer than compose.length {recipe.compose.length}"
        if recipe.compose.segmenter and recipe.tokenizer.kind == "byte-bpe":
            yield segment.SETTING, "byte-bpe has no token for each Chinese character; set tokenizer.kind to wordpiece"
        decontamination = recipe.data.clean.rules.decontamination
        for place, source in enumerate(decontamination.evaluation if decontamination else ()):
            if source.split is not None:
                where = f"data.clean.rules.decontamination.evaluation.{place}.split"
                yield where, "all of the source is compared with; leave split out, or give a path with some files"

    def findings(self, known: Known) -> Iterator[Finding]:
        yield from super().findings(known)
        yield from findings.findings(known)

    def accepts(self, data: TextData) -> Accepts:
        return TEXT

    def units(self, data: TextData, downloads: Path, left_out: Counter[str]) -> list[Unit]:
        left_out.update(files_left_out(data.sources, TEXT))
        return plan(data.sources, data.clean, downloads)

    def read(self, unit: Unit, data: TextData, downloads: Path, folder: Path) -> dict[str, Any]:
        return read(unit, data.clean, downloads, folder)

    def decide(self, draft: Draft) -> TextDecision:
        table = Table(draft.folders, draft.num_kept)
        decided = decide(table, draft.data.clean, draft.scratch)
        draft.progress("splitting", None)
        hold_out(table, decided, draft.declared, draft.data.split, draft.seed, draft.scratch, draft.pool)
        return decided

    def write(self, job: Writing) -> dict[str, dict[str, Any]]:
        return write(job)

    def write_rejects(self, draft: Draft, decided: TextDecision) -> None:
        write_rejects(decided, draft.out_dir)

    def index(self, draft: Draft, files: Written) -> dict[str, Any]:
        """Includes the corpus of a mixture that each file belongs to."""
        listed = {
            split: [
                {**{name: file[name] for name in ("file", "documents", "digest")}, "corpus": unit.config.corpus or ""}
                for unit, file in of_split
            ]
            for split, of_split in files.items()
        }
        return {"splits": listed}

    def summary(self, draft: Draft, decided: TextDecision, files: Written) -> dict[str, Any]:
        reasons = decided.reasons()
        rules = sum((Counter(unit_summary["rules"]) for unit_summary in draft.read), Counter[str]())
        if decided.repeats is not None:
            rules += Counter({SENTENCE: decided.repeats.sentences})
        counts = ("documents", "sentences", "characters")
        return {
            "near_duplicates": reasons["near duplicate"],
            "filtered": sum(unit_summary["filtered"] for unit_summary in draft.read) + reasons[TOO_LITTLE],
            "rules": dict(rules),
            "notes": list(notes_of_files(chain.from_iterable(summary.get("notes", ()) for summary in draft.read))),
            "better_rules": better_rules(Corpus(draft.out_dir, "train"), draft.data.clean.language),
            "splits": {
                split: {what: sum(file[what] for _, file in of_split) for what in counts}
                for split, of_split in files.items()
            },
        }

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        """`tokenizer`; `cleaning`, which it does to every text; `contents`, a digest of a pretrained one's files.

        `white_space` where white space is tokens; `mixing` where new pieces are counted by the shares of a mixture.
        """
        tokenizer = recipe.tokenizer
        files: dict[str, Any] = {} if tokenizer.path is None else {"contents": pretrained.contents(tokenizer.path)}
        white_space = {"white_space": WHITE_SPACE} if tokenizer.kind == "byte-bpe" else {}
        unread = {UNREAD: recipe.order.unread} if recipe.order.unread else {}
        if tokenizer.add and len({source.corpus for source in recipe.data.sources} - set(recipe.order.unread)) > 1:
            unread |= {MIXING: recipe.order.mixing} if recipe.order.mixing else {}
        return {
            "tokenizer": identity(tokenizer),
            "cleaning": asdict(recipe.data.clean.cleaning),
            **files,
            **white_space,
            **unread,
        }

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        parts = trained_parts(corpus, settings) if {UNREAD, MIXING} & set(settings) else [None]
        documents = [Corpus(corpus, "train", part) for part in parts]
        progress(f"learning from {sum(map(len, documents)):,} documents", None)
        config, cleaning = TokenizerConfig.model_validate(settings["tokenizer"]), Cleaning(**settings["cleaning"])
        with_spaces = config.kind == "byte-bpe" or (config.add and spells_white_space(config))
        texts = [pieces(part, cleaning.keep_lines) if with_spaces else part.sentences() for part in documents]
        if MIXING not in settings:
            return train(config, chain.from_iterable(texts), out_dir, cleaning)
        sizes = {str(name): _characters(part) for name, part in zip(parts, documents, strict=True)}
        weights = shares(sizes, **settings[MIXING])
        scale = sum(sizes.values()) / sum(weights.values())  # as much text as there is
        factors = [scale * weights[name] / max(size, 1) for name, size in sizes.items()]
        return train(config, (), out_dir, cleaning, list(zip(texts, factors, strict=True)))

    def characters(self, data: TextData, downloads: Path) -> Counter[str]:
        return sample.characters(data.sources, data.clean, downloads)

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        """Corruption at load time is not part of the settings; only corruption at writing time changes the shards.

        The row length is the maximum length of x such that the network sees at most `compose.length` items.
        """
        masking, longer = recipe.corruption, recipe.train.longer
        written = masking.at == "shards"
        composed = identity(recipe.compose.model_copy(update={"length": masking.raw_length(recipe.compose.length)}))
        settings: dict[str, Any] = {"name": recipe.name, "seed": recipe.seed, "compose": composed}
        settings["compose_version"] = compose.VERSION
        if spells_white_space(recipe.tokenizer):
            settings["white_space"] = WHITE_SPACE
        if len({source.corpus for source in recipe.data.sources}) > 1:
            settings["held_out_by_source"] = True
            if recipe.compose.kind == "nsp":
                settings["partners_by_source"] = True
        if recipe.order.unread:
            settings[UNREAD] = recipe.order.unread
        if recipe.compose.segmenter is not None:
            settings["segmenter"] = segment.identity(recipe.compose.segmenter)
        if recipe.compose.lexicon is not None:  # phrases are normalised as the corpus is
            composed["lexicon"] = lexicon.read(recipe.compose.lexicon).digest
            settings["normalisation"] = recipe.data.clean.normalisation
        if written:
            settings["corruption"] = identity(masking)
            if masking.VERSION > 1:
                settings["corruption_version"] = masking.VERSION
        if longer:
            settings[LONGER] = {"length": masking.raw_length(longer.length)}
            if written:
                settings[LONGER]["corruption"] = identity(longer.corruption(masking))
        return settings

    def files(self, recipe: Sections) -> dict[str, Path]:
        path = recipe.compose.lexicon
        return {} if path is None else {lexicon.read(path).digest: Path(path)}

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        from data_prep.text.write_shards import write_shards

        return write_shards(settings, made_of, out_dir, use)

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Rows and tokens by split; documents under `corpus`."""
        from data_prep.stats import stats
        from data_prep.text import phrases
        from data_prep.text.write_shards import corruption_of, row_length

        lengths = {name: row_length(settings, name) for folders in parts.values() for name in folders}
        folders = {name: shards / name for name in lengths}
        corruptions = {name: config for name in lengths if (config := corruption_of(settings, name))}
        rows = stats.of_shards(folders, made_of.preprocessor, lengths, corruptions)
        top_phrases = phrases.top(shards, TOP_PHRASES)
        return {
            **rows,
            **({"phrases": top_phrases} if top_phrases else {}),
            "corpus": self.corpus_stats(made_of.corpus),
        }

    def corpus_stats(self, corpus: Path) -> dict[str, Any]:
        from data_prep.stats import stats

        return {**stats.of_corpus(corpus)}

    def statistics(self, counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
        from data_prep.text.statistics import statistics

        return statistics(counts, ingested)

    def show(self, selection: Selection, preprocessor: Path | None, corpus: Path | None) -> list[Example]:
        from data_prep.text.show import examples

        if preprocessor is None:
            raise ValueError("token ids are no text without their tokenizer")
        return examples(selection, preprocessor, corpus)

    def show_corpus(self, corpus: Path, split: str, index: range) -> tuple[list[Example], int]:
        from data_prep.text.show import documents

        return documents(corpus, split, index)

    def expected(self, recipe: Sections) -> DataFacts:
        """Special tokens have the ids that a tokenizer trained here assigns, or those of a pretrained tokenizer."""
        tokenizer = recipe.tokenizer
        if tokenizer.path is not None and Path(tokenizer.path).is_dir():
            tokens = pretrained.specials(tokenizer.path)
            if tokenizer.add:  # at most, for the text may have fewer pieces to add
                roles = dict(tokens.roles)
                vocabulary = tokens.vocabulary + tokenizer.add
                tokens = Specials(vocabulary, all=tokens.all, sentinels=tokens.sentinels, **roles)
        else:
            roles: dict[str, Any] = {role: number for number, role in enumerate(tokenizer.tokens)}
            if "decoder_start" in tokenizer.roles:
                roles["decoder_start"] = roles["pad"]
            last = tokenizer.vocabulary + tokenizer.add - 1
            tokens = Specials(last + 1, sentinels=range(last, last - tokenizer.sentinels, -1), **roles)
        return DataFacts(recipe.data.kind, ("input",), length=recipe.compose.length, specials=tokens)

    def columns(self, recipe: Sections) -> tuple[str, ...]:
        return recipe.compose.offers

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        sentences = [
            f"{corpus['kept']:,} documents kept, {corpus['rejected']:,} rejected, {corpus['duplicates']:,} duplicates; "
            f"{shards['corpus_tokens']:,} training tokens in {shards['rows']:,} rows "
            f"({shards['padding_share']:.1%} padding), {_left_out(shards)}."
        ]
        if lost := lost_files_in_words(corpus):
            sentences.append(f"{lost}.")
        if "phrase_share" in shards:
            sentences.append(f"{shards['phrase_share']:.1%} of words are in phrases.")
        return " ".join(sentences)

    def of_sources(
        self, corpus: Path, preprocessor: Path, shards: Mapping[str, Any]
    ) -> tuple[list[str], list[list[str]]]:
        from data_prep.text.by_source import lines_of_sources

        return lines_of_sources(corpus, preprocessor, shards)

    def specials(self, preprocessor: Path) -> Specials:
        return specials(preprocessor)


def _characters(documents: Corpus) -> int:
    return sum(pc.sum(pc.utf8_length(sentences)).as_py() or 0 for _, sentences, _ in documents.batches())


def _left_out(shards: Mapping[str, Any]) -> str:
    """How many of the training tokens are in no row, as text."""
    if not shards["left_out"]:
        return "all of them in rows"
    return f"{shards['left_out']:,} of them ({shards['left_out'] / shards['corpus_tokens']:.1%}) in no row"


KIND = TextKind()
