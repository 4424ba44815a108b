"""STAR text -> tables of text, row by row, so that a value too few is noticed; joined files are told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import ReadError
from ...core.messages import counted
from ...core.text import read_text

_WORD = re.compile(r"""'(.*?)'(?=\s|$)|"(.*?)"(?=\s|$)|(\S+)""")
Blocks = dict[str, Any]  # by name, data frames of text whose index is the line in the file


@dataclass
class _Block:
    """A block while it is read."""

    name: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    single: dict[str, tuple[str, int]] = field(default_factory=dict)
    looping: bool = False
    in_rows: bool = False

    def table(self) -> Any:
        import pandas as pd

        if self.looping or self.columns:
            return pd.DataFrame(self.rows, index=self.lines, columns=self.columns, dtype=object)
        values = {name: text for name, (text, _) in self.single.items()}
        line = next((n for _, n in self.single.values()), 0)
        return pd.DataFrame([values], index=[line], columns=list(values), dtype=object)


def has_blocks(text: str) -> bool:
    """Whether a text is STAR; capitals do not matter in its keywords."""
    return re.search(r"^\s*data_", text, re.MULTILINE | re.IGNORECASE) is not None


def read_documents(path: Path) -> list[Blocks]:
    """The blocks of a STAR file; one entry for each file where several were joined into one.

    Where a block's name comes again a new file begins: each keeps its own optics.

    Raises:
        ReadError: unreadable, no STAR file, or a row with more or fewer values than columns; the line is named.
    """
    text = read_text(path, "a STAR file")
    if not has_blocks(text):
        raise ReadError(f"{path}: no 'data_' block in it; expected a STAR file")
    documents: list[Blocks] = [{}]
    for block in _blocks(text, path):
        if block.name in documents[-1]:
            documents.append({})
        documents[-1][block.name] = block.table()
    return documents


def _blocks(text: str, path: Path) -> list[_Block]:
    found: list[_Block] = []
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        line, i = lines[i].strip(), i + 1
        if not line or line.startswith("#"):
            continue
        if line.lower().startswith("data_") and len(line.split()) == 1:
            found.append(_Block(line[5:]))
            continue
        if not found:
            raise ReadError(f"{path}: line {i} is '{line[:40]}' before any block; expected a STAR file")
        if line.startswith(";") and not found[-1].looping:  # text of several lines, of no use here
            i = next((j + 1 for j in range(i, len(lines)) if lines[j].startswith(";")), len(lines))
            continue
        _take(found[-1], line, i, path)
    return found


def _take(block: _Block, line: str, number: int, path: Path) -> None:
    """One line into its block."""
    if line.lower() == "loop_":
        if block.columns:
            raise ReadError(
                f"{path}: line {number}: a second loop_ in block data_{block.name}; expected one table a block"
            )
        block.looping = True
    elif line.startswith("_") and not block.in_rows:
        name, *values = _words(line)
        if block.looping:
            _new_column(block, name[1:], number, path)
        else:
            block.single[name[1:]] = (values[0] if values else "", number)
    elif block.looping:
        words = _words(line)
        if len(words) != len(block.columns):
            raise ReadError(
                f"{path}: line {number} has {counted(len(words), 'value')}; expected {len(block.columns)}, one a "
                f"column of block data_{block.name}; mend or remove the row"
            )
        block.in_rows = True
        block.rows.append(words)
        block.lines.append(number)
    else:
        raise ReadError(f"{path}: line {number} is '{line[:40]}'; expected loop_, a name with _, or a block data_")


def _new_column(block: _Block, name: str, number: int, path: Path) -> None:
    if name in block.columns:
        raise ReadError(f"{path}: line {number}: column {name} is there twice in block data_{block.name}; keep one")
    block.columns.append(name)


def _words(line: str) -> list[str]:
    """The values of a line; quotation marks count where a value begins and where it ends, as in `5'` they do not."""
    if "'" not in line and '"' not in line:
        return line.split()
    return ["".join(parts) for parts in _WORD.findall(line)]
