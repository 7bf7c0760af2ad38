"""See `tests.faults`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tests.faults

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
QUICK = (36, 21, 1)  # injections, harms, faults in a row


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=tests.faults.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["stages", "ray"], default="stages")
    parser.add_argument("--injections", type=int, default=1500, help="into stages, about so many")
    parser.add_argument("--harms", type=int, default=210, help="to files between two runs, about so many")
    parser.add_argument("--quick", action="store_true", help="a few of them")
    parser.add_argument("--most", type=int, default=3, help="faults in a row before a clean run")
    parser.add_argument("--only", action="append", default=[], help="one stage; may be given several times")
    parser.add_argument("--kills", type=int, default=30, help="of processes of runs on Ray")
    parser.add_argument("--steps", type=int, default=3000, help="of a training whose processes are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print an object, and the rest to standard error")
    options = parser.parse_args()
    return _ray(options) if options.what == "ray" else _stages(options)


def _stages(options: argparse.Namespace) -> int:
    warm_up()
    from tests.faults.campaign import Campaign, folder_on_memory
    from tests.faults.report import table

    with tempfile.TemporaryDirectory(prefix="sesame-faults-", dir=folder_on_memory()) as folder:
        campaign = Campaign(Path(folder), options.seed, _say(options))
        if options.quick:
            report = campaign.run(*QUICK)
        elif options.only:
            report = campaign.run(options.injections, 0, options.most, options.only)
        else:
            report = campaign.run(options.injections, options.harms, options.most)
    print(json.dumps(report.as_json()) if options.json else table(report))
    missing = report.never_hit() if options.quick or options.only else report.not_hit()
    return 1 if report.lost or missing else 0


def _ray(options: argparse.Namespace) -> int:
    from tests.faults.kills import Kills, table

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its runs are ended, too
    with tempfile.TemporaryDirectory(prefix="sesame-kills-") as folder:
        kills = Kills(Path(folder), options.steps, options.seed, _say(options)).carry_out(options.kills)
    print(json.dumps([asdict(kill) for kill in kills]) if options.json else table(kills))
    return 1 if any(kill.lost for kill in kills) else 0


def _say(options: argparse.Namespace):
    return lambda line: print(line, file=sys.stderr if options.json else sys.stdout, flush=True)


def warm_up() -> None:
    """Import what the stages need, once for all processes that are forked. Nothing is trained here."""
    for package in ("data_prep", "training", "pipeline"):  # all: so nobody meets modules that are edited meanwhile
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        import pandas  # noqa: F401
        import scipy.stats  # noqa: F401
        import sklearn.metrics  # noqa: F401
        from transformers import BertConfig, BertForPreTraining

        small = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        BertForPreTraining(small).save_pretrained(folder)  # compiles hundreds of patterns for the first one


if __name__ == "__main__":
    sys.exit(main())
