"""Which way the triangles of a mesh go round: all of a body alike, and outward, whatever its file says."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# Along no edge that a program would draw: a line of sight through an edge meets both of its triangles, or none.
_ASKEW = np.linalg.qr(np.array([[0.61, -0.37, 0.29], [0.23, 0.71, -0.41], [-0.53, 0.19, 0.83]]))[0]


def wound(vertices: np.ndarray, faces: np.ndarray, closed: bool) -> tuple[np.ndarray, bool]:
    """Triangles that go round outward, as seen from outside, and whether they have an inside.

    Triangles that share an edge are turned to go round alike. Of a closed mesh each body is then turned outward, and
    one that lies in an odd number of others inward: what is inside is what an odd number of surfaces enclose, so that a
    shell is hollow.

    Args:
        vertices: (n, 3) in any unit.
        faces: (m, 3) numbers of vertices.
        closed: whether every edge is of two triangles.

    Returns:
        (m, 3) faces, and False for a mesh that is open or has but one side.
    """
    flip, bodies, two_sided = _alike(faces)
    faces = np.where(flip[:, None], faces[:, ::-1], faces)
    if not (closed and two_sided):
        return faces, False
    corners = (vertices - vertices.mean(axis=0)) @ _ASKEW
    triangles = corners[faces]
    volumes = np.bincount(bodies, np.linalg.det(triangles))  # times six
    inward = volumes < 0
    inward ^= _depths(triangles, bodies) % 2 == 1
    return np.where(inward[bodies][:, None], faces[:, ::-1], faces), True


def _alike(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """(m,) bool which to turn so that neighbours go round alike; (m,) the body of each; whether all have two sides."""
    m = len(faces)
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    forward = edges[:, 0] < edges[:, 1]
    ends = np.sort(edges, axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    _, first, counts = np.unique(ends[order], axis=0, return_index=True, return_counts=True)
    pairs = order[first[counts == 2][:, None] + np.arange(2)]
    one, other = (pairs // 3).T
    same = forward[pairs[:, 0]] != forward[pairs[:, 1]]
    # Each triangle twice, as it is and turned; what hangs together goes round alike.
    rows = np.concatenate([one, one + m])
    columns = np.concatenate([np.where(same, other, other + m), np.where(same, other + m, other)])
    links: Any = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(2 * m, 2 * m))
    _, label = connected_components(links, directed=False)
    kept, turned = label[:m], label[m:]
    _, bodies = np.unique(np.minimum(kept, turned), return_inverse=True)
    return kept > turned, bodies, bool((kept != turned).all())


def _depths(triangles: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """(n,) how many others each body lies in."""
    n = int(bodies.max()) + 1
    order = np.argsort(bodies, kind="stable")
    starts = np.searchsorted(bodies[order], np.arange(n + 1))
    low = np.minimum.reduceat(triangles[order].min(axis=1), starts[:-1])
    high = np.maximum.reduceat(triangles[order].max(axis=1), starts[:-1])
    points = triangles[order[starts[:-1]]].mean(axis=1)
    depths = np.zeros(n, dtype=int)
    for i in range(n):
        held = np.flatnonzero((low > low[i]).all(axis=1) & (high < high[i]).all(axis=1))
        if len(held):
            own = triangles[order[starts[i] : starts[i + 1]]]
            depths[held] += _crossings(own, points[held]) % 2
    return depths


def _crossings(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) how often the lines from points upwards go through triangles."""
    order = np.argsort(triangles[:, :, 0].min(axis=1))
    triangles = triangles[order]
    low, high = np.ascontiguousarray(triangles.min(axis=1).T), np.ascontiguousarray(triangles.max(axis=1).T)
    found = np.zeros(len(points), dtype=int)
    # No triangle that begins further back than the widest is wide reaches a point.
    ends = np.searchsorted(low[0], points[:, 0], side="right")
    begins = np.searchsorted(low[0], points[:, 0] - (high[0] - low[0]).max())
    for i, (point, begin, end) in enumerate(zip(points, begins, ends)):
        part = slice(begin, end)
        near = (high[0, part] >= point[0]) & (low[1, part] <= point[1]) & (high[1, part] >= point[1])
        a, b, c = np.moveaxis(triangles[part][near] - point, 1, 0)
        # Of a triangle's shadow: the signed areas with the point, which have one sign where it lies in it.
        shares = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)])
        through = (shares > 0).all(axis=0) | (shares < 0).all(axis=0)
        shares, heights = shares[:, through], np.stack([a, b, c])[:, through, 2]
        found[i] = np.count_nonzero((shares * heights).sum(axis=0) / shares.sum(axis=0) > 0)
    return found


def _cross(a: np.ndarray, b: np.ndarray) -> Any:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
