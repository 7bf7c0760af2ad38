"""Numbers in sentences: "0 bytes" is in "10,240 bytes", but nobody said so."""

from __future__ import annotations

import re


def said(phrase: str, text: str) -> bool:
    """Whether a text has a phrase that begins with a number, which is not the end of a longer one."""
    return re.search(rf"(?<![\d.,]){re.escape(phrase)}", text) is not None
