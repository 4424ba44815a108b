"""RELION 5 (Å from the middle of the tomogram) and RELION 4 (pixels of the tilt series, from its corner)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import SelectionError
from ...core.names import component
from ...core.types import Picks
from .base import Objects, Part, Reading, RunFrame
from .particles import read_particles
from .star import CENTRED, LIST_FILE, PIXELS, particle_table, star_bytes

INDEX_BLOCK = "coordinate_files"


@dataclass(frozen=True)
class Relion5:
    """RELION 5: `rlnCenteredCoordinate[XYZ]Angst` = position - middle, where the middle is half the unbinned size.

    Attributes:
        layout: `particles`: one table with optics. `import`: the index that the job Import coordinates wants, and a
            file for each tomogram in the folder STEM_particles beside it.

    Source: 3dem/relion, particle_set.cpp (getParticleCoordDecenteredPixel) and tomogram_set.cpp; RELION's own picker
    and pytom-match-pick take size/2 - 1 as the middle, one unbinned pixel less (3dem/relion#1137).
    """

    layout: str = "particles"
    key: str = "relion5"
    suffix: str = ".star"
    per_run: bool = False
    mixed: bool = False

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """One table, or the import layout; raises `SelectionError` where a tomogram's size is not known."""
        centred = {p.run: (p.positions - f.need_centre("RELION 5"))[:, ::-1] for p, f in parts}
        return _files(parts, particle_table(parts, centred, CENTRED, objects), path, self.layout)

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """Where the middle was taken."""
        centres = {f.centre for _, f in parts if f.centre is not None}
        places = [f"{x:.2f}, {y:.2f}, {z:.2f}" for z, y, x in sorted(centres)[:3]]
        return [f"counted from the middle of the tomogram at {place} Å (x, y, z)" for place in places]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The particles of a table or of an import index, shifts applied."""
        return read_particles(path, reading)


@dataclass(frozen=True)
class Relion4:
    """RELION 4: `rlnCoordinate[XYZ]` = position / pixel size of the tilt series, whatever the tomogram's binning.

    Attributes:
        layout: as in `Relion5`.

    Source: RELION 4 documentation, Reference/STA/Datatypes/particle_set; 3dem/relion#1059 and #1334 for what goes
    wrong when pixels of the binned tomogram are written.
    """

    layout: str = "particles"
    key: str = "relion4"
    suffix: str = ".star"
    per_run: bool = False
    mixed: bool = False

    def write(self, parts: Sequence[Part], path: Path, objects: Objects) -> dict[Path, bytes]:
        """One table, or the import layout; raises `SelectionError` where the pixel size is not known."""
        pixels = {p.run: p.positions[:, ::-1] / _pixel_size(f) for p, f in parts}
        return _files(parts, particle_table(parts, pixels, PIXELS, objects), path, self.layout)

    def notes(self, parts: Sequence[Part]) -> list[str]:
        """The pixels that are counted."""
        sizes = sorted({f.pixel_size for _, f in parts if f.pixel_size is not None})
        return [f"counted in pixels of the tilt series of {size:.5g} Å" for size in sizes[:3]]

    def read(self, path: Path, reading: Reading) -> list[Picks]:
        """The particles of a table or of an import index, shifts applied."""
        return read_particles(path, reading)


def _pixel_size(frame: RunFrame) -> float:
    if frame.pixel_size is None:
        raise SelectionError(
            f"run {frame.run}: RELION 4 counts in pixels of the tilt series, whose size is not known; "
            "give it with `tilt_series_pixel_size` (in Å), or RELION's tomograms.star with `tomograms_star`"
        )
    return frame.pixel_size


def _files(parts: Sequence[Part], table: Any, path: Path, layout: str) -> dict[Path, bytes]:
    import pandas as pd

    names = _tomo_names(parts)
    table.insert(0, "rlnTomoName", [names[p.run] for p, _ in parts for _ in range(len(p))])
    if layout == "import":
        folder = path.parent / f"{path.stem}_particles"
        files, listed = {}, []
        for name, rest in table.groupby("rlnTomoName", sort=False):
            component(str(name), "tomogram")
            files[folder / f"{name}.star"] = star_bytes({"particles": rest.reset_index(drop=True)})
            # RELION resolves relative paths from its project folder and reads forward slashes alone.
            listed.append((str(name), (folder / f"{name}.star").as_posix()))
        index = pd.DataFrame(listed, columns=["rlnTomoName", LIST_FILE])
        return {**files, path: star_bytes({INDEX_BLOCK: index})}
    blocks: dict[str, Any] = {}
    if all(f.pixel_size is not None for _, f in parts):
        # RELION refuses optics without the pixel size, and builds them from tomograms.star where a file has none.
        groups = {names[p.run]: i + 1 for i, (p, _) in enumerate(parts)}
        table["rlnOpticsGroup"] = [groups[name] for name in table["rlnTomoName"]]
        common = set.intersection(*(set(f.optics) for _, f in parts))
        rows = []
        for i, (_, f) in enumerate(parts):
            group = {"rlnOpticsGroup": i + 1, "rlnOpticsGroupName": f"opticsGroup{i + 1}"}
            optics = {k: v for k, v in f.optics.items() if k in common}
            rows.append(group | optics | {"rlnTomoTiltSeriesPixelSize": f.pixel_size})
        blocks["optics"] = pd.DataFrame(rows)
    return {path: star_bytes({**blocks, "particles": table})}


def _tomo_names(parts: Sequence[Part]) -> dict[str, str]:
    """What RELION calls each run: as tomograms.star says, else without the `rec_` it puts before names of volumes."""
    names = {p.run: f.title or (f.run.removeprefix("rec_") or f.run) for p, f in parts}
    return names if len(set(names.values())) == len(names) else {p.run: f.name for p, f in parts}
