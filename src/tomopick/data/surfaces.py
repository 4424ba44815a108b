"""Surfaces of masks and meshes: how far picks lie from them, on which side, and which way they face."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import ReadError
from ..core.reading import require_file
from ..core.text import BEYOND
from ..core.types import Grid
from .facing import Facing
from .masks import Mask, box_text
from .volumes.checks import warn_once
from .winding import wound

_FACES = 12  # nearest ones that are looked at: the nearest point may lie on a face whose centre is not the nearest
_TRIANGLES = 24
_MOST = 2_000_000  # triangles
_EDGE = 60.0  # [Å] of triangles at most, so that their centres tell which is near
_AT_ONCE = 4096  # picks
_CORNER = 0.1  # of a tomogram along each axis: as much as it would measure if nm were taken for Å


class Surface(Protocol):
    """Where something begins and ends."""

    def distances(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n,) distance from the nearest surface [Å], negative inside; inf where there is none."""

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n, 3) unit normals of the nearest surface, outward, zyx; 0 where there is none."""


@dataclass(frozen=True)
class VoxelSurface:
    """The faces between marked voxels and others; a mask that ends with its volume has no face there.

    Attributes:
        mask: what is marked.
    """

    mask: Mask

    @cached_property
    def _faces(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) centres of the faces [voxels] and (n,) the axis that each is across."""
        values, centres, axes = self.mask.values, [], []
        for axis in range(3):
            at = np.argwhere(np.diff(values.astype(np.int8), axis=axis) != 0).astype(np.float64)
            at[:, axis] += 0.5
            centres.append(at)
            axes.append(np.full(len(at), axis))
        return np.concatenate(centres), np.concatenate(axes)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self._faces[0])

    def _nearest(self, indices: np.ndarray) -> np.ndarray:
        """(n, 3) voxels -> (n, 3) nearest point of a face."""
        centres, axes = self._faces
        _, which = self._tree.query(indices, k=min(_FACES, len(centres)))
        which = which.reshape(len(indices), -1)
        flat = np.eye(3, dtype=bool)[axes[which]]  # (n, k, 3)
        offsets = np.where(flat, 0.0, np.clip(indices[:, None] - centres[which], -0.5, 0.5))
        points = centres[which] + offsets
        best = np.linalg.norm(points - indices[:, None], axis=2).argmin(axis=1)
        return np.asarray(points[np.arange(len(indices)), best])

    def distances(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n,) distance from the nearest face [Å], negative inside; inf where there is none."""
        positions = np.reshape(positions, (-1, 3))
        inside = self.mask.contains(positions)
        if not len(self._faces[0]):
            return np.where(inside, -np.inf, np.inf)
        away = np.empty(len(positions))
        for part in _parts(len(positions)):
            indices = self.mask.grid.indices(positions[part])
            away[part] = np.linalg.norm(self._nearest(indices) - indices, axis=1)
        return away * self.mask.grid.voxel_spacing * np.where(inside, -1, 1)

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n, 3) unit normals of the nearest surface, outward, zyx; 0 where there is none.

        A face alone knows six ways, and stairs of faces repeat themselves over many voxels: see `Facing`.
        """
        indices = self.mask.grid.indices(np.reshape(positions, (-1, 3)))
        found = np.zeros((len(indices), 3))
        if not len(self._faces[0]):
            return found
        for part in _parts(len(indices)):
            points = self._nearest(indices[part])
            found[part] = [self._facing.normal(index, point) for index, point in zip(indices[part], points)]
        return found

    @cached_property
    def _outward(self) -> np.ndarray:
        """(n, 3) of each face: from what is marked to what is not."""
        centres, axes = self._faces
        way = np.eye(3)[axes]
        before = self.mask.values[tuple((centres - 0.5 * way).astype(int).T)]
        return np.where(before[:, None], way, -way)

    @cached_property
    def _facing(self) -> Facing:
        return Facing(self.mask.values, self._faces[0], self._outward, self._tree)


@dataclass(frozen=True)
class MeshSurface:
    """Triangles; a closed mesh has an inside, an open one two sides that are both outside.

    Attributes:
        vertices: (n, 3) zyx [Å].
        faces: (m, 3) numbers of vertices.
        closed: whether it has an inside.
        vertex_normals: (n, 3) outward, zyx.
    """

    vertices: np.ndarray
    faces: np.ndarray
    closed: bool
    vertex_normals: np.ndarray

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.vertices[self.faces].mean(axis=1))

    def _nearest(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) nearest points, and (n, 3) the surface's normals there, interpolated over the triangle."""
        from trimesh import triangles as of

        k = min(_TRIANGLES, len(self.faces))
        _, which = self._tree.query(positions, k=k)
        which = which.reshape(len(positions), k)
        triangles = self.vertices[self.faces[which.ravel()]]
        points = of.closest_point(triangles, np.repeat(positions, k, axis=0))  # type: ignore[no-untyped-call]
        points = points.reshape(len(positions), k, 3)
        best = np.linalg.norm(points - positions[:, None], axis=2).argmin(axis=1)
        rows = np.arange(len(positions))
        face, point = which[rows, best], points[rows, best]
        with np.errstate(divide="ignore", invalid="ignore"):  # of triangles without an area
            shares = of.points_to_barycentric(self.vertices[self.faces[face]], point)  # type: ignore[no-untyped-call]
        shares = np.where(np.isfinite(shares).all(axis=1, keepdims=True), shares, 1 / 3)
        return point, _unit((self.vertex_normals[self.faces[face]] * shares[..., None]).sum(axis=1))

    def distances(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n,) distance from the mesh [Å], negative inside of a closed one."""
        positions = np.reshape(positions, (-1, 3)).astype(np.float64)
        found = np.empty(len(positions))
        for part in _parts(len(positions)):
            point, normal = self._nearest(positions[part])
            away = np.linalg.norm(positions[part] - point, axis=1)
            inner = self.closed & (((positions[part] - point) * normal).sum(axis=1) < 0)
            found[part] = np.where(inner, -away, away)
        return found

    def normals(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) zyx [Å] -> (n, 3) unit normals of the nearest point; of an open mesh towards the position."""
        positions = np.reshape(positions, (-1, 3)).astype(np.float64)
        found = np.empty((len(positions), 3))
        for part in _parts(len(positions)):
            point, normal = self._nearest(positions[part])
            back = ((positions[part] - point) * normal).sum(axis=1) < 0
            found[part] = np.where((back & (not self.closed))[:, None], -normal, normal)
        return found


