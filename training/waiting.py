"""How OpenMP's threads wait for one another, settled before torch is imported.

By default a thread that has nothing to do spins for milliseconds. Where other processes want the cores, too, it thereby
keeps from them the thread that it waits for, and a training of two threads becomes many times slower than one of one.
"""

from __future__ import annotations

import os

BRIEFLY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}  # microseconds, then the core is given up


def wait_briefly() -> None:
    """Set the variables that OpenMP reads when it is loaded, unless the user has set one of them."""
    if not any(name in os.environ for name in (*BRIEFLY, "KMP_BLOCKTIME")):
        os.environ |= BRIEFLY
