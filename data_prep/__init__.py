"""From raw sources to rows that a network can be trained on.

Sources become a cleaned corpus, the corpus becomes token ids, `compose` builds examples from them, and `corrupt` splits
each example into what the network sees and what it must predict. Nothing here depends on networks or experiments.
"""

from __future__ import annotations

import os

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Environment of every process: nothing is looked up outside of this machine."""

os.environ.update(OFFLINE)  # here, for the hub's library reads it when it is imported, in whatever process
