"""What benchmarks learn from and keep: simulated runs as NumPy files, made once; a labelled volume; rows of figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tomopick import Grid, Picks, Tomogram
from tomopick.core.files import atomic_write
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data.tables import read_picks_csv
from tomopick.data.volumes.volumes import read_volume
from tomopick.picking.resample import matched
from tomopick.simulation import simulate, with_densities
from tomopick.simulation.projects import spec_of


@dataclass(frozen=True)
class Simulation:
    """What decides the runs besides their names.

    Attributes:
        shape: of a volume (z, y, x) [voxels].
        preset: `czii` or `varied`.
        settings: `section.field=value`.
        seed: of all.
        spacing: they are resampled to [Å]; None: not.
        templates: folder of maps, as `simulate --templates` takes it.
    """

    shape: tuple[int, int, int]
    preset: str = "czii"
    settings: tuple[str, ...] = ()
    seed: int = 0
    spacing: float | None = None
    templates: Path | None = None

    def make(self, file: Path) -> None:
        """The run that the file is named after, into it."""
        torch.set_num_threads(1)
        spec = spec_of(self.preset, self.shape, ("denoised",)).varied(1.0).override(self.settings)
        if self.templates is not None:
            specimen, _ = with_densities(spec.specimen, CZII_OBJECTS, (), self.templates)
            spec = replace(spec, specimen=specimen)
        made = simulate(spec, CZII_OBJECTS, run=file.stem, seed=self.seed)
        tomogram = made.tomograms["denoised"]
        if self.spacing is not None:
            tomogram = matched(tomogram, self.spacing, "the recipe")
        keep_run(file, [tomogram], made.picks)


def simulate_runs(folder: Path, runs: Sequence[str], simulation: Simulation, workers: int) -> None:
    """Makes those of the runs that are not there yet."""
    missing = [folder / f"{run}.npz" for run in runs if not (folder / f"{run}.npz").is_file()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for file in missing:
            simulation.make(file)
        return
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        list(pool.map(simulation.make, missing))


def labelled_volume(volume: Path, picks: Path, name: str, run: str = "all") -> tuple[Tomogram, Picks]:
    """A real tomogram and the picks of a table of it, all of one object whatever the table says."""
    values, grid = read_volume(volume)
    (found,) = read_picks_csv(picks).values()
    return Tomogram(run, values, grid), Picks(run, found.positions, np.full(len(found), name))


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines, as far as they are whole; none where there is no file."""
    rows: list[dict[str, Any]] = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def keep_run(file: Path, tomograms: Sequence[Tomogram], picks: Picks) -> None:
    """Writes a run: its tomograms, of types of their own on one grid, and its truth."""
    # Grey values over their deviation: as they are, halves have no room for some.
    values = {t.tomo_type: (t.values / t.values.std()).astype(np.float16) for t in tomograms}
    grid = tomograms[0].grid
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, binary=True) as out:
        np.savez(out, spacing=grid.voxel_spacing, origin=grid.origin, positions=picks.positions, names=picks.names,
                 **values)  # fmt: skip


def load_run(folder: Path, run: str, tomo_type: str = "denoised", name: str = "") -> tuple[Tomogram, Picks]:
    """A run as one type, with its truth; by a name of its own where it is asked for."""
    with np.load(folder / f"{run}.npz") as kept:
        z, y, x = kept["origin"].tolist()
        values = kept[tomo_type].astype(np.float32)
        grid = Grid(values.shape, float(kept["spacing"]), (z, y, x))
        return Tomogram(name or run, values, grid, tomo_type), Picks(name or run, kept["positions"], kept["names"])
