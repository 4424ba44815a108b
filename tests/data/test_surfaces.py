"""Distances from surfaces and the ways they face, of spheres and sheets that are known."""

import os

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from tomopick.core.errors import ReadError
from tomopick.core.types import Grid
from tomopick.data.masks import Mask
from tomopick.data.surfaces import VoxelSurface, read_mesh, turned_to

CENTRE = np.array([300.0, 320.0, 310.0])
RADIUS = 200.0


def ball(spacing=10.0, shape=(64, 64, 64), origin=(0.0, 0.0, 0.0)):
    grid = Grid(shape, spacing, origin)
    at = grid.positions(np.indices(shape).reshape(3, -1).T)
    return VoxelSurface(Mask((np.linalg.norm(at - CENTRE, axis=1) < RADIUS).reshape(shape), grid))


def around(n=300, low=80.0, high=260.0, seed=0):
    rng = np.random.default_rng(seed)
    way = Rotation.random(n, rng).apply([0, 0, 1])
    length = rng.uniform(low, high, n)
    return CENTRE + way * length[:, None], way, length


def degrees(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=1), -1, 1)))


@pytest.mark.parametrize(("spacing", "shape", "origin"), [(10.0, (64,) * 3, (0, 0, 0)), (7.0, (92,) * 3, (-5, 3, 0))])
def test_distance_from_a_ball_of_voxels(spacing, shape, origin):
    positions, _, length = around()
    found = ball(spacing, shape, origin).distances(positions)
    assert np.abs(found - (length - RADIUS)).max() < spacing  # voxels stand out from the ball by that much
    assert (found[length < RADIUS - spacing] < 0).all() and (found[length > RADIUS + spacing] > 0).all()


def test_a_ball_of_voxels_faces_outwards_within_two_degrees():
    positions, way, _ = around(low=120.0)  # towards the middle of a ball every way is as near
    assert degrees(ball().normals(positions), way).max() < 2.0


@pytest.mark.parametrize("tilt", [0.0, 17.0, 45.0, 80.0])
@pytest.mark.parametrize("thick", [40.0, 200.0])
def test_a_sheet_faces_the_pick_that_is_near(tilt, thick):
    turn = Rotation.from_euler("x", tilt, degrees=True)
    normal = turn.apply([0.0, 0.0, 1.0])[::-1]  # zyx
    grid = Grid((64, 64, 64), 10.0)
    at = grid.positions(np.indices(grid.shape).reshape(3, -1).T)
    height = (at - CENTRE) @ normal
    surface = VoxelSurface(Mask((np.abs(height) < thick / 2).reshape(grid.shape), grid))
    rng = np.random.default_rng(1)
    positions = CENTRE + rng.uniform(-100, 100, (200, 3))
    side = (positions - CENTRE) @ normal
    positions, side = positions[np.abs(side) > 2], side[np.abs(side) > 2]
    wanted = np.sign(side)[:, None] * normal
    assert degrees(surface.normals(positions), wanted).max() < 2.0
    assert np.abs(surface.distances(positions) - (np.abs(side) - thick / 2)).max() < 10.0


