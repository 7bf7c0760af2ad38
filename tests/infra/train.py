"""Trains a job in a process of its own, as `sesame` does:  python -m tests.infra.train JOB.json"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from data_prep.errors import UserError
from flows.machine.environment import prepare
from training import launch
from training.job import Job


def main() -> int:
    prepare(Path("prefect").absolute())
    began = time.monotonic()
    try:
        summary = launch.run(Job.model_validate_json(Path(sys.argv[1]).read_text()))
    except UserError as error:
        print(f"sesame: {error}")
        return 1
    finally:
        print(f"took {time.monotonic() - began:.0f} s")
        launch.stop_ray()
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
