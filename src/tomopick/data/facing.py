"""Which way a surface of voxels faces: a smooth sheet through the faces around, as far as one fits them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

_RADII = (6.0, 9.0, 13.0, 18.0, 24.0)  # voxels around a point in which faces are looked at, ever more
_LEAST = 4.0  # where even the first is too many: a small ball
_BENT = 0.85  # of a radius of curvature: a wider sheet is none of the second degree any more
_STILL = 0.99999  # cosine between two rounds, a quarter of a degree
_BACK = -0.35  # cosine to a normal from which on a face may be of the same side: a stair's sides look to all sides
_OFF = 1.5  # voxels that a face may lie off a sheet that it belongs to
_ROUGH = 0.45  # of an ideal plane's faces the root mean square is at most 0.29 voxels, before it is found
_ROUGHER = 1.3  # by how much that may grow with the radius, where the surface is rough itself
_LOST = 0.25  # of the faces may belong to no sheet until a radius is too large
_FLAT = 0.12  # the thinnest way's part of the spread of what is marked nearby, up to which that is a sheet
_ROUNDS = 6  # of a fit about the place of it that is nearest
_STEPS = 8  # of Newton's method to there
_FEW = 12  # faces, of which twice as many numbers as a sheet has are told


@dataclass(frozen=True)
class _Sheet:
    """A height over a plane, of the second degree.

    Attributes:
        origin: (3,) a point of the plane [voxels].
        axes: (3, 3) rows: two ways along it, and the normal.
        terms: (6,) of 1, u, v, u², uv, v².
        radius: of what it is fitted to.
        rough: root mean square of the faces' distances.
    """

    origin: np.ndarray
    axes: np.ndarray
    terms: np.ndarray
    radius: float
    rough: float

    @property
    def is_bent(self) -> bool:
        """Whether it bends too much for its size."""
        d, e, f = self.terms[3:]
        return bool(self.radius * (abs(d + f) + np.hypot(d - f, e)) > _BENT)

    @property
    def is_poor(self) -> bool:
        """Whether it bends too much, or the faces lie off it."""
        return self.is_bent or self.rough > _ROUGH

    def heights(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(n,) over places of the plane."""
        return np.asarray(_powers(u, v) @ self.terms)

    def holds(self, places: np.ndarray, ways: np.ndarray) -> np.ndarray:
        """(n,) bool: of faces at (n, 3) places, which look (n, 3) ways, whether they may be of it."""
        u, v, h = ((places - self.origin) @ self.axes.T).T
        _, b, c, d, e, f = self.terms
        along = np.stack([-(b + 2 * d * u + e * v), -(c + e * u + 2 * f * v), np.ones_like(u)], axis=-1)
        same = (along * (ways @ self.axes.T)).sum(axis=1) > 0
        return np.asarray(same & (np.abs(h - self.heights(u, v)) <= _OFF))

    def nearest(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(3,) its point nearest to a place, and the normal there."""
        u, v, h = self.axes @ (index - self.origin)
        a, b, c, d, e, f = self.terms
        at, bend = np.zeros(2), np.array([[2 * d, e], [e, 2 * f]])
        for _ in range(_STEPS):
            slope = np.array([b, c]) + bend @ at
            off = a + np.array([b, c]) @ at + 0.5 * at @ bend @ at - h
            force = at - (u, v) + off * slope
            stiff = np.eye(2) + np.outer(slope, slope)
            whole = stiff + off * bend
            # Where two sides are as near there is no minimum to go to, and Gauss and Newton's matrix leads down.
            step = np.linalg.solve(whole if np.linalg.eigvalsh(whole)[0] > 0.1 else stiff, force)
            at = at - step
            at *= min(1.0, self.radius / max(float(np.linalg.norm(at)), 1e-9))
            if np.abs(step).max() < 1e-3:
                break
        slope = np.array([b, c]) + bend @ at
        height = a + np.array([b, c]) @ at + 0.5 * at @ bend @ at
        normal = np.array([-slope[0], -slope[1], 1.0]) @ self.axes
        return self.origin + np.array([*at, height]) @ self.axes, normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class Facing:
    """The faces of marked voxels.

    Attributes:
        values: (z, y, x) bool: what is marked.
        centres: (n, 3) of the faces [voxels].
        outward: (n, 3) from what is marked to what is not.
        tree: of the centres.
    """

    values: np.ndarray
    centres: np.ndarray
    outward: np.ndarray
    tree: cKDTree

    @cached_property
    def _ball(self) -> np.ndarray:
        """(n, 3) cells around one."""
        steps = np.arange(-4, 5)
        cells = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        return np.asarray(cells[np.linalg.norm(cells, axis=1) <= 4.5])

    def normal(self, index: np.ndarray, point: np.ndarray) -> np.ndarray:
        """(3,) which way the surface faces where it is nearest to a place; `point` is the nearest of a face."""
        normal = self._roughly(index, point)
        sheet = None
        for _ in range(_ROUNDS):
            radii = _RADII if sheet is None else (sheet.radius, *(r for r in _RADII if r > sheet.radius))
            found = self._fitted(point, normal, radii, sheet)
            if sheet is None and (found is None or found.is_poor):
                found = self._fitted(point, normal, (_LEAST,), None) or found
            if found is None:
                break
            before, sheet = normal, found
            point, normal = sheet.nearest(index)
            if normal @ before > _STILL:
                break
        return normal

    def _fitted(
        self, point: np.ndarray, normal: np.ndarray, radii: tuple[float, ...], before: _Sheet | None
    ) -> _Sheet | None:
        """The sheet through the faces of one side, of the widest radius at which there is one."""
        axes = _frame(normal)
        near = np.array(self.tree.query_ball_point(point, radii[-1]), dtype=int)
        places, ways = self.centres[near], self.outward[near]
        away = np.linalg.norm(places - point, axis=1)
        facing = ways @ normal
        best: _Sheet | None = None
        first = np.inf
        for radius in radii:
            part = away <= radius
            known = best or before
            mine = part & (known.holds(places, ways) if known else facing > _BACK)
            # Of those that look to this side at all.
            if best is not None and np.count_nonzero(mine) < (1 - _LOST) * np.count_nonzero(part & (facing > -_BACK)):
                break
            if np.count_nonzero(mine) < _FEW:
                continue
            sheet = _fit((places[mine] - point) @ axes.T, point, axes, radius)
            first = min(first, sheet.rough)
            if best is not None and sheet.is_poor and (sheet.is_bent or sheet.rough > _ROUGHER * first):
                break
            best = sheet
        return best

    def _roughly(self, index: np.ndarray, point: np.ndarray) -> np.ndarray:
        """About which way the surface faces at a point of it [voxels].

        Of what is flat across the thinnest way of the marked cells, to the side of the place; else away from them.
        """
        cells = np.rint(point).astype(int) + self._ball
        # What is beyond the volume goes on as its border is.
        kept = np.clip(cells, 0, np.array(self.values.shape) - 1)
        marked, offsets = self.values[tuple(kept.T)], cells - point
        weight = np.exp(-0.5 * (offsets**2).sum(axis=1) / 4.0)
        share = (weight * marked).sum() / weight.sum()
        away = -((weight * (marked - share))[:, None] * offsets).sum(axis=0)
        inner = offsets[marked]
        if len(inner) > 3:
            spread, ways = np.linalg.eigh(np.cov(inner.T))
            if spread[0] < _FLAT * spread[1]:
                way = ways[:, 0]
                side = (index - point - inner.mean(axis=0)) @ way
                return np.asarray(way if (side if abs(side) > 0.1 else away @ way) >= 0 else -way)
        length = np.linalg.norm(away)
        return np.asarray(away / length if length > 0 else np.array([1.0, 0.0, 0.0]))


def _frame(normal: np.ndarray) -> np.ndarray:
    """(3, 3) rows: two ways across a normal, and itself."""
    other = np.eye(3)[np.abs(normal).argmin()]
    first = np.cross(normal, other)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal])


def _powers(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)


def _fit(local: np.ndarray, origin: np.ndarray, axes: np.ndarray, radius: float) -> _Sheet:
    """Least squares, the weight falling to 0 at the radius, so that no face comes or goes at once."""
    u, v, h = local.T
    weight = np.clip(1 - (u * u + v * v + h * h) / radius**2, 0, None) + 1e-3
    scaled = _powers(u / radius, v / radius)
    square = scaled.T @ (weight[:, None] * scaled) + 1e-6 * weight.sum() * np.eye(6)
    terms = np.linalg.solve(square, scaled.T @ (weight * h))
    rough = float(np.sqrt((weight * (h - scaled @ terms) ** 2).sum() / weight.sum()))
    return _Sheet(origin, axes, terms / radius ** np.array([0, 1, 1, 2, 2, 2]), radius, rough)
