"""Particles of STAR files: RELION's and Warp's tables, M's, and RELION's lists of coordinate files."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing
from ...core.text import read_text
from ...core.types import Picks
from ..plausible import SPECK, within_one
from .base import Reading, RunFrame, from_eulers, load_numbers, rotated
from .counted import BINNING, GROUPS, MAGNIFICATION, SIZES, column, columns, counted_in
from .motl import read_stopgap
from .star import ANGLES, CENTRED, CLASS, LIST_FILE, NAMES, PIXELS, PRIORS, SCORE, particle_block
from .star_text import Blocks, has_blocks, read_documents

log = logging.getLogger("tomopick")

SCORES = (SCORE, "rlnLCCmax", "ptmLCCmax", "pytmeScore", "rlnMetricValue", "rlnParticleFigureOfMerit")
_SCORE_LIKE = re.compile(r"score|lccmax|confidence|(?<!ctf)figureofmerit", re.IGNORECASE)
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_SHIFTS = tuple(f"rlnOrigin{a}Angst" for a in "XYZ")
PIXEL_SHIFTS = tuple(f"rlnOrigin{a}" for a in "XYZ")
M_NAME = "wrpSourceName"
_UNDERSTOOD = {*SCORES, CLASS, *CENTRED, *PIXELS, *_SHIFTS, *PIXEL_SHIFTS, *ANGLES, *PRIORS, *SUBTOMOGRAM, *NAMES,
               *GROUPS, *SIZES, BINNING, MAGNIFICATION}  # fmt: skip


def read_particles(path: Path, reading: Reading, of: str = "") -> list[Picks]:
    """The particles of the runs that are known, shifts applied; of all files, where several were joined.

    Args:
        path: of the STAR file.
        reading: how its names and numbers are understood.
        of: the tomogram that a list gives the file to; rows that name one come first.

    Raises:
        ReadError: no such file, or numbers that are none.
    """
    found: list[Picks] = []
    for blocks in read_documents(path):
        listed = next((b for b in blocks.values() if LIST_FILE in b), None)
        if listed is not None and of:
            raise ReadError(f"{path}: is a list of files, and named in one; expected a file of coordinates")
        elif listed is not None:
            found += _read_list(path, listed, reading)
        elif "stopgap_motivelist" in blocks:
            found += read_stopgap(blocks["stopgap_motivelist"], path, reading)
        elif any("rlnTomoParticlesFile" in b for b in blocks.values()):
            raise _optimisation_set(path, blocks)
        else:
            found += _read_table(path, blocks, reading, of)
    return found


def _optimisation_set(path: Path, blocks: Blocks) -> ReadError:
    table = next(b for b in blocks.values() if "rlnTomoParticlesFile" in b)
    row = table.iloc[0] if len(table) else {}
    particles = row.get("rlnTomoParticlesFile", "particles.star")
    tomograms = row.get("rlnTomoTomogramsFile", "")
    more = f" with `tomograms_star={tomograms}`" if tomograms else ""
    return ReadError(f"{path}: names files of particles and holds none; import {particles}{more} instead")


def _read_table(path: Path, blocks: Blocks, reading: Reading, of: str) -> list[Picks]:
    m = next((b for b in blocks.values() if M_NAME in b), None)
    if m is not None:
        return _read_m(path, m, reading)
    table = particle_block(blocks, path)
    key = next((c for c in NAMES if c in table), None)
    if key is None and not of:
        raise ReadError(f"{path}: no column rlnTomoName or rlnMicrographName; expected the tomogram of each particle")
    if not len(table):
        return reading.nothing(path, of)
    score = score_column(table)
    _tell(table, score, path, reading)
    unit = counted_in(table, blocks.get("optics"), path)
    if unit is not None and unit.doubt and reading.pixel_size is None:
        log.warning(f"{path}: {unit.doubt}; coordinates count in {unit.text()}")
    parts = _in_parts(table, path, reading)
    found: list[Picks] = []
    names = np.full(len(table), of) if key is None else table[key].astype(str).to_numpy()
    for name in dict.fromkeys(names.tolist()):
        frame = reading.find(name)
        if frame is None:
            continue
        here = names == name
        if _centred(table, frame) and not found:
            reading.in_angstrom(path)
        own = None if unit is None else unit.sizes[here]
        sizes = np.ones((int(here.sum()), 3)) * _sizes(own, key, frame, reading, parts)
        found.append(_picks(table[here], sizes, score, frame, reading, path))
    return found


def _in_parts(table: Any, path: Path, reading: Reading) -> bool:
    """Whether coordinates are parts of the tomogram's size, and that is said."""
    if reading.pixel_size is not None or set(CENTRED) <= set(table) or not normalised(columns(table, PIXELS, path)):
        return False
    log.warning(f"{path}: coordinates lie within 0..1 and are taken for parts of the tomogram's size")
    return True


