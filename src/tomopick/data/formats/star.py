"""STAR tables of particles and tomograms, as RELION and Warp mean them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing
from ...core.types import Picks, Vector
from .base import Objects, Part, Reading, to_eulers

log = logging.getLogger("tomopick")

SCORE = "rlnAutopickFigureOfMerit"
SCORES = (SCORE, "rlnLCCmax")  # the second is pytom-match-pick's
CLASS = "rlnClassNumber"
CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
PIXELS = tuple(f"rlnCoordinate{a}" for a in "XYZ")
SHIFTS = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
NAMES = ("rlnTomoName", "rlnMicrographName")
_UNDERSTOOD = {*SCORES, CLASS, *CENTRED, *PIXELS, *SHIFTS, *ANGLES, *SUBTOMOGRAM, *NAMES, "rlnOpticsGroup",
               "rlnOpticsGroupName", "rlnDetectorPixelSize"}  # fmt: skip


@dataclass(frozen=True)
class TomogramRow:
    """A tomogram of RELION's tomograms.star.

    Attributes:
        name: its `rlnTomoName`.
        pixel_size: of the tilt series [Å].
        size: of the unbinned tomogram, zyx [pixels of the tilt series].
        optics: voltage [kV], spherical aberration [mm], amplitude contrast; what there is of them.
    """

    name: str
    pixel_size: float
    size: Vector
    optics: Mapping[str, float] = field(default_factory=dict)

    @property
    def centre(self) -> Vector:
        """Half the size, zyx [Å]. Source: 3dem/relion, tomogram_set.cpp and particle_set.cpp."""
        z, y, x = self.size
        return z / 2 * self.pixel_size, y / 2 * self.pixel_size, x / 2 * self.pixel_size


def read_tomograms_star(path: Path) -> dict[str, TomogramRow]:
    """The tomograms of RELION's tomograms.star (`data_global`), by name.

    Raises:
        ReadError: no STAR file, or columns are missing; they are named.
    """
    blocks = read_star(path)
    needed = ("rlnTomoName", "rlnTomoTiltSeriesPixelSize", *(f"rlnTomoSize{a}" for a in "XYZ"))
    table = blocks.get("global", next(iter(blocks.values())))
    missing = [c for c in needed if c not in table]
    if missing:
        raise ReadError(f"{path}: no column {listing(missing)}; expected RELION's tomograms.star (block 'global')")
    rows = {}
    for row in table.to_dict("records"):
        x, y, z = (float(row[f"rlnTomoSize{a}"]) for a in "XYZ")
        optics = {c: float(row[c]) for c in OPTICS if c in row}
        name = str(row["rlnTomoName"])
        rows[name] = TomogramRow(name, float(row["rlnTomoTiltSeriesPixelSize"]), (z, y, x), optics)
    return rows


def read_star(path: Path) -> dict[str, Any]:
    """The blocks of a STAR file as data frames, by name; names of tomograms stay text.

    Raises:
        ReadError: unreadable, no STAR file, or without a table.
    """
    import pandas as pd
    import starfile

    try:
        # starfile takes anything for an empty STAR file; a picture or a model has no block.
        if "data_" not in path.read_text(encoding="utf-8"):
            raise ReadError(f"{path}: no 'data_' block in it; expected a STAR file")
        blocks = starfile.read(path, always_dict=True, parse_as_string=[*NAMES, "rlnTomoImportParticleFile"])
    except (OSError, UnicodeDecodeError, ValueError, IndexError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ReadError(f"{path}: cannot be read as STAR ({reason}); expected a STAR file") from None
    if not blocks:
        raise ReadError(f"{path}: has no table; expected a STAR file with particles")
    return {name: b if isinstance(b, pd.DataFrame) else pd.DataFrame([b]) for name, b in blocks.items()}


def star_bytes(blocks: Mapping[str, Any]) -> bytes:
    """Data frames as the text of a STAR file, numbers to 1e-6."""
    import starfile

    return starfile.to_string(dict(blocks)).encode()


def particle_block(blocks: Mapping[str, Any], path: Path) -> Any:
    """The table of particles: `data_particles`, or the only one with coordinates.

    Raises:
        ReadError: there is none, or several could be it.
    """
    fit = {n: b for n, b in blocks.items() if set(CENTRED) <= set(b) or set(PIXELS) <= set(b)}
    if "particles" in fit or len(fit) == 1:
        return fit.get("particles", next(iter(fit.values())))
    found = listing(f"data_{name}" for name in blocks)
    what = "several blocks with coordinates" if fit else "no block with coordinates"
    raise ReadError(
        f"{path}: {what} among {found}; expected data_particles with rlnCenteredCoordinateXAngst or rlnCoordinateX "
        "(and Y, Z)"
    )


def optics_sizes(table: Any, optics: Any, path: Path) -> np.ndarray | None:
    """(n,) the tilt series' pixel size of each particle [Å], by its optics group; None where the file does not say.

    Raises:
        ReadError: several groups of different pixel size, and particles that do not say to which they belong.
    """
    from copick.util.formats import relion_tilt_series_pixel_sizes

    if optics is not None and "rlnTomoTiltSeriesPixelSize" in optics:
        known = optics["rlnTomoTiltSeriesPixelSize"].astype(float)
        if known.nunique() == 1:
            return np.full(len(table), known.iloc[0])
    try:
        return relion_tilt_series_pixel_sizes(table, optics)
    except ValueError as error:
        raise ReadError(
            f"{path}: optics groups are mixed up ({str(error).rstrip('.')}); expected rlnOpticsGroup in both tables, "
            "or say the pixel size with --tilt-series-pixel-size"
        ) from None


def poses(table: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """(n, 3, 3) rotations (None where no angle is set) and (n, 3) shifts to subtract, zyx [Å], of RELION's particles.

    Source: copick 1.31, copick.util.relion.relion_rows_to_poses, after 3dem/relion particle_set.cpp.
    """
    from copick.util.relion import relion_rows_to_poses

    rotations, shifts = relion_rows_to_poses(table)
    angles = [c for c in (*ANGLES, *SUBTOMOGRAM) if c in table]
    turned = bool(angles) and bool(np.any(np.abs(table[angles].to_numpy(dtype=np.float64)) > 1e-9))
    return (rotations if turned else None), shifts[:, ::-1]


def picks_of(table: Any, positions: np.ndarray, run: str, reading: Reading, path: Path) -> Picks:
    """Picks at given positions before the shifts, zyx [Å], with what else the table says of them."""
    rotations, shifts = poses(table)
    score = next((c for c in SCORES if c in table), None)
    scores = np.ones(len(table)) if score is None else table[score].to_numpy(dtype=np.float64)
    classes = table[CLASS].to_numpy() if CLASS in table else None
    return Picks(run, positions - shifts, reading.objects(len(table), path, classes), scores, rotations)


def tell_unknown(table: Any, path: Path) -> None:
    """Logs the columns that picks have no place for."""
    unknown = [c for c in table if c not in _UNDERSTOOD]
    if unknown:
        log.info("%s: columns %s have no place in picks and are left out", path, listing(unknown))


def particle_table(
    parts: Sequence[Part], coordinates: Mapping[str, np.ndarray], columns: Sequence[str], objects: Objects
) -> Any:
    """The rows of all runs: coordinates, angles where any run has them, score, and class where there are several.

    Args:
        parts: picks of each run.
        coordinates: (n, 3) xyz of each run, by run.
        columns: what the three coordinates are called.
        objects: by name; their labels are the class numbers.
    """
    import pandas as pd

    turned = any(picks.rotations is not None for picks, _ in parts)
    several = len({name for picks, _ in parts for name in picks.names.tolist()}) > 1
    tables = []
    for picks, _ in parts:
        table = pd.DataFrame(dict(zip(columns, np.asarray(coordinates[picks.run], dtype=np.float64).reshape(-1, 3).T)))
        if turned:
            table[list(ANGLES)] = relion_angles(picks)
        table[SCORE] = picks.scores
        if several:
            table[CLASS] = [objects[name].label for name in picks.names.tolist()]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def relion_angles(picks: Picks) -> np.ndarray:
    """(n, 3) rot, tilt, psi [degrees]; zero where there are no rotations.

    Source: copick 1.31, copick.util.formats: the inverse of intrinsic ZYZ is RELION's matrix.
    """
    if picks.rotations is None:
        return np.zeros((len(picks), 3))
    return to_eulers(np.swapaxes(picks.rotations, 1, 2), "ZYZ")
