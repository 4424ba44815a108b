"""A matched filter: how far one comes with the mean of labelled particles and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from tomopick import Heatmap, Picks, Project, Tomogram
from tomopick.core.presets import CZII_OBJECTS
from tomopick.picking.normalize import RobustNormalization
from tomopick.picking.peaks import LOWEST_SCORE, LocalMaxima

REACH = 1.25  # half of a template's edge [radii of the object]


@dataclass(frozen=True)
class MatchedFilter:
    """Normalised cross-correlation with the mean particle of each object, within a ball around it.

    Attributes:
        templates: by object, (z, y, x), of mean 0 and sum of squares 1 within the ball.
        balls: by object, (z, y, x) 1 within it.
    """

    templates: Mapping[str, np.ndarray]
    balls: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, project: Project, runs: Sequence[str]) -> MatchedFilter:
        """The mean of all labelled particles of the runs."""
        sums: dict[str, np.ndarray] = {}
        balls: dict[str, np.ndarray] = {}
        for run in runs:
            tomogram, picks = project.tomogram(run), project.picks(run)
            values = RobustNormalization()(tomogram)
            for o in CZII_OBJECTS:
                reach = round(REACH * o.radius_angstrom / tomogram.grid.voxel_spacing)
                axis = np.arange(-reach, reach + 1)
                cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
                balls[o.name] = ((cube**2).sum(axis=0) <= reach**2).astype(np.float32)
                for index in tomogram.grid.indices(picks.of(o.name).positions) if picks else ():
                    part = ndimage.map_coordinates(values, cube + index[:, None, None, None], order=1, mode="nearest")
                    sums[o.name] = sums.get(o.name, 0) + part
        templates = {}
        for name, total in sums.items():
            ball = balls[name]
            template = (total - total[ball > 0].mean()) * ball
            templates[name] = (template / np.sqrt((template**2).sum())).astype(np.float32)
        return cls(templates, balls)

    def pick(self, tomogram: Tomogram) -> Picks:
        """All candidates, scored by the correlation."""
        values = RobustNormalization()(tomogram)
        shape = [fft.next_fast_len(n + 2 * 20, real=True) for n in values.shape]
        seen, squared = (fft.rfftn(v, shape, workers=2) for v in (values, values**2))

        def correlated(spectrum: np.ndarray, kernel: np.ndarray) -> np.ndarray:
            found = fft.irfftn(spectrum * np.conj(fft.rfftn(kernel, shape, workers=2)), shape, workers=2)
            # The kernel's first voxel lies at the origin; its centre belongs there.
            found = np.roll(found, [n // 2 for n in kernel.shape], axis=(0, 1, 2))
            return found[tuple(slice(n) for n in values.shape)]

        maps = []
        for name, template in self.templates.items():
            ball = self.balls[name]
            n = ball.sum()
            mean = correlated(seen, ball) / n
            deviation = np.sqrt(np.maximum(correlated(squared, ball) - n * mean**2, 1e-3 * n))
            maps.append(np.clip(correlated(seen, template) / deviation, 0, 1).astype(np.float32))
        names = tuple(self.templates)
        heat = Heatmap(tomogram.run, np.stack(maps), tomogram.grid, names)
        objects = [o for o in CZII_OBJECTS if o.name in names]
        return LocalMaxima()(heat, objects, {name: max(LOWEST_SCORE, 0.1) for name in names})