def _sizes(own: np.ndarray | None, key: str | None, frame: RunFrame, reading: Reading, parts: bool) -> Any:
    """What 1 stands for, [Å], for each row or axis (zyx): as asked for, as the file says, or as others say.

    NaN where nobody does, which matters only where coordinates are in pixels.
    """
    if parts:
        grid = frame.need_grid("Warp's normalised coordinates")
        if max(grid.shape) > SPECK:
            return np.asarray(grid.shape) * grid.voxel_spacing
    if reading.pixel_size is not None:
        return reading.pixel_size
    if own is not None:
        return own[:, None]
    if key == "rlnMicrographName" and frame.grid is not None:  # Warp counts in the tomogram's own voxels
        return frame.grid.voxel_spacing
    return np.nan if frame.pixel_size is None else frame.pixel_size


def _picks(rows: Any, sizes: np.ndarray, score: str | None, frame: RunFrame, reading: Reading, path: Path) -> Picks:
    """The picks of one run, from rows and what their coordinates count in, (n, 3) zyx [Å]."""
    rotations, shifts = _poses(rows, sizes, path)
    positions = _positions(rows, sizes, frame, path) - shifts
    scores = np.ones(len(rows)) if score is None else column(rows, score, path)
    names = reading.objects(len(rows), path, _classes(rows))
    return Picks(frame.run, positions, names, scores, rotations)


def _positions(rows: Any, sizes: np.ndarray, frame: RunFrame, path: Path) -> np.ndarray:
    """(n, 3) zyx [Å], shifts not yet applied; centred coordinates come first, as in RELION."""
    if _centred(rows, frame):
        return columns(rows, CENTRED, path)[:, ::-1] + frame.need_centre("RELION 5")
    if np.isnan(sizes).any():
        raise ReadError(
            f"{path}: rlnCoordinateX, Y, Z are in pixels whose size the file does not say; give the tilt series' with "
            "`pixel_size` (in Å; the tomogram's own if they were counted there), or `tomograms_star`"
        )
    return columns(rows, PIXELS, path)[:, ::-1] * sizes


def _centred(rows: Any, frame: RunFrame) -> bool:
    """Whether positions are those from the middle [Å]: where it is known, or nothing else is."""
    return set(CENTRED) <= set(rows) and (frame.centre is not None or not set(PIXELS) <= set(rows))


def normalised(numbers: np.ndarray) -> bool:
    """Whether coordinates are parts of the tomogram's size: none beyond 0..1, and not all of them whole numbers.

    Source: Warp, TiltSeries.MatchFull.cs writes them so; `ts_export_particles --normalized_coords` reads them.
    """
    return within_one(numbers)


def _poses(rows: Any, sizes: np.ndarray, path: Path) -> tuple[np.ndarray | None, np.ndarray]:
    """(n, 3, 3) rotations (None where no angle is set) and (n, 3) shifts to subtract, zyx [Å].

    Shifts in pixels, of RELION before 3.1, count in the same pixels as the coordinates.

    Source: copick 1.31, copick.util.relion.relion_rows_to_poses, after 3dem/relion particle_set.cpp.
    """
    import pandas as pd
    from copick.util.relion import relion_rows_to_poses

    shifts = columns(rows, _SHIFTS, path)
    if not set(_SHIFTS) & set(rows) and set(PIXEL_SHIFTS) & set(rows):
        pixels = columns(rows, PIXEL_SHIFTS, path)
        if np.any(pixels) and np.isnan(sizes).any():
            raise ReadError(
                f"{path}: rlnOriginX, Y, Z are in pixels whose size nothing says; give it with `pixel_size`"
            )
        shifts = pixels * np.nan_to_num(sizes)[:, ::-1]
    numbers = pd.DataFrame(dict(zip(_SHIFTS, shifts.T)))
    turned = False
    for three in (ANGLES, SUBTOMOGRAM):
        if set(three) & set(rows):
            angles = columns(rows, three, path)
            numbers[list(three)] = angles
            turned |= bool(np.any(np.abs(angles) > 1e-9))
    rotations, moved = relion_rows_to_poses(numbers)
    return (rotations if turned else None), moved[:, ::-1]


