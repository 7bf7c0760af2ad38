from __future__ import annotations

from dataclasses import replace

from pipeline.downstream.anomaly.about_exported import sentence
from pipeline.downstream.anomaly.export import Exported


def test_test_rows_that_are_left_out_are_counted() -> None:
    exported = Exported(0.01, 500, 0.01, (3, 200), {"odd": (7, 9)}, learned=0)
    assert sentence(exported).endswith("and of 9 anomalies 77.78% (39.99% to 97.19%).")
    with_learned = sentence(replace(exported, learned=1234))
    assert with_learned == sentence(exported) + " Left out: 1,234 test rows equal to ones it has learned from."
