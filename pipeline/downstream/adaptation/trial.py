"""Runs a job `adaptation`: held-out rows by both tokenizers, and three networks that are asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.compute.workers import Workers
from data_prep.kinds import Inputs, Use
from data_prep.sources.files import below
from data_prep.text.by_source import by_source
from data_prep.text.write_shards import write_shards
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from data_prep.tokens.vocabulary import extension
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.adaptation.report import Known, SourceReport, build
from pipeline.downstream.config import VALIDATION_SPLIT
from pipeline.reports.report import Report
from pipeline.stage import Context
from pipeline.training_settings import SECTIONS, held_out_sources, mixture, starting
from training.config import NetworkConfig
from training.distributed import Worker, choose_device
from training.job import Job, held_out_means
from training.models.text.architectures import architecture_of
from training.monitor.names import BITS_PER_BYTE, VALIDATION


class Trial:
    """A job with its inputs."""

    def __init__(self, job: Any, settings: dict[str, Any], inputs: Mapping[str, Artifact], context: Context) -> None:
        self.job, self.settings, self.inputs, self.context = job, settings, inputs, context
        self.placement = context.one_worker
        self.worker = Worker(device=choose_device(self.placement.device))

    def run(self, out_dir: Path) -> Report:
        """Carry out the job; figures go to `out_dir`."""
        shards, after = self.inputs["shards"], self.inputs["preprocessor"].path
        rows = below(shards.uri, VALIDATION_SPLIT)
        added = extension.read(after)
        known: dict[Known, dict[str, float]] = {}
        before = after
        if added is not None:
            before, rows_before = self._as_before()
            known["before"] = self._bits_per_byte("the network as it was", before, str(rows_before))
        known["start"] = self._bits_per_byte("the network as training began", after, rows)
        trained = self.inputs["pretrained"].path / MODEL
        known["after"] = self._bits_per_byte("the trained network", after, rows, export=trained)
        cut = {
            "before": by_source(self.inputs["corpus"].path, before),
            "after": by_source(self.inputs["corpus"].path, after),
        }
        name = self.settings["pretraining"]["name"]
        reports = [
            SourceReport(
                name=source,
                is_trained_on=self.settings["weights"].get(source) != 0
                and any(corpus.source == source for corpus in self._corpora()),
                bits={when: means[source] for when, means in known.items() if source in means},
                tokens={
                    when: next(sums for sums in of_sources if (sums.source or name) == source)
                    for when, of_sources in cut.items()
                },
            )
            for source in known["after"]
        ]
        line = architecture_of(NetworkConfig.model_validate(self.settings["pretraining"]["network"]).architecture)
        is_in_order = line.causal or line.encoder_decoder
        remarks = self.inputs["pretrained"].summary.get("started", [])
        special = specials(after)
        pieces = Pieces(load(after), special)
        spelt = [] if added is None else [pieces.name(number) for number in range(added.first, special.vocabulary)]
        return build(self.job, reports, added, spelt, is_in_order, remarks, out_dir)

    def _as_before(self) -> tuple[Path, Path]:
        """The tokenizer without new pieces, and held-out rows by it."""
        self.context.progress("cutting held-out texts as before")
        place, corpus = self.context.work, self.inputs["corpus"]
        tokenizer, rows = place / "tokenizer", place / "rows"
        config = TokenizerConfig.model_validate(self.settings["tokenizer"])
        train(config, (), tokenizer, Cleaning(**self.settings["cleaning"]))
        placement = self.context.placement
        workers = Workers.of(placement.get("data_workers"), placement.get("ray_address"), place)
        use = Use(place, self.context.downloads, self.context.progress, workers)
        made_of = Inputs(corpus.path, corpus.summary, tokenizer)
        write_shards(self.settings["shards"], made_of, rows, use, splits=(VALIDATION_SPLIT,))
        return tokenizer, rows / VALIDATION_SPLIT

    def _corpora(self) -> list[Any]:
        return mixture("train", self.settings["pretraining"], self.inputs["shards"])

    def _bits_per_byte(self, who: str, tokenizer: Path, rows: str, export: Path | None = None) -> dict[str, float]:
        """Bits per byte of each source. export: weights; None: those of the folder that training starts from."""
        self.context.progress(f"asking {who}")
        config = self.settings["pretraining"]
        train_settings = {name: value for name, value in config["train"].items() if name != "longer"}
        job = Job.model_validate(
            {
                **{name: config[name] for name in ("kind", *SECTIONS, "networks", "seed") if name in config},
                "train": {**train_settings, "evaluate_rows": self.job.rows},
                "corpora": self._corpora(),
                "held_out": rows,
                "held_out_sources": held_out_sources(config, self.inputs["shards"]),
                "cache": str(self.context.downloads / "shards"),
                "preprocessor": str(tokenizer),
                "placement": self.placement,
                **starting(config["train"], self.context),
                "work": "",
                "out": "",
                "recipe": "",
            }
        )
        means = held_out_means(job, self.worker, export)
        prefix = f"{VALIDATION}{BITS_PER_BYTE}/"
        return {name.removeprefix(prefix): value for name, value in means.items() if name.startswith(prefix)}