@pytest.mark.parametrize("thick", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("tilt", [0.0, 3.0, 8.0, 20.0, 35.0, 54.7])
def test_a_membrane_of_one_or_two_voxels_faces_the_pick_within_two_degrees(tilt, thick):
    normal = Rotation.from_euler("yx", [0.4 * tilt, tilt], degrees=True).apply([0.0, 0.0, 1.0])[::-1]
    grid = Grid((64, 64, 64), 10.0)
    height = grid.positions(np.indices(grid.shape).reshape(3, -1).T) - CENTRE
    height = (height @ normal).reshape(grid.shape) / 10
    surface = VoxelSurface(Mask((height <= 0) & (height > -thick), grid))
    rng = np.random.default_rng(2)
    along = rng.uniform(-150, 150, (8, 3))
    along -= np.outer(along @ normal, normal)
    for off, way in ((10, 1), (30, 1), (-10 * thick - 10, -1), (-10 * thick - 30, -1)):
        assert degrees(surface.normals(CENTRE + along + off * normal), way * normal[None]).max() < 2.0


@pytest.mark.parametrize(("radius", "limits"), [(8, (2.0, 2.0, 4.0)), (12, (2.0, 2.0, 2.5))])
def test_small_balls_face_outwards(radius, limits):
    grid = Grid((56, 56, 56), 10.0)
    at = np.indices(grid.shape).reshape(3, -1).T - [27.3, 28.1, 27.7]
    surface = VoxelSurface(Mask((np.linalg.norm(at, axis=1) <= radius).reshape(grid.shape), grid))
    ways = np.random.default_rng(3).normal(size=(24, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    for off, limit in zip((0.5, 3, -3), limits):
        assert degrees(surface.normals(10.0 * ([27.3, 28.1, 27.7] + ways * (radius + off))), ways).max() < limit


def test_flat_faces_are_measured_exactly():
    values = np.zeros((20, 20, 20), dtype=bool)
    values[:10] = True  # up to z = 95 Å
    surface = VoxelSurface(Mask(values, Grid((20, 20, 20), 10.0)))
    at = np.array([[130.0, 33.3, 71.7], [95.0, 50.0, 50.0], [20.0, 111.1, 5.0]])
    np.testing.assert_allclose(surface.distances(at), [35.0, 0.0, -75.0], atol=1e-9)


def test_a_mask_without_surface():
    grid = Grid((8, 8, 8), 10.0)
    at = np.array([[30.0, 30.0, 30.0]])
    for values, away in ((np.zeros(grid.shape, bool), np.inf), (np.ones(grid.shape, bool), -np.inf)):
        surface = VoxelSurface(Mask(values, grid))
        assert surface.distances(at).tolist() == [away] and surface.normals(at).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
def test_meshes_of_every_kind(tmp_path, ending):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=RADIUS)
    mesh.apply_translation(CENTRE[::-1])  # x, y, z in a file
    mesh.export(tmp_path / f"ball.{ending}")
    surface = read_mesh(tmp_path / f"ball.{ending}")
    positions, way, length = around()
    assert surface.closed
    np.testing.assert_allclose(surface.distances(positions), length - RADIUS, atol=1.0)  # facets of 15 Å
    assert degrees(surface.normals(positions), way).max() < 2.0


@pytest.mark.parametrize("ending", ["ply", "obj", "stl", "glb"])
def test_which_way_triangles_go_round_does_not_matter(tmp_path, ending):
    rng = np.random.default_rng(4)
    far = trimesh.creation.icosphere(subdivisions=3, radius=60.0)
    far.apply_translation((400.0, 0.0, 0.0))
    shell = trimesh.creation.icosphere(subdivisions=4, radius=RADIUS)
    hollow, yolk = (trimesh.creation.icosphere(subdivisions=3, radius=r) for r in (150.0, 50.0))
    hollow.invert()
    mesh = trimesh.util.concatenate([far, shell, hollow, yolk])
    rows = rng.random(len(mesh.faces)) < 0.5
    at = rng.uniform(-300, 500, (3000, 3))
    out = np.linalg.norm(at, axis=1)
    away = np.minimum(np.linalg.norm(at - [400, 0, 0], axis=1) - 60, np.maximum(out - RADIUS, 150 - out))
    away = np.minimum(away, out - 50)  # inside: the ball beside, the shell, and what it holds
    clear = np.abs(away) > 5
    for turned in (rows, np.arange(len(rows)) < len(far.faces), np.arange(len(rows)) < 0):
        faces = np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces)
        trimesh.Trimesh(mesh.vertices, faces, process=False).export(tmp_path / f"a.{ending}")
        surface = read_mesh(tmp_path / f"a.{ending}")
        assert surface.closed and ((surface.distances(at[:, ::-1]) < 0) == (away < 0))[clear].all()


def test_an_open_mesh_of_mixed_triangles_faces_the_pick_and_a_strip_with_one_side_has_no_inside(tmp_path):
    sheet = trimesh.creation.box((400.0, 400.0, 0.0)).subdivide_to_size(50.0)
    flat = sheet.vertices[sheet.faces][:, :, 2].max(axis=1) <= 0
    flat &= sheet.area_faces > 1
    plane = trimesh.Trimesh(sheet.vertices, sheet.faces[flat])
    plane.merge_vertices()
    plane.update_faces(plane.unique_faces())
    turned = np.random.default_rng(5).random(len(plane.faces)) < 0.5
    faces = np.where(turned[:, None], plane.faces[:, ::-1], plane.faces)
    trimesh.Trimesh(plane.vertices, faces, process=False).export(tmp_path / "a.ply")
    surface = read_mesh(tmp_path / "a.ply")
    at = np.array([[40.0, 11.0, 23.0], [-30.0, -70.0, 50.0]])
    assert not surface.closed
    np.testing.assert_allclose(surface.normals(at), [[1, 0, 0], [-1, 0, 0]], atol=1e-6)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1) * 300
    width = np.stack([np.cos(turn / 2) * np.cos(turn), np.cos(turn / 2) * np.sin(turn), np.sin(turn / 2)], 1) * 40
    strip = [((a, a + 24, b), (b, a + 24, b + 24)) for a, b in zip(range(23), range(1, 24))]
    strip.append(((23, 47, 24), (24, 47, 0)))  # half a turn round
    trimesh.Trimesh(np.concatenate([ring - width, ring + width]), np.concatenate(strip)).export(tmp_path / "b.ply")
    assert not read_mesh(tmp_path / "b.ply").closed


