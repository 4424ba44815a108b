"""Progress bars: rate and remaining time on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from typing import Any


def bar(total: int, text: str, unit: str = "it", done: int = 0) -> Any:
    """A bar with `update(n)`, `set_postfix_str(text)` and `close()`; usable with `with`."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=text, unit=unit, file=sys.stderr, disable=None, leave=False)
