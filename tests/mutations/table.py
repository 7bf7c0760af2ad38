"""All changes. Each is one that a person might make by mistake, and that would spoil results in silence."""

from __future__ import annotations

from tests.mutations.changes import data, labelled, leaks, measures, pipeline, training

CHANGES = [*training.CHANGES, *leaks.CHANGES, *data.CHANGES, *labelled.CHANGES, *measures.CHANGES, *pipeline.CHANGES]
