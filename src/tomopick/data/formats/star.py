"""STAR tables of particles and tomograms, as RELION and Warp mean them: their names, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing
from ...core.types import Picks, Vector
from .base import Objects, Part, to_eulers
from .counted import TILT_SERIES, column, positive
from .star_text import read_documents

SCORE = "rlnAutopickFigureOfMerit"
CLASS = "rlnClassNumber"
CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
PIXELS = tuple(f"rlnCoordinate{a}" for a in "XYZ")
PRIORS = ("rlnAngleTiltPrior", "rlnAnglePsiPrior")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
NAMES = ("rlnTomoName", "rlnMicrographName")
LIST_FILE = "rlnTomoImportParticleFile"
_RECONSTRUCTED = "rlnTomoReconstructedTomogram"  # and ...Half1, ...Half2, ...Denoised


@dataclass(frozen=True)
class TomogramRow:
    """A tomogram of RELION's tomograms.star.

    Attributes:
        name: its `rlnTomoName`.
        pixel_size: of the tilt series [Å].
        size: of the unbinned tomogram, zyx [pixels of the tilt series].
        optics: voltage [kV], spherical aberration [mm], amplitude contrast; what there is of them.
        files: that were reconstructed of it.
    """

    name: str
    pixel_size: float
    size: Vector
    optics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def centre(self) -> Vector:
        """Half the size, zyx [Å]. Source: 3dem/relion, tomogram_set.cpp and particle_set.cpp."""
        z, y, x = self.size
        return z / 2 * self.pixel_size, y / 2 * self.pixel_size, x / 2 * self.pixel_size


def read_tomograms_star(path: Path) -> dict[str, TomogramRow]:
    """The tomograms of RELION's tomograms.star (`data_global`), by name.

    Raises:
        ReadError: no STAR file, columns are missing (they are named), or a number that is none.
    """
    needed = ("rlnTomoName", TILT_SERIES, *(f"rlnTomoSize{a}" for a in "XYZ"))
    rows = {}
    for blocks in read_documents(path):
        table = blocks.get("global", next(iter(blocks.values())))
        missing = [c for c in needed if c not in table]
        if missing:
            raise ReadError(f"{path}: no column {listing(missing)}; expected RELION's tomograms.star (block 'global')")
        sizes = np.stack([positive(table, f"rlnTomoSize{a}", path) for a in "ZYX"], axis=1)
        pixels = positive(table, TILT_SERIES, path)
        optics = {c: column(table, c, path) for c in OPTICS if c in table}
        kept = [c for c in table if str(c).startswith(_RECONSTRUCTED)]
        for i, name in enumerate(table["rlnTomoName"].astype(str)):
            files = tuple(str(table[c].iloc[i]) for c in kept if table[c].iloc[i] not in ("", "None"))
            size = (float(sizes[i, 0]), float(sizes[i, 1]), float(sizes[i, 2]))
            rows[name] = TomogramRow(name, float(pixels[i]), size, {c: float(v[i]) for c, v in optics.items()}, files)
    return rows


def star_bytes(blocks: Mapping[str, Any]) -> bytes:
    """Data frames as the text of a STAR file, numbers to 1e-6; the same whenever it is written."""
    import starfile

    lines = starfile.to_string(dict(blocks)).split("\n")
    return "\n".join(line for line in lines if not line.startswith("# Created")).encode()


def particle_block(blocks: Mapping[str, Any], path: Path) -> Any:
    """The table of particles: the only one with coordinates, `data_particles` or not.

    Raises:
        ReadError: there is none, or several could be it.
    """
    fit = {n: b for n, b in blocks.items() if set(CENTRED) <= set(b) or set(PIXELS) <= set(b)}
    if len(fit) == 1:
        return next(iter(fit.values()))
    found = listing(f"data_{name}" for name in blocks)
    what = "several blocks with coordinates" if fit else "no block with coordinates"
    raise ReadError(
        f"{path}: {what} among {found}; expected data_particles with rlnCenteredCoordinateXAngst or rlnCoordinateX "
        "(and Y, Z) alone"
    )


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
            table[list(PRIORS)] = table[list(ANGLES[1:])]  # what a local search stays near to
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
