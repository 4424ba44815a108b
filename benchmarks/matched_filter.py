"""A matched filter: how far one comes with a particle's mean image, or its density, and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from tomopick import Grid, Heatmap, PickableObject, Picks, Tomogram
from tomopick.picking.normalize import RobustNormalization
from tomopick.picking.peaks import LocalMaxima
from tomopick.simulation.density import Density

REACH = 1.25  # half of a template's edge [radii of the object]
_LEAST = 1e-3  # variance of a ball below which what is in it is flat


@dataclass(frozen=True)
class MatchedFilter:
    """Normalised cross-correlation with templates of each object, within a ball around it.

    Attributes:
        objects: what is looked for.
        templates: by object, (n, z, y, x), each of mean 0 and sum of squares 1 within the ball; the best of n counts.
        balls: by object, (z, y, x) 1 within it.
    """

    objects: tuple[PickableObject, ...]
    templates: Mapping[str, np.ndarray]
    balls: Mapping[str, np.ndarray]

    @classmethod
    def of_picks(
        cls, labelled: Iterable[tuple[Tomogram, Picks]], objects: Sequence[PickableObject], reach: float = REACH
    ) -> MatchedFilter:
        """The mean of all labelled particles, each moved to its exact centre."""
        sums: dict[str, np.ndarray] = {}
        balls: dict[str, np.ndarray] = {}
        for tomogram, picks in labelled:
            values = RobustNormalization()(tomogram)
            for o in objects:
                cube, balls[o.name] = _ball(o, tomogram.grid.voxel_spacing, reach)
                for index in tomogram.grid.indices(picks.of(o.name).positions):
                    part = ndimage.map_coordinates(values, cube + index[:, None, None, None], order=1, mode="nearest")
                    sums[o.name] = sums.get(o.name, 0) + part
        known = tuple(o for o in objects if o.name in sums)
        return cls(known, {name: _template(total, balls[name])[None] for name, total in sums.items()}, balls)

    @classmethod
    def of_densities(
        cls,
        densities: Mapping[str, Density],
        objects: Sequence[PickableObject],
        spacing: float,
        turns: int = 0,
        reach: float = REACH,
    ) -> MatchedFilter:
        """The densities, dark as in a tomogram: the mean over all directions, and `turns` directions one by one."""
        directions = Rotation.random(max(turns, 64), rng=0).as_matrix()
        templates, balls = {}, {}
        for o in objects:
            cube, balls[o.name] = _ball(o, spacing, reach)
            half = cube.shape[1] // 2
            grid = Grid(cube.shape[1:], spacing, (-half * spacing,) * 3)
            turned = np.stack([-_sampled(densities[o.name], direction, grid) for direction in directions])
            shown = [turned.mean(axis=0), *turned[:turns]]
            templates[o.name] = np.stack([_template(values, balls[o.name]) for values in shown])
        return cls(tuple(objects), templates, balls)

    def pick(self, tomogram: Tomogram) -> Picks:
        """All candidates, scored by the correlation."""
        values = RobustNormalization()(tomogram)
        wide = max(max(ball.shape) for ball in self.balls.values())
        shape = [fft.next_fast_len(n + wide, real=True) for n in values.shape]
        seen, squared = (fft.rfftn(v, shape, workers=2) for v in (values, values**2))

        def correlated(spectrum: np.ndarray, kernel: np.ndarray) -> np.ndarray:
            found = fft.irfftn(spectrum * np.conj(fft.rfftn(kernel, shape, workers=2)), shape, workers=2)
            # The kernel's first voxel lies at the origin; its centre belongs there.
            found = np.roll(found, [n // 2 for n in kernel.shape], axis=(0, 1, 2))
            return found[tuple(slice(n) for n in values.shape)]

        maps = []
        for o in self.objects:
            ball = self.balls[o.name]
            n = ball.sum()
            mean = correlated(seen, ball) / n
            deviation = np.sqrt(np.maximum(correlated(squared, ball) - n * mean**2, _LEAST * n))
            best = np.zeros(values.shape, np.float32)
            for template in self.templates[o.name]:
                np.maximum(best, correlated(seen, template), out=best)
            maps.append(np.clip(best / deviation, 0, 1).astype(np.float32))
        heat = Heatmap(tomogram.run, np.stack(maps), tomogram.grid, tuple(o.name for o in self.objects))
        return LocalMaxima()(heat, self.objects, {o.name: 0.05 for o in self.objects})


def _ball(obj: PickableObject, spacing: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of a cube's voxels from its middle (3, z, y, x), and which lie in the ball."""
    half = round(reach * obj.radius_angstrom / spacing)
    axis = np.arange(-half, half + 1)
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    return cube, ((cube**2).sum(axis=0) <= half**2).astype(np.float32)


def _template(values: np.ndarray, ball: np.ndarray) -> np.ndarray:
    template = (values - values[ball > 0].mean()) * ball
    return (template / np.sqrt((template**2).sum())).astype(np.float32)


def _sampled(density: Density, rotation: np.ndarray, grid: Grid) -> np.ndarray:
    """The density about the grid's middle; what reaches beyond the grid is cut off."""
    start, box = density.sample(rotation, np.zeros(3), grid)
    into = np.zeros(grid.shape, np.float32)
    low = np.maximum(start, 0)
    high = np.minimum(start + np.array(box.shape), grid.shape)
    theirs = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
    into[tuple(slice(a, b) for a, b in zip(low, high))] = box[theirs]
    return into
