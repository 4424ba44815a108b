"""Lists beside files that number tomograms instead of naming them: lines "number path-or-name"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.errors import ReadError, SelectionError
from ...core.text import read_text
from .base import Part, Reading, RunFrame


def index_map_bytes(parts: Sequence[Part]) -> bytes:
    """The list of the runs' numbers, as Dynamo's `indices_column_20.doc`."""
    return "".join(f"{f.index} {f.name}\n" for _, f in parts).encode()


def read_index_map(path: Path) -> dict[int, str]:
    """Number -> name or path, from lines "number path"; spaces, tabs or a comma between.

    Raises:
        ReadError: unreadable, a line of another form, or a number that is there twice.
    """
    found: dict[int, str] = {}
    lines = read_text(path, "lines 'number path-or-name'").splitlines()
    for i, line in enumerate(lines):
        number, _, name = line.strip().replace(",", " ", 1).replace("\t", " ", 1).partition(" ")
        if not line.strip():
            continue
        if not number.isdigit() or not name.strip():
            raise ReadError(f"{path}: line {i + 1} is '{line.strip()}'; expected 'number path-or-name'")
        if int(number) in found:
            raise ReadError(f"{path}: line {i + 1}: tomogram {number} is there twice; keep one")
        found[int(number)] = name.strip()
    return found


def numbered_frames(numbers: np.ndarray, path: Path, reading: Reading) -> list[tuple[int, RunFrame]]:
    """The frames of the tomograms that a file numbers; those that no run is called by are noted and left out.

    The list is `index_map`, else the file's own name with `.doc`, else `indices_column_20.doc` beside it.

    Raises:
        SelectionError: several tomograms or runs, and no list.
    """
    places = (reading.index_map, path.with_suffix(".doc"), path.parent / "indices_column_20.doc")
    place = next((p for p in places if p is not None and (p.is_file() or p == reading.index_map)), None)
    unique = sorted({int(n) for n in numbers.tolist()})
    if place is not None:
        names = read_index_map(place)
        frames = [(n, reading.find(names.get(n, f"tomogram {n} (not in {place.name})"))) for n in unique]
        return [(n, frame) for n, frame in frames if frame is not None]
    if len(unique) == 1:
        frame, _ = reading.find_file(path)
        if frame is not None:
            return [(unique[0], frame)]
    raise SelectionError(
        f"{path}: numbers its tomograms ({', '.join(map(str, unique[:8]))}) and nothing says which runs they are; "
        "give the list with `index_map=FILE` (lines 'number path-or-name'; Dynamo's indices_column_20.doc)"
    )
