"""Text that others wrote: byte-order marks, JSON, and numbers that are checked where they are read."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ReadError
from .reading import parse_json, read_bytes

if TYPE_CHECKING:
    import numpy as np

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, expected: str) -> str:
    """The text of a file in UTF-8, or in what its byte-order mark says; lines end with a line feed.

    Raises:
        ReadError: unreadable or no text; it says what was `expected`.
    """
    data = read_bytes(path, expected)
    try:
        encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: is no text (byte {error.start}: {error.reason}); expected {expected}") from None


def read_json(path: Path, expected: str) -> Any:
    """What a JSON file holds.

    Raises:
        ReadError: unreadable or no JSON; it says what was `expected`.
    """
    text = read_text(path, expected)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error}); expected {expected}") from None


BEYOND = 1e30  # of a number in a file of others: what is computed with it stays finite


def checked_numbers(texts: Sequence[str], path: Path, column: str, lines: Sequence[int]) -> np.ndarray:
    """(n,) the numbers that texts say.

    Args:
        texts: of one column.
        path: of the file, for the message.
        column: what it is called there.
        lines: the line of each text.

    Raises:
        ReadError: one is no finite number; file, line and column are named.
    """
    import numpy as np  # the command line's help reads texts, and no numbers

    try:
        values = np.array(texts, dtype=np.str_).astype(np.float64) if len(texts) else np.zeros(0)
        if (np.abs(values) <= BEYOND).all() and not any("_" in text for text in texts):
            return values
    except ValueError:
        pass  # which one it is, is said below
    for text, line in zip(texts, lines):
        if not _is_number(text):
            raise ReadError(
                f"{path}: line {line}: {column} is '{text}'; expected a finite number such as -12.5 or 1.2e3"
            )
    return np.array([float(text) for text in texts], dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= BEYOND and "_" not in text
    except ValueError:
        return False
