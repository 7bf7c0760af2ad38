"""Faults, injected wherever the pipeline changes the file system or tells somebody how far it is.

    python -m tests.faults          more than a thousand of them, and the table: tried, survived, lost
    python -m tests.faults --quick  some sixty, as the default suite does
    python -m tests.faults ray      kill -9 of workers, controller, raylet, GCS and driver of a real run

`operations` traces a stage's operations and lets one of them fail; `scenarios` are the stages and what must be true
after a failure; `campaign` chooses failures, carries them out in forked processes, and counts; `damage` harms what an
ended run left behind; `kills` ends processes of a run on Ray.
"""
