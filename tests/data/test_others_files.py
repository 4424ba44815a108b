"""Files that other programs wrote, each held to numbers computed from its bytes in another way."""

import struct
from pathlib import Path

import numpy as np
import pytest

from real_data import real
from telling import heard
from tomopick.core.errors import ReadError
from tomopick.core.types import Grid
from tomopick.data import open_project, volume_grids
from tomopick.data.formats import Reading, RunFrame, RunNames, detect, get_format, read_tomograms_star
from tomopick.data.formats.star_text import read_documents

GRID = Grid((300, 924, 956), 10.0)


def taken(path: Path, *runs: str, grid: Grid = GRID, centre=None, pixel_size=None, index_map=None, stated=None):
    """The picks of a file by run, and what was said."""
    frames = {run: RunFrame(run, grid=grid, centre=centre, pixel_size=pixel_size) for run in runs}
    reading = Reading(
        frames.__getitem__,
        RunNames(list(runs), ["particle"], stated or {}),
        labels={1: "particle"},
        index_map=index_map,
    )
    with heard() as said:
        found = get_format(detect(path)).read(path, reading)
    by_run = {run: [p.positions for p in found if p.run == run] for run in {p.run for p in found}}
    return {run: np.concatenate(parts) for run, parts in by_run.items()}, found, reading.unmatched, said


def words(path: Path, names: list[str]) -> list[list[str]]:
    """Values of a STAR table by the crudest of readers: lines after the header that has all the names."""
    lines = path.read_text().splitlines()
    columns: list[str] = []
    rows = []
    for line in lines:
        if line.startswith("_"):
            columns = columns if not rows else []
            columns.append(line.split()[0][1:])
        elif line.startswith(("data_", "loop_")):
            columns, rows = ([], rows) if set(names) <= set(columns) and rows else ([], [])
            if rows:
                return rows
        elif line.strip() and not line.startswith("#") and set(names) <= set(columns):
            rows.append([line.split()[columns.index(n)] for n in names])
    return rows


def contours(path: Path) -> list[np.ndarray]:
    """The points of every contour of an IMOD model, from its bytes."""
    data, found, at = path.read_bytes(), [], 0
    while (at := data.find(b"CONT", at)) >= 0:
        (n,) = struct.unpack(">i", data[at + 4 : at + 8])
        found.append(np.frombuffer(data, ">f4", 3 * n, at + 20).reshape(-1, 3).astype(float))
        at += 20 + 12 * n
    return found


@pytest.mark.parametrize("name, n", [("multiple_objects_example", 6), ("point_sizes_example", 18),
                                     ("slicer_angle_example", 4)])  # fmt: skip
def test_imod_models(name, n):
    path = real(f"formats/imodmodel/{name}.mod")
    points = np.concatenate(contours(path))
    head = struct.unpack(">3i", path.read_bytes()[8 + 128 : 8 + 140])
    same = Grid(head[::-1], 10.0)  # of the shape that the model was drawn on
    found, _, _, said = taken(path, name, grid=same)
    wanted = (points - [0.5, 0.5, 0.0])[:, ::-1] * 10.0
    assert len(points) == n and all("is taken for particle, the only object" in line for line in said)
    np.testing.assert_allclose(found[name], wanted, atol=1e-3)


def test_imod_outlines_of_the_field():
    path = real("formats/imodmodel/two_contour_example.mod")
    assert [len(c) for c in contours(path)] == [17, 8]
    with pytest.raises(ReadError, match="closed contours alone"):
        taken(path, "two_contour_example")