def read_mesh(path: Path, grid: Grid | None = None, header: Grid | None = None) -> MeshSurface:
    """A mesh, whose vertices are x, y, z [Å] in the file; which way its triangles go round there does not matter.

    Args:
        path: of the file.
        grid: of the tomogram that it is of; None: of any, wherever it lies.
        header: where the tomogram's own file says that its voxels lie, which the file's numbers count from, too; None:
            at 0.

    Raises:
        ReadError: it cannot be read, holds no triangle, or lies beside the tomogram.
    """
    vertices, faces, normals, closed = _loaded(path)
    vertices = vertices - (header.origin[::-1] if header else 0.0)
    if grid is not None:
        _require_near(vertices[:, ::-1], grid, path)
    both = np.concatenate([vertices, normals], axis=1)
    while True:  # triangles in four, until none is large; normals go along
        corners = both[:, :3][faces]
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
        large = edges > _EDGE
        if not large.any():
            break
        if len(faces) + 3 * np.count_nonzero(large) > _MOST:
            raise ReadError(
                f"{path}: {len(faces)} triangles of edges up to {edges.max():.3g} Å, too large and too many to be cut "
                "small; expected a mesh of the tomogram, in Å"
            )
        corner = both[faces[large]]
        middle = (corner + np.roll(corner, -1, axis=1)) / 2  # ab, bc, ca
        first = len(both) + 6 * np.arange(len(corner))[:, None]
        both = np.concatenate([both, np.concatenate([corner, middle], axis=1).reshape(-1, 6)])
        parts = [first + np.array(t) for t in ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))]
        faces = np.concatenate([faces[~large], *parts])
    return MeshSurface(both[:, 2::-1], faces, closed, _unit(both[:, 5:2:-1]))


def _loaded(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """(n, 3) vertices x, y, z as the file has them, (m, 3) faces, (n, 3) normals outward, whether it has an inside."""
    import trimesh

    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that are refused below
            loaded: Any = trimesh.load(path, force="mesh")
            mesh = loaded if len(loaded.faces) and (np.abs(loaded.vertices) <= BEYOND).all() else None
            if mesh is not None:
                mesh.merge_vertices()
                vertices = np.asarray(mesh.vertices, dtype=np.float64)
                faces, closed = wound(vertices, np.asarray(mesh.faces), bool(mesh.is_watertight))
                turned: Any = trimesh.Trimesh(vertices, faces, process=False)
                normals = np.asarray(turned.vertex_normals)
    except Exception as error:  # whatever its readers stumble over
        # What a reader says of itself (list index out of range) tells nobody what is wrong with the file.
        told = error.strerror if isinstance(error, OSError) else None
        kind = path.suffix[1:].upper()
        reason = told or f"it is not laid out as a {kind}, or ends too early"
        raise ReadError(f"{path}: cannot be read as a mesh ({reason}); expected PLY, OBJ, STL or GLB") from None
    if mesh is None:
        raise ReadError(f"{path}: holds no triangles with finite corners; expected a mesh in Å")
    return vertices, faces, normals, closed


def _require_near(vertices: np.ndarray, grid: Grid, path: Path) -> None:
    """Raises `ReadError` for a mesh, (n, 3) zyx [Å], beside the tomogram, and says what may be in another unit."""
    low, high = box = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
    first, last = grid.box
    its, where = box_text(grid.box), f"{path}: lies at z, y, x = {box_text(box)} Å"
    if (low > last).any() or (high < first).any():
        raise ReadError(
            f"{where}, beside the tomogram at {its} Å; expected a mesh of it, so give its x, y, z in Å as the "
            "tomogram's header counts them"
        )
    if (low >= first).all() and (high <= first + _CORNER * (last - first)).all():
        warn_once(f"mesh {where}, in a corner of the tomogram at {its} Å; is it in nm or voxels? expected Å")


def turned_to(normals: np.ndarray) -> np.ndarray:
    """(n, 3) unit vectors zyx -> (n, 3, 3) rotations, on xyz, that take z there by the shortest way; 0: none at all."""
    x, y, z = np.asarray(normals, dtype=np.float64)[:, ::-1].T
    known = x * x + y * y + z * z > 0
    z = np.where(known, z, 1.0)
    # Rodrigues' formula about z cross n; straight down it is half a turn about x.
    down = z < -1 + 1e-12
    share = 1 / np.where(down, 1.0, 1 + z)
    rows = [
        [1 - x * x * share, -x * y * share, x],
        [-x * y * share, 1 - y * y * share, y],
        [-x, -y, z],
    ]
    turns = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    turns[down] = np.diag([1.0, -1.0, -1.0])
    return turns


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _parts(n: int, step: int = _AT_ONCE) -> Iterator[slice]:
    return (slice(first, first + step) for first in range(0, n, step))
