"""What pixel coordinates count in: one answer for all who read STAR tables, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.messages import listing, said_of
from ...core.text import checked_numbers

TILT_SERIES = "rlnTomoTiltSeriesPixelSize"
IMAGE = "rlnImagePixelSize"
BINNING = "rlnTomoSubtomogramBinning"
MAGNIFICATION = "rlnMagnification"
DETECTOR = "rlnDetectorPixelSize"
SIZES = (TILT_SERIES, "rlnMicrographPixelSize", IMAGE, "rlnPixelSize", DETECTOR)
GROUPS = ("rlnOpticsGroup", "rlnOpticsGroupName")
_ALIKE = 0.01  # sizes that differ by less are one


@dataclass(frozen=True)
class Unit:
    """What coordinates count in.

    Attributes:
        sizes: (n,) of each row [Å].
        source: what says so, as it is told to the user.
        doubt: what another column says; empty where none contradicts.
    """

    sizes: np.ndarray
    source: str
    doubt: str = ""

    def text(self) -> str:
        """The sizes and where they come from."""
        return f"{listing(f'{v:.5g}' for v in sorted(set(self.sizes.tolist())))} Å ({self.source})"


def counted_in(table: Any, optics: Any, path: Path) -> Unit | None:
    """The pixel size of each row, as the file says it; None where it does not.

    The first that is there: for Warp's 2D particles (`rlnTomoName` ends in .tomostar) `rlnImagePixelSize`; the tilt
    series' `rlnTomoTiltSeriesPixelSize`; `rlnMicrographPixelSize`; `rlnImagePixelSize` (in a table of RELION's
    tomograms divided by `rlnTomoSubtomogramBinning`); `rlnPixelSize`; `rlnDetectorPixelSize`, in µm where there is an
    `rlnMagnification`, else in Å. Each is looked for in the particles first, then in their optics groups.

    Source: Warp, ExportParticlesTiltseries.cs ("legacy rlnCoordinateX/Y/Z in particle pixels"); RELION <= 3.0: detector
    in µm x 1e4 / magnification; 3dem/relion, particle_set.cpp; pytom-match-pick writes Å into rlnDetectorPixelSize.

    Raises:
        ReadError: a size that is no positive number, or particles that do not say which optics group is theirs.
    """
    if not len(table):
        return None
    if _is_warp_2d(table) and (sizes := _column(IMAGE, table, optics, path)) is not None:
        return Unit(sizes, f"{IMAGE}, for Warp's particles count in these")
    found = [(name, sizes) for name in SIZES if (sizes := _size(name, table, optics, path)) is not None]
    if not found:
        return None
    name, sizes = found[0]
    others = [(n, s) for n, s in found[1:] if name != TILT_SERIES and np.abs(s / sizes - 1).max() > _ALIKE]
    doubt = f"{others[0][0]} says {others[0][1][0]:.5g} Å" if others else ""
    return Unit(
        sizes, f"{name} x 1e4 / {MAGNIFICATION}" if name == DETECTOR and _enlarged(table, optics) else name, doubt
    )


def _is_warp_2d(table: Any) -> bool:
    return "rlnTomoName" in table and all(str(name).endswith(".tomostar") for name in table["rlnTomoName"])


def _enlarged(table: Any, optics: Any) -> bool:
    return MAGNIFICATION in table or (optics is not None and MAGNIFICATION in optics)


def _size(name: str, table: Any, optics: Any, path: Path) -> np.ndarray | None:
    sizes = _column(name, table, optics, path)
    if sizes is None:
        return None
    if name == DETECTOR and (times := _column(MAGNIFICATION, table, optics, path)) is not None:
        return sizes * 1e4 / times
    if name == IMAGE and "rlnTomoName" in table and (times := _column(BINNING, table, optics, path)) is not None:
        return sizes / times
    return sizes


def _column(name: str, table: Any, optics: Any, path: Path) -> np.ndarray | None:
    """(n,) a column of the particles, or of their optics groups."""
    if name in table:
        return positive(table, name, path)
    if optics is None or name not in optics or not len(optics):
        return None
    values = positive(optics, name, path)
    if np.ptp(values) == 0:
        return np.full(len(table), values[0])
    for key in GROUPS:
        if key in table and key in optics:
            groups = optics[key].astype(str).tolist()
            known = dict(zip(groups, values))
            torn = sorted({g for g, value in zip(groups, values) if known[g] != value})
            if torn:
                raise _mixed_up(path, f"{key} {said_of(torn, 'is', 'are')} there twice, with different {name}")
            lost = sorted({str(g) for g in table[key]} - set(known))
            if lost:
                raise _mixed_up(path, f"particles are of {key} {listing(lost)}, which is not in the optics table")
            return np.array([known[str(g)] for g in table[key]])
    raise _mixed_up(path, f"{len(values)} groups of different {name}, and particles that do not say which is theirs")


def _mixed_up(path: Path, why: str) -> ReadError:
    return ReadError(
        f"{path}: optics groups are mixed up ({why}); expected rlnOpticsGroup in both tables, or say the pixel size "
        "with `pixel_size`"
    )


def positive(table: Any, name: str, path: Path) -> np.ndarray:
    """(n,) as `column`; raises `ReadError`, with the line, for what is not above 0 as well."""
    values = column(table, name, path)
    bad = np.flatnonzero(values <= 0)
    if len(bad):
        raise ReadError(f"{path}: line {table.index[bad[0]]}: {name} is {values[bad[0]]:g}; expected a positive number")
    return values


def column(table: Any, name: str, path: Path) -> np.ndarray:
    """(n,) the numbers of a column; raises `ReadError`, with the line, for what is no finite number."""
    return checked_numbers([str(v) for v in table[name].tolist()], path, name, table.index.tolist())


def columns(table: Any, names: Sequence[str], path: Path) -> np.ndarray:
    """(n, k) the numbers of several columns; 0 in one that is not there, where others are."""
    found = [column(table, n, path) if n in table else np.zeros(len(table)) for n in names]
    return np.stack(found, axis=1) if found else np.zeros((len(table), 0))
