"""copick's picks files, both ways, without copick: the same numbers for every source that stores them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ReadError
from ..core.names import component
from ..core.text import BEYOND, read_json
from ..core.types import Picks

_OURS = "tomopick"  # under a file's "metadata": further numbers of each point, by name
_AT_ONCE = 10_000  # points that are made into text at a time


@dataclass(frozen=True)
class PicksFile:
    """One file: the picks of one object, user and session.

    Attributes:
        name: the object.
        user_id: who.
        session_id: when.
        picks: positions as the file has them, zyx [Å].
        voxel_spacing: [Å] of the tomogram it was made on, where it says so.
    """

    name: str
    user_id: str
    session_id: str
    picks: Picks
    voxel_spacing: float | None = None


def parse_picks(data: Any, run: str, where: str) -> PicksFile:
    """The picks of copick's dictionary; the particle's centre is its location plus its transformation's translation.

    Rotations are None where orientations are not trusted or none is turned.

    Raises:
        ReadError: not such a dictionary, another unit, or numbers that are not finite.
    """
    try:
        points = data.get("points") or []
        if (unit := data.get("unit", "angstrom")) != "angstrom":
            raise ValueError(f"unit {unit}")
        place = [[p["location"]["z"], p["location"]["y"], p["location"]["x"]] for p in points]
        positions = np.array(place, dtype=np.float64).reshape(-1, 3)
        eye = np.eye(4).tolist()
        turns = np.array([p.get("transformation_") or eye for p in points], dtype=np.float64).reshape(-1, 4, 4)
        scores = np.array([1.0 if p.get("score") is None else p["score"] for p in points], dtype=np.float64)
        name, user, session = str(data["pickable_object_name"]), str(data["user_id"]), str(data["session_id"])
        spacing = float(data["voxel_spacing"]) if data.get("voxel_spacing") else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReadError(
            f"{where}: not copick's picks ({error!r}); expected points with a location in angstrom"
        ) from None
    if not all((np.abs(numbers) <= BEYOND).all() for numbers in (positions, turns, scores)):  # NaN is not
        raise ReadError(f"{where}: a point is not a finite number; expected positions in angstrom")
    positions = positions + turns[:, :3, 3][:, ::-1]
    rotations = turns[:, :3, :3]
    trusted = data.get("trust_orientation") is not False and not np.allclose(rotations, np.eye(3))
    names = np.full(len(positions), name)
    columns = _columns(data, len(positions))
    picks = Picks(run, positions, names, scores, rotations if trusted else None, columns)
    return PicksFile(name, user, session, picks, spacing)


def _columns(data: Any, n: int) -> dict[str, np.ndarray]:
    """Our own columns; none where the file has none, or was changed since by a program that keeps them as they were."""
    metadata = data.get("metadata")
    found = metadata.get(_OURS) if isinstance(metadata, dict) else None
    columns = {}
    for name, values in found.items() if isinstance(found, dict) else ():
        try:
            column = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if column.shape == (n,):
            columns[str(name)] = column
    return columns


def read_picks_json(path: Path, run: str) -> PicksFile:
    """The picks of a file.

    Raises:
        ReadError: not JSON, or as `parse_picks`.
    """
    return parse_picks(read_json(path, "copick's picks"), run, str(path))


@dataclass(frozen=True)
class PicksText:
    """copick's file of the picks of one object, a point a line; its text is made as it is written.

    Attributes:
        picks: positions as the file is to have them, all of one object.
        name: the object.
        user_id, session_id, voxel_spacing: as the file states them.
    """

    picks: Picks
    name: str
    user_id: str
    session_id: str
    voxel_spacing: float | None

    def __iter__(self) -> Iterator[str]:
        about = {
            "pickable_object_name": self.name, "user_id": self.user_id, "session_id": self.session_id,
            "run_name": self.picks.run, "voxel_spacing": self.voxel_spacing, "unit": "angstrom",
            "trust_orientation": self.picks.rotations is not None,
        }  # fmt: skip
        yield json.dumps(about, indent=1)[: -len("\n}")]
        columns = {k: [None if v != v else round(v, 6) for v in c.tolist()] for k, c in self.picks.columns.items()}
        if columns:  # copick reads past what it does not know
            yield ',\n "metadata": ' + json.dumps({_OURS: columns})
        yield ',\n "points": ['
        between = "\n  "
        for first in range(0, len(self.picks), _AT_ONCE):
            points = self._points(self.picks.select(np.arange(first, min(first + _AT_ONCE, len(self.picks)))))
            yield between + ",\n  ".join(json.dumps(point) for point in points)
            between = ",\n  "
        yield "]\n}"

    @staticmethod
    def _points(picks: Picks) -> Iterator[dict[str, Any]]:
        turns = np.tile(np.eye(4), (len(picks), 1, 1))
        if picks.rotations is not None:
            turns[:, :3, :3] = picks.rotations
        for (z, y, x), turn, score in zip(picks.positions.tolist(), turns.tolist(), picks.scores.tolist()):
            yield {"location": {"x": x, "y": y, "z": z}, "transformation_": turn, "instance_id": 0, "score": score}


def picks_files(
    picks: Picks, objects: Sequence[str], stale: Sequence[str], fields: tuple[str, str, float | None]
) -> dict[str, PicksText]:
    """File name -> all files that `picks` become.

    An object that was found before under the same user and session and is not found now (`stale`) becomes empty; so
    do all objects where nothing was found at all, so that the run is known to have been done.

    Args:
        picks: of one run, positions as the file is to have them.
        objects: all of the project.
        stale: objects with a file of this user and session.
        fields: user, session, and the voxel spacing [Å].
    """
    user_id, session_id, _ = fields
    names = sorted({*picks.names.tolist(), *stale}) or sorted(objects)
    texts: dict[str, PicksText] = {}
    for name in names:
        file = f"{user_id}_{session_id}_{component(name, 'object')}.json"
        texts[file] = PicksText(picks.of(name), name, *fields)
    return texts
