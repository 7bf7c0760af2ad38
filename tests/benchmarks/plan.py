"""`sesame plan` beside what happens: `python -m tests.benchmarks.plan [SIZE …]`.

For each size and placement a training of its own, in processes of its own; memory and seconds of a step as predicted,
as measured, and their ratio. The bars are 10 % and 25 %. On a busy machine run it with `chrt -r 10`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from data_prep.corruptions.masking import MaskingConfig
from data_prep.facts import DataFacts
from data_prep.shards.rows import Specials
from pipeline.estimate import calibration
from training.config import NetworkConfig, ObjectiveConfig, PlacementConfig
from training.cost.counted import Cost
from training.cost.memory import watched_memory
from training.cost.step_benchmark import WARM_UP, PlainFacts, StepBenchmark, measure
from training.cost.transformer import Transformer

VOCABULARY, LENGTH, RATE, MOST = 30_522, 128, 0.15, 20
SIZES = {"4x256": (4, 256, 32), "6x512": (6, 512, 32), "12x768": (12, 768, 16)}  # layers, hidden, rows
STEPS = {"4x256": 10, "6x512": 6, "12x768": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bf16", {}),
    "plain, fp32": ("fp32", {}),
    "recomputed": ("bf16", {"activation_checkpointing": True}),
    "2 workers": ("bf16", {"workers": 2}),
    "2 workers, ZeRO-1": ("bf16", {"workers": 2, "zero": 1}),
    "2 workers, ZeRO-2": ("bf16", {"workers": 2, "zero": 2}),
    "2 workers, ZeRO-2, fp32": ("fp32", {"workers": 2, "zero": 2}),
    "2 workers, ZeRO-3": ("bf16", {"workers": 2, "zero": 3}),
    "2 workers, ZeRO-2, offload": ("bf16", {"workers": 2, "zero": 2, "offload_optimizer": "cpu"}),
    "2 workers, ZeRO-3, offload": (
        "bf16",
        {"workers": 2, "zero": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
    ),
}


def benchmark(size: str, case: str) -> StepBenchmark:
    layers, hidden, rows = SIZES[size]
    precision, placement = CASES[case]
    config = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": LENGTH,
    }
    specials = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=VOCABULARY)
    return StepBenchmark(
        network=NetworkConfig(config=config),
        objective=ObjectiveConfig(name="masked-lm", options={"sentence": "sop"}),
        facts=PlainFacts.of(DataFacts("text", ("input",), length=LENGTH, specials=specials)),
        corruption=MaskingConfig.model_validate({"kind": "masked-lm", "rate": RATE, "max_predictions": MOST}),
        batch=rows,
        steps=WARM_UP + STEPS[size],
        precision=precision,
        placement=PlacementConfig(**placement),
    )


def predicted(size: str, steps: StepBenchmark, home: Path) -> tuple[float, float]:
    """Bytes and seconds."""
    layers, hidden, _ = SIZES[size]
    shape = Transformer(layers, hidden, hidden // 64, 4 * hidden, VOCABULARY, LENGTH, 2, masked_lm=True)
    timed = calibration.layered_step_time(home, steps, layers)
    assert timed.trial is not None
    cost = Cost(shape.parameters(), "tokens", LENGTH, RATE * LENGTH, row_flops=0.0, activations=0.0, shape=shape)
    bytes_ = watched_memory(cost, steps.placement, "adamw", False, "worker", timed.trial).total
    return bytes_, timed.step(1)


def main(sizes: list[str]) -> None:
    print(calibration.hardware())
    heads = ("memory, MiB", "measured", "ratio", "step, s", "measured", "ratio")
    print(f"{'':36}" + "".join(f"{head:>13}" for head in heads))
    with tempfile.TemporaryDirectory() as home:
        for size in sizes:
            for case in CASES:
                steps = benchmark(size, case)
                bytes_, seconds = predicted(size, steps, Path(home))
                [measured] = measure(steps)
                cells = (
                    f"{bytes_ / 2**20:,.0f}",
                    f"{measured.peak_bytes / 2**20:,.0f}",
                    f"{bytes_ / measured.peak_bytes:.2f}",
                    f"{seconds:.3f}",
                    f"{measured.step_seconds:.3f}",
                    f"{seconds / measured.step_seconds:.2f}",
                )
                print(f"{size + ', ' + case:36}" + "".join(f"{cell:>13}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SIZES))
