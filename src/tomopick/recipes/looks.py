"""What a user's tomograms are like, as far as simulated ones can be made like them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ..core.errors import SelectionError
from ..core.presets import CZII_VOXEL_SPACING
from ..core.statistics import radial_spectrum
from ..core.types import Tomogram
from ..data.runs import Runs
from ..picking.normalize import RobustNormalization
from ..simulation.likeness import clearness, section_spread, tilts_of
from ..simulation.run import VOXEL_SPACINGS

log = logging.getLogger("tomopick")

_MEASURED = 3  # tomograms that are looked at, at most
_EDGE = 0.2  # of the way from empty ice to the specimen's middle: a layer is not flat, and its rim has fewer particles
_SHOWS = 1.15  # times as much as sections of ice vary those with specimen at least where there are both
_WEDGE = 5.0  # [degrees] to either side, to which the end of the tilts is measured


@dataclass(frozen=True)
class Looks:
    """What simulated runs share with a user's own.

    Attributes:
        voxel_spacing: [Å].
        thickness: of the specimen, from and to [Å]; None: as varied as the simulator has it.
        sections: of the tomograms; 0: as many as the specimen needs.
        spectrum: of their sections, see `radial_spectrum`; empty: as the simulator has it.
        clearest: how many times as much sections with specimen vary as those of ice, from and to; None: unknown.
        tilts: from and to [degrees]; None: as the simulator has them.
    """

    voxel_spacing: float = CZII_VOXEL_SPACING
    thickness: tuple[float, float] | None = None
    sections: int = 0
    spectrum: tuple[float, ...] = ()
    clearest: tuple[float, float] | None = None
    tilts: tuple[float, float] | None = None

    @classmethod
    def of(cls, runs: Runs) -> Looks:
        """Measured on tomograms.

        Raises:
            SelectionError: there is none.
        """
        names = [run for run in runs.check() if runs.project.tomo_types(run)][:_MEASURED]
        if not names:
            raise SelectionError(f"{runs.uri}: no tomogram to simulate the like of")
        seen = [_One.of(runs.tomogram(run)) for run in names]
        thick = [one.thickness for one in seen]
        spacing = float(np.median([one.voxel_spacing for one in seen]))
        sections = max(one.sections for one in seen)
        near = float(np.clip(spacing, *VOXEL_SPACINGS))
        clear = [one.clear for one in seen if one.clear >= _SHOWS]
        wedges = [one.tilts for one in seen if one.tilts is not None]
        tilts = (min(w[0] for w in wedges), max(w[1] for w in wedges)) if wedges else None
        log.info(
            f"like {runs.uri}: voxels of {spacing:.4g} Å, {sections} sections, a specimen of {min(thick):.0f} to "
            f"{max(thick):.0f} Å, {'' if clear else 'no ice beside it to tell the contrast by, '}"
            + (f"which varies {min(clear):.2g} to {max(clear):.2g} times as much as ice, " if clear else "")
            + (f"tilts from {tilts[0]:.0f} to {tilts[1]:.0f} degrees" if tilts else "no missing wedge that shows")
        )
        spectrum = np.mean([one.spectrum for one in seen], axis=0)
        if near != spacing:
            log.info(f"{runs.uri}: voxels of {spacing:.4g} Å; runs are simulated at {near:g} Å, and picking resamples")
            rings = np.arange(len(spectrum)) + 0.5
            spectrum = np.interp(rings * spacing / near, rings, spectrum)
            sections, spacing = round(sections * spacing / near), near
        return cls(
            spacing,
            (0.85 * min(thick), 1.15 * max(thick)),
            sections,
            tuple(round(float(v), 3) for v in spectrum),
            (0.85 * min(clear), 1.15 * max(clear)) if clear else None,
            tilts,
        )

    def settings(self) -> list[str]:
        """Of the simulator."""
        found = [f"voxel_spacing={self.voxel_spacing:.6f}"]
        if self.thickness:
            found.append(f"specimen.thickness={self.thickness[0]:.0f},{self.thickness[1]:.0f}")
        if self.spectrum:
            found.append(f"restoration.spectrum={','.join(f'{v:g}' for v in self.spectrum)}")
        if self.clearest:
            found.append(f"restoration.clearest={self.clearest[0]:.2f},{self.clearest[1]:.2f}")
        if self.tilts:
            low, high = self.tilts[0] - _WEDGE, self.tilts[1] + _WEDGE
            found += [f"microscope.tilts={low:.0f},{high:.0f}", f"microscope.tilt_loss=0,{2 * _WEDGE:g}"]
        return found


@dataclass(frozen=True)
class _One:
    """What one tomogram is like; see `Looks`."""

    voxel_spacing: float
    sections: int
    thickness: float
    spectrum: tuple[float, ...]
    clear: float
    tilts: tuple[float, float] | None

    @classmethod
    def of(cls, tomogram: Tomogram) -> _One:
        values, void = RobustNormalization()(tomogram), tomogram.void
        return cls(
            tomogram.grid.voxel_spacing,
            tomogram.grid.shape[0],
            thickness_of(tomogram),
            tuple(radial_spectrum(values, void).tolist()),
            clearness(section_spread(values, void)),
            tilts_of(values, void),
        )


def thickness_of(tomogram: Tomogram) -> float:
    """How thick a specimen is [Å]: the sections in which grey values vary by more than a part of the way from ice."""
    spread = section_spread(RobustNormalization()(tomogram), tomogram.void)
    low, high = np.quantile(spread, (0.05, 0.95))
    if high < _SHOWS * low:  # the specimen fills the volume
        return float(len(spread) * tomogram.grid.voxel_spacing)
    inside = np.flatnonzero(spread > low + _EDGE * (high - low))
    return float((inside[-1] - inside[0] + 1) * tomogram.grid.voxel_spacing)
