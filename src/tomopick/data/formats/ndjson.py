"""Points of the CryoET Data Portal: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.reading import parse_json
from ...core.text import read_text
from ...core.types import Picks
from .base import Objects, Part, Reading, finite, voxel_notes


@dataclass(frozen=True)
class PortalPoints:
    """The portal's annotation of one run and object: `location` in voxels, `xyz_rotation_matrix` where it is turned.

    Voxels are those of the annotation's voxel spacing, index 0 centred at 0. Our writer adds `score`, which the
    portal's own files do not have.

    Source: chanzuckerberg/cryoet-data-portal documentation, annotation files (point, orientedPoint, instancePoint);
    copick 1.31, copick.impl.cryoet_data_portal, which multiplies them by the voxel spacing.
    """

    key: str = "ndjson"
    suffix: str = ".ndjson"
    per_run: bool = True
    mixed: bool = False

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """The points of the one run in `parts`."""
        ((picks, frame),) = parts
        voxels = frame.need_grid("ndjson").indices(picks.positions)
        lines = []
        for i, (z, y, x) in enumerate(np.round(voxels, 5).tolist()):
            point: dict[str, Any] = {"type": "point", "location": {"x": x, "y": y, "z": z}}
            if picks.rotations is not None:
                point["type"] = "orientedPoint"
                point["xyz_rotation_matrix"] = np.round(picks.rotations[i], 8).tolist()
            lines.append(json.dumps(point | {"score": round(float(picks.scores[i]), 6)}))
        return {path: ("\n".join(lines) + "\n").encode()}

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The volume."""
        return voxel_notes(parts)

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The points of one run."""
        frame, said = reading.find_file(path)
        if frame is None:
            return []
        points = _load(path)
        if not points:
            return reading.nothing(path, frame.run)
        try:
            place = [[p["location"][a] for a in "zyx"] for p in points]
            voxels = finite(np.array(place, dtype=np.float64).reshape(-1, 3), path)
            stated = [1.0 if p.get("score") is None else p["score"] for p in points]
            scores = finite(np.array(stated, dtype=np.float64), path, "score")
            turns = [p.get("xyz_rotation_matrix") for p in points]
            eye = np.eye(3).tolist()
            rotations = np.array([t or eye for t in turns], dtype=np.float64).reshape(-1, 3, 3) if any(turns) else None
            _ = None if rotations is None else finite(rotations, path, "rotation")
        except (KeyError, TypeError, ValueError) as error:
            raise ReadError(f"{path}: a line is no point ({error!r}); expected location with x, y, z") from None
        size = reading.pixel_size
        positions = frame.need_grid("ndjson").positions(voxels) if size is None else voxels * size
        names = reading.objects(len(points), path, None, said)
        return [Picks(frame.run, positions, names, scores, rotations)]


def _load(path: Path) -> list[dict[str, Any]]:
    points = []
    for i, line in enumerate(read_text(path, "the portal's ndjson").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            point = parse_json(line)
        except ValueError as error:
            raise ReadError(f"{path}: line {i} is no JSON ({error}); expected the portal's ndjson") from None
        if not isinstance(point, dict):
            raise ReadError(f"{path}: line {i} is no JSON object; expected one point a line")
        points.append(point)
    return points