def test_relion_3_1_of_dynamo2m():
    path = real("formats/dynamo2m/relion3.1.star")
    axes = [f"rlnCoordinate{a}" for a in "XYZ"] + [f"rlnOrigin{a}Angst" for a in "XYZ"]
    rows = np.array(words(path, axes), dtype=float)
    wanted = rows[:, :3] * 5.0 - rows[:, 3:]
    found, (picks, *_), unmatched, said = taken(path, "TS_01")
    assert set(found) == {"TS_01"} and len(rows) == 57
    assert len(found["TS_01"]) == sum("TS_01.mrc.tomostar" in line for line in path.read_text().splitlines())
    assert set(unmatched) <= {
        f"/home/user/hiv-tutorial/frames/reconstruction/TS_{i:02}.mrc.tomostar" for i in range(99)
    }
    np.testing.assert_allclose(found["TS_01"], wanted[: len(found["TS_01"]), ::-1], atol=1e-6)
    assert picks.rotations is not None and any("left out" in line for line in said)


@pytest.mark.parametrize("name", ["dynamo2m/warp_example_head.star", "starfile/one_loop.star"])
def test_warp_1_tables(name):
    path = real(f"formats/{name}")
    columns = [*(f"rlnCoordinate{a}" for a in "XYZ"), "rlnMagnification", "rlnDetectorPixelSize", "rlnMicrographName"]
    rows = words(path, columns)
    runs = sorted({row[-1].removesuffix(".mrc_15.00Apx.mrc") for row in rows})
    found, _, unmatched, _ = taken(path, *runs)
    assert not unmatched and sum(map(len, found.values())) == len(rows)
    for run in runs:
        mine = np.array([row[:5] for row in rows if row[-1].startswith(f"{run}.mrc")], dtype=float)
        size = mine[:, 4:5] * 1e4 / mine[:, 3:4]
        assert np.all(size == 5.0)
        np.testing.assert_allclose(found[run], (mine[:, :3] * size)[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("table, listed", [("dynamo2m/example_head.tbl", "dynamo2m/example.doc"),
                                           ("dynamotable/t_double.tbl", "dynamotable/tmap_complex.doc")])  # fmt: skip
def test_dynamo_tables(table, listed):
    path, doc = real(f"formats/{table}"), real(f"formats/{listed}")
    names = {int(line.split()[0]): Path(line.split()[1]).name for line in doc.read_text().splitlines() if line.strip()}
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    numbers = np.array([[float(row[i]) for i in (19, 9, 3, 4, 5, 23, 24, 25)] for row in rows])
    runs = [name.removesuffix(".mrc_15.00Apx.mrc") for name in names.values()]
    _, picks, unmatched, _ = taken(path, *runs, index_map=doc)
    assert sum(map(len, picks)) == int(np.isin(numbers[:, 0], list(names)).sum()) > 0
    assert len(unmatched) == len(set(numbers[:, 0].astype(int)) - set(names))
    for part in picks:
        index = next(n for n, name in names.items() if name.startswith(f"{part.run}.mrc"))
        mine = numbers[numbers[:, 0] == index]
        np.testing.assert_allclose(part.positions, (mine[:, 2:5] + mine[:, 5:])[:, ::-1] * 10.0, atol=1e-6)
        np.testing.assert_allclose(part.scores, mine[:, 1])


def euler(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's matrix, Euler_angles2matrix, written out."""
    a, b, g = np.radians([rot, tilt, psi])
    ca, cb, cg, sa, sb, sg = np.cos(a), np.cos(b), np.cos(g), np.sin(a), np.sin(b), np.sin(g)
    return np.array([
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ])  # fmt: skip


def test_a_relion_5_job_of_cylindra():
    rows = read_tomograms_star(real("formats/cylindra/tomograms.star"))
    assert {n: Path(r.files[0]).name for n, r in rows.items()} == {"TS_01": "13pf_MT.mrc", "TS_02": "14pf_MT.mrc"}
    stated = {name: row.files[0] for name, row in rows.items()}
    centre = rows["TS_01"].centre
    assert centre == (44 / 2 * 10.52, 136 / 2 * 10.52, 84 / 2 * 10.52)
    runs = ("13pf_MT", "14pf_MT")
    axes = [f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
    shifts = [f"rlnOrigin{a}Angst" for a in "XYZ"]
    path = real("formats/cylindra/particles.star")
    found, *_ = taken(path, *runs, centre=centre, stated=stated)
    wanted = np.array(words(path, axes), dtype=float) + centre[::-1]
    np.testing.assert_allclose(np.concatenate([found[r] for r in runs]), wanted[:, ::-1], atol=1e-6)
    for name in ("run_it025_data", "run_it050_data"):
        path = real(f"formats/cylindra/{name}.star")
        table = path.read_text()
        sub = [f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi")] if "rlnTomoSubtomogramRot" in table else []
        turns = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
        numbers = np.array(words(path, [*axes, *shifts, *turns, *sub]), dtype=float)
        found, picks, *_ = taken(path, *runs, centre=centre, stated=stated)
        turn = [euler(*row[9:]) if sub else np.eye(3) for row in numbers]
        wanted = [row[:3] + centre[::-1] - t @ row[3:6] for row, t in zip(numbers, turn)]
        both = np.concatenate([found[r] for r in runs if r in found])
        np.testing.assert_allclose(both, np.array(wanted)[:, ::-1], atol=1e-6)
        poses = np.concatenate([p.rotations for p in picks])
        np.testing.assert_allclose(poses, [t @ euler(*row[6:9]) for row, t in zip(numbers, turn)], atol=1e-9)
    with pytest.raises(ReadError, match=r"import Picks/job_picks/particles\.star with `tomograms_star=Tomograms"):
        taken(real("formats/cylindra/optimisation_set.star"), *runs)
    with pytest.raises(ReadError, match="no block with coordinates"):
        taken(real("formats/cylindra/13pf_MT.star"), *runs)


def test_star_files_of_starfile():
    (blocks,) = read_documents(real("formats/starfile/loop_single_quote.star"))
    assert blocks[""].iloc[0].tolist() == ["noquote", "quote string", " ", "", "4.0", "5.0", "6.0", ""]
    (blocks,) = read_documents(real("formats/starfile/basic_double_quote.star"))
    assert blocks[""].iloc[0].tolist() == ["noquote", "quote string", " ", ""]
    for name, message in (("rln3.1_data_style", "several blocks"), ("single_line_middle_of_multiblock", "several"),
                          ("empty_loop", "no block with coordinates")):  # fmt: skip
        with pytest.raises(ReadError, match=message):
            taken(real(f"formats/starfile/{name}.star"), "a")


def test_boxes_of_boxmanager():
    path = real("formats/boxmanager/3d_particle.cbox")
    found, *_ = taken(path, "3d_particle")
    columns = ["CoordinateX", "CoordinateY", "CoordinateZ", "Width", "Height"]
    rows = np.array(words(path, columns)[:3], dtype=float)
    wanted = np.stack([rows[:, 0] + rows[:, 3] / 2, rows[:, 1] + rows[:, 4] / 2, rows[:, 2]], axis=1)
    np.testing.assert_allclose(found["3d_particle"], wanted[:, ::-1] * 10.0)
    for name in ("empty.cbox", "2d_empty.box"):
        found, (picks,), _, said = taken(real(f"formats/boxmanager/{name}"), name.partition(".")[0])
        assert len(picks) == 0 and "holds no particles" in said[-1]


def test_a_map_with_an_origin():
    path = real("formats/mrcfile/EMD-3197.map")
    data = path.read_bytes()
    nx, ny, nz = struct.unpack("<3i", data[:12])
    (mx, _, _), (cx, _, _) = struct.unpack("<3i", data[28:40]), struct.unpack("<3f", data[40:52])
    (grid,) = volume_grids(path)
    assert grid.shape == (nz, ny, nx) and grid.origin == (0, 0, 0) and grid.voxel_spacing == pytest.approx(cx / mx)


TEMPLATES = ["local", "local_static_local", "local_static_s3", "s3", "local_static_smb", "smb"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_copicks_templates_are_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    path = tmp_path / f"{name}.json"
    text = real(f"formats/copick/overlay_{name}.json").read_text()
    path.write_text(text.replace("/path/to", str(tmp_path / "nowhere")))  # an overlay is made where it is not yet
    with pytest.raises(ReadError) as caught:
        open_project(path).runs()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
