"""Arrow's compute functions, which are made when it is imported, so that no type checker knows them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