def score_column(table: Any) -> str | None:
    """The column with the scores: a known one, else the first that is called like one."""
    known = next((c for c in SCORES if c in table), None)
    return known or next((str(c) for c in table if _SCORE_LIKE.search(str(c))), None)


def _classes(rows: Any) -> np.ndarray | None:
    """(n,) class numbers; None where there are none, which is said only where they are needed."""
    try:
        return rows[CLASS].astype(float).to_numpy() if CLASS in rows else None
    except ValueError:
        return None


def _tell(table: Any, score: str | None, path: Path, reading: Reading) -> None:
    """Says which column gave the scores, and which columns picks have no place for."""
    if score is not None:
        log.info(f"{path}: scores are those of {score}")
    unknown = [c for c in table if c not in _UNDERSTOOD and c != score]
    if unknown:
        log.warning(f"{path}: left out, for picks have no place for them: {listing(unknown)}")


def _read_list(path: Path, index: Any, reading: Reading) -> list[Picks]:
    """The files that RELION's import job is given: STAR, or text of 3 or 6 columns, each of one tomogram.

    Source: 3dem/relion, import_coordinates.cpp: the first block, whatever it is called.
    """
    if "rlnTomoName" not in index:
        raise ReadError(f"{path}: no column rlnTomoName; expected the tomogram of each file")
    found: list[Picks] = []
    for name, text in zip(index["rlnTomoName"].astype(str), index[LIST_FILE].astype(str)):
        # RELION's own project folder is seldom where we are; beside the list is the other likely place.
        places = [Path(text), path.parent / text, *(p / text for p in path.absolute().parents)]
        place = next((p for p in places if p.is_file()), None)
        if place is None:
            raise ReadError(f"{path}: names {text}, which is not there; run from RELION's project folder")
        if place.resolve() == path.resolve():
            raise ReadError(f"{path}: names itself as the file of {name}; expected a file of coordinates")
        if has_blocks(read_text(place, "coordinates")):
            found += read_particles(place, reading, name)
        else:
            found += _read_listed_text(place, name, reading)
    return found


def _read_listed_text(path: Path, name: str, reading: Reading) -> list[Picks]:
    frame = reading.find(name)
    if frame is None:
        return []
    numbers = load_numbers(path, "lines 'x y z' or 'x y z rot tilt psi'", (3, 6))
    if not len(numbers):
        return [Picks.empty(frame.run)]
    size = reading.pixel_size or frame.pixel_size
    if size is None:
        raise ReadError(
            f"{path}: counts in pixels whose size the list does not say; give it with `pixel_size`, or "
            "RELION's tomograms.star with `tomograms_star`"
        )
    turns = None
    if numbers.shape[1] == 6:
        turns = rotated(np.swapaxes(from_eulers(numbers[:, 3:], "ZYZ"), 1, 2), numbers[:, 3:])
    return [Picks(frame.run, numbers[:, 2::-1] * size, reading.objects(len(numbers), path), rotations=turns)]


def _read_m(path: Path, table: Any, reading: Reading) -> list[Picks]:
    """M's particles: Å from the centre of the first voxel; of poses at several times the first.

    Source: Warp, Species.cs and ExportParticles: wrpCoordinateX1 is in Å, angles are RELION's.
    """
    number = "1" if "wrpCoordinateX1" in table else ""
    place = [f"wrpCoordinate{a}{number}" for a in "XYZ"]
    missing = [c for c in place if c not in table]
    if missing:
        raise ReadError(f"{path}: no column {listing(missing)}; expected M's particles")
    if not len(table):
        return reading.nothing(path)
    reading.in_angstrom(path)
    angles = [f"wrpAngle{a}{number}" for a in ("Rot", "Tilt", "Psi")]
    score = score_column(table)
    known = {*place, *angles, score, M_NAME}
    unknown = [c for c in table if c not in known]
    if unknown:
        log.warning(f"{path}: left out, for picks have no place for them: {listing(unknown)}")
    found = []
    names = table[M_NAME].astype(str).to_numpy()
    for name in dict.fromkeys(names.tolist()):
        frame = reading.find(name)
        if frame is not None:
            rows = table[names == name]
            turns = columns(rows, angles, path)
            rotations = rotated(np.swapaxes(from_eulers(turns, "ZYZ"), 1, 2), turns)
            scores = np.ones(len(rows)) if score is None else column(rows, score, path)
            positions = columns(rows, place, path)[:, ::-1]
            found.append(Picks(frame.run, positions, reading.objects(len(rows), path), scores, rotations))
    return found
