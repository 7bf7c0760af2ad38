"""The kind `table`: typed rows, converted to numbers by a transform that is fitted on training rows only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_prep.array_kind import ArrayKind, chosen_batches
from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.decide import ArrayDecision, decide
from data_prep.corpus.draft import Draft
from data_prep.corpus.schema import classes_of
from data_prep.errors import UserError
from data_prep.findings import Finding, Known
from data_prep.kinds import DataConfig, Inputs, Progress, Sections
from data_prep.settings import identity
from data_prep.sources.config import Accepts
from data_prep.tables import files, units
from data_prep.tables.schema import TableConfig
from data_prep.tables.transform.transform import FILE, FORMAT, Transform, TransformConfig
from data_prep.views import Cells, Viewer

NORMAL = 0  # class index of normal rows, if normal labels are configured


class TableData(DataConfig):
    """Sources, columns and splits of a table."""

    kind: Literal["table"]
    """Kind of data in the sources."""
    table: TableConfig = Field(default_factory=TableConfig)
    """Roles and kinds of columns."""
    transform: TransformConfig = Field(default_factory=TransformConfig)
    """How columns become numbers."""
    train_on: Literal["all", "normal"] = "all"
    """normal: train only on normal rows, according to their labels (`data.table.normal`)."""
    max_rejects: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] = 0.01
    """Maximum number (an integer) or share (a fraction) of bad rows."""

    AFTER_INGEST: ClassVar = ("transform", "train_on")


class TableKind(ArrayKind):
    """See the module's docstring."""

    Data = TableData
    fits = "transform"
    reader = units
    of_source = ("encoding", "delimiter")
    version = 3

    def meaning(self, data: TableData) -> TableConfig:
        return data.table

    def about(self, agreed: dict[str, Any], labels: set[str]) -> dict[str, Any]:
        schema = agreed["schema"]
        classes = classes_of(labels, schema["normal"])
        return {"kind": "table", "schema": schema, "classes": classes, "notes": agreed["notes"]}

    def findings(self, known: Known) -> Iterator[Finding]:
        yield from super().findings(known)
        yield from map(Finding, (known.corpus or {}).get("notes", ()))

    def decide(self, draft: Draft) -> ArrayDecision:
        ordered = draft.data.table.time is not None
        return decide(draft.folders, draft.declared, draft.data.split, draft.seed, draft.scratch, ordered=ordered)

    def lacks_normal(self, data: TableData) -> str:
        packages = any(source.package for source in data.sources)  # packages may define the normal labels
        is_known = data.table.normal or data.table.layout or packages or data.table.target is None
        return "" if is_known else "set data.table.normal, or leave out data.table.target"

    def accepts(self, data: TableData) -> Accepts:
        return files.accepts(data.table.layout)

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        transform = identity(recipe.data.transform)
        return {"format": FORMAT, "transform": transform, "train_on": recipe.data.train_on}

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        progress("fitting the transform", None)
        train = ArrayCorpus(corpus, "train")
        normal = self._normal(settings, train.schema is not None and bool(train.schema.normal))
        transform = Transform.fit(
            lambda: (_table(batch) for batch in chosen_batches(train, normal)),
            TransformConfig.model_validate(settings["transform"]),
            train.schema,
        )
        transform.save(out_dir / FILE)
        return {"features": len(transform.features), "dropped": transform.dropped}

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        return {"train_on": recipe.data.train_on}

    def normal_classes(self, settings: dict[str, Any], corpus: dict[str, Any]) -> list[int] | None:
        return self._normal(settings, bool(corpus["schema"]["normal"]))

    def _normal(self, settings: dict[str, Any], labels_tell: bool) -> list[int] | None:
        if settings["train_on"] == "all":
            return None
        if not labels_tell:
            raise UserError("data.train_on: normal needs labels that are normal; set data.table.target and .normal.")
        return [NORMAL]

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Also lists the columns without features, and why."""
        return super().stats(settings, made_of, shards, parts) | {"dropped": self.loaded(made_of).dropped}

    def loaded(self, made_of: Inputs) -> Transform:
        return Transform.load(made_of.preprocessor / FILE)

    def inputs(self, batch: ArrayBatch, preprocessor: Transform) -> np.ndarray:
        return preprocessor.apply(_table(batch))

    def viewer(self, preprocessor: Path | None) -> Viewer:
        """Shows features in the units of the table if the transform is available."""
        if preprocessor is None:
            return lambda features: Cells({str(number): value for number, value in enumerate(features.tolist())})
        transform = Transform.load(preprocessor / FILE)

        def view(features: np.ndarray) -> Cells:
            (cells,) = transform.invert(np.asarray(features)[None]).to_pylist()
            return Cells({name: value for name, value in cells.items() if name not in transform.dropped})

        return view

    def raw_view(self, batch: ArrayBatch, row: int) -> Cells:
        return Cells(_table(batch).slice(row, 1).to_pylist()[0])

    def shape(self, corpus: ArrayCorpus, preprocessor: Transform) -> tuple[tuple[int, ...], int]:
        return (len(preprocessor.features),), 4 * len(preprocessor.features)


def _table(batch: ArrayBatch) -> pa.RecordBatch:
    if not isinstance(batch.input, pa.RecordBatch):
        raise TypeError("the corpus holds no table")
    return batch.input


KIND = TableKind()
