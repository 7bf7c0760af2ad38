"""Arrow's compute functions, which are generated on import and therefore unknown to type checkers."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