def test_an_open_mesh_has_two_sides_and_large_triangles_are_no_trouble(tmp_path):
    corners = np.array([[0, 0, 100], [3000, 0, 100], [3000, 3000, 100], [0, 3000, 100]], dtype=float)  # xyz
    trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]]).export(tmp_path / "sheet.ply")
    surface = read_mesh(tmp_path / "sheet.ply")
    at = np.array([[40.0, 1500.0, 700.0], [180.0, 2800.0, 2900.0]])
    assert not surface.closed
    np.testing.assert_allclose(surface.distances(at), [60.0, 80.0], atol=1e-6)
    np.testing.assert_allclose(surface.normals(at), [[-1, 0, 0], [1, 0, 0]], atol=1e-9)


def test_what_is_no_mesh_is_refused(tmp_path):
    (tmp_path / "a.ply").write_text("no mesh")
    with pytest.raises(ReadError, match="expected PLY, OBJ, STL or GLB"):
        read_mesh(tmp_path / "a.ply")
    for text in ("", "ply nonsense", "ply\nformat ascii 1.0\nelement vertex"):
        (tmp_path / "a.ply").write_text(text)
        with pytest.raises(ReadError, match=r"a\.ply: cannot be read as a mesh \(.*; expected PLY") as found:
            read_mesh(tmp_path / "a.ply")
        assert "list index" not in str(found.value) and "unpack" not in str(found.value), text


def test_triangles_that_are_far_too_large_are_not_cut_up(tmp_path):
    corners = np.array([[0, 0, 0], [1e7, 0, 0], [0, 1e7, 0]])
    trimesh.Trimesh(corners, [[0, 1, 2]]).export(tmp_path / "a.obj")
    with pytest.raises(ReadError, match="too large and too many to be cut small"):
        read_mesh(tmp_path / "a.obj")


def test_a_triangle_without_area_is_no_trouble(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 50 0 0\nv 0 50 0\nv 100 0 0\nf 1 2 3\nf 1 2 4\n")
    surface, at = read_mesh(tmp_path / "a.obj"), np.array([[7.0, 0.0, 80.0]])
    np.testing.assert_allclose(surface.distances(at), [7.0])
    assert np.isfinite(surface.normals(at)).all()


@pytest.mark.parametrize("number", ["nan", "-inf", "8e99"])
def test_corners_that_no_tomogram_has(tmp_path, number):
    (tmp_path / "a.obj").write_text(f"v 0 0 0\nv {number} 0 0\nv 0 50 0\nf 1 2 3\n")
    with pytest.raises(ReadError, match="no triangles with finite corners"):
        read_mesh(tmp_path / "a.obj")


def test_a_pipe_is_no_mesh(tmp_path):
    os.mkfifo(tmp_path / "a.ply")
    with pytest.raises(ReadError, match="is a pipe"):
        read_mesh(tmp_path / "a.ply")


def test_rotations_take_z_to_the_normal():
    _, way, _ = around(50)
    way = np.concatenate([way, [[1, 0, 0], [-1, 0, 0], [0, 0, 0]]])
    turns = turned_to(way)
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    np.testing.assert_allclose(turns[:-1, :, 2], way[:-1, ::-1], atol=1e-9)
    np.testing.assert_array_equal(turns[-1], np.eye(3))
