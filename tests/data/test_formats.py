"""Formats of picks: round trips, where other programs would draw a voxel, others' readers, and bad files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from telling import heard
from tomopick.core.errors import OutputError, ReadError, SelectionError
from tomopick.core.types import Grid, PickableObject, Picks
from tomopick.data import picksjson
from tomopick.data.formats import (
    FORMATS,
    WRITTEN,
    PicksFormat,
    Reading,
    RunFrame,
    RunNames,
    detect,
    get_format,
    object_alias,
    plain_name,
    read_tomograms_star,
    save,
    tomo_type_alias,
)
from tomopick.data.formats.star import star_bytes

OBJECTS = {
    "ribosome": PickableObject("ribosome", 150.0, 1, (255, 0, 51, 255)),
    "apo-ferritin": PickableObject("apo-ferritin", None, 2),
}
NUMBERED = {o.label: o.name for o in OBJECTS.values()}
WRITABLE = list(WRITTEN)
TURNED = ["relion5", "relion4", "warp", "dynamo", "em", "artiax", "ndjson", "csv"]
SCORED = {"relion5": 1e-6, "relion4": 1e-6, "warp": 1e-6, "dynamo": 1e-6, "em": 1e-6, "artiax": 1e-6, "ndjson": 1e-6,
          "csv": 1e-6}  # fmt: skip


def frame_of(run: str, grid: Grid, pixel_size: float = 2.5, index: int = 1, **more) -> RunFrame:
    z, y, x = (n / 2 * grid.voxel_spacing for n in grid.shape)
    return RunFrame(run, index=index, grid=grid, centre=(z, y, x), pixel_size=pixel_size, **more)


def reading_of(*frames: RunFrame, **more) -> Reading:
    known = {f.run: f for f in frames}
    names = RunNames(list(known), list(OBJECTS))
    return Reading(known.__getitem__, names, labels=more.pop("labels", {1: "ribosome"}), **more)


def make_picks(run: str, grid: Grid, n: int = 12, seed: int = 0, turned: bool = True, names=("ribosome",)) -> Picks:
    rng = np.random.default_rng(seed)
    indices = rng.uniform(-0.4, np.asarray(grid.shape) - 0.6, (n, 3))
    turns = Rotation.random(n, np.random.default_rng(seed)).as_matrix() if turned else None
    return Picks(run, grid.positions(indices), np.resize(names, n), rng.uniform(0.01, 1, n), turns)


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(a.swapaxes(1, 2) @ b).magnitude().max()))


def test_registry_and_protocol():
    for key, kind in FORMATS.items():
        assert isinstance(kind, PicksFormat) and kind.key == key
    assert get_format("dynamo", origin=1, layout=None).origin == 1
    with pytest.raises(SelectionError, match="did you mean 'relion5'"):
        get_format("relion55")
    with pytest.raises(SelectionError, match="`origin` is of dynamo, not of relion5"):
        get_format("relion5", origin=1)


# ---- round trips ----


@pytest.mark.parametrize("key", WRITABLE)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spacing=st.floats(0.7, 25.0),
    shape=st.tuples(st.integers(1, 301), st.integers(1, 1023), st.integers(1, 1023)),
    level=st.integers(0, 2),
    pixel=st.floats(0.5, 12.0),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path, key, spacing, shape, level, pixel, seed):
    whole = Grid(shape, spacing)
    grid = whole.downsample(2**level)
    kind = FORMATS[key]
    frame = replace(frame_of("TS_1", whole, pixel), grid=grid)
    picks = make_picks("TS_1", whole, n=5, seed=seed, turned=key in TURNED)
    path = tmp_path / f"TS_1{kind.suffix}"
    save(kind.write([(picks, frame)], path, OBJECTS), overwrite=True)
    (found,) = kind.read(path, reading_of(frame, name="ribosome"))
    order = np.argsort(found.positions[:, 2]), np.argsort(picks.positions[:, 2])
    shift = found.positions[order[0]] - picks.positions[order[1]]
    assert np.abs(shift).max() < 0.05 * spacing
    assert found.run == "TS_1" and set(found.names) == {"ribosome"}
    if key in SCORED:
        np.testing.assert_allclose(found.scores[order[0]], picks.scores[order[1]], atol=SCORED[key])
    if key in TURNED:
        assert angle_between(found.rotations[order[0]], picks.rotations[order[1]]) < 0.1
    else:
        assert found.rotations is None


@pytest.mark.parametrize("key", [k for k in WRITABLE if not FORMATS[k].per_run])
def test_several_runs_and_objects(tmp_path, key):
    grids = {"TS_1": Grid((64, 100, 90), 10.0), "TS_2": Grid((63, 101, 91), 10.0)}
    frames = [frame_of(run, grid, index=i + 1) for i, (run, grid) in enumerate(grids.items())]
    names = tuple(OBJECTS)
    parts = [(make_picks(f.run, grids[f.run], seed=f.index, names=names), f) for f in frames]
    path = tmp_path / f"all{FORMATS[key].suffix}"
    save(FORMATS[key].write(parts, path, OBJECTS))
    found = {p.run: p for p in FORMATS[key].read(path, reading_of(*frames, labels=NUMBERED))}
    assert set(found) == set(grids)
    for picks, frame in parts:
        np.testing.assert_allclose(found[frame.run].positions, picks.positions, atol=0.01)
        np.testing.assert_array_equal(found[frame.run].names, picks.names)


@pytest.mark.parametrize("key", ["relion5", "relion4", "warp", "dynamo", "em", "ndjson", "csv"])
def test_no_orientation_stays_none(tmp_path, key):
    grid = Grid((40, 50, 60), 8.0)
    frame = frame_of("a", grid)
    path = tmp_path / f"a{FORMATS[key].suffix}"
    save(FORMATS[key].write([(make_picks("a", grid, turned=False), frame)], path, OBJECTS))
    assert FORMATS[key].read(path, reading_of(frame))[0].rotations is None
    if key in ("relion5", "relion4", "warp"):
        assert "rlnAngleRot" not in path.read_text()


def test_poles_are_silent_and_exact(tmp_path):
    """At the poles of the Euler angles a rotation still comes back; warnings are errors here."""
    grid = Grid((40, 50, 60), 8.0)
    frame = frame_of("a", grid)
    turns = Rotation.from_euler("ZYZ", [[30, 0, 0], [0, 180, 10], [90, 0, 45]], degrees=True).as_matrix()
    picks = replace(make_picks("a", grid, n=3), rotations=turns)
    for key in TURNED:
        path = tmp_path / f"{key}{FORMATS[key].suffix}"
        save(FORMATS[key].write([(picks, frame)], path, OBJECTS))
        (found,) = FORMATS[key].read(path, reading_of(frame, name="ribosome"))
        assert angle_between(found.rotations, turns) < 0.1, key


# ---- meaning: a bright voxel at a known index, and where the other program draws its pick ----

INDEX = np.array([[7, 12, 33]])  # z, y, x
GRID = Grid((21, 40, 61), 10.0)


def written(tmp_path: Path, key: str, frame: RunFrame | None = None, **choices) -> Path:
    volume = np.zeros(GRID.shape, np.float32)
    volume[tuple(INDEX[0])] = 1
    brightest = np.argwhere(volume == volume.max())
    picks = Picks("TS_1", GRID.positions(brightest), np.array(["ribosome"]), np.array([0.75]))
    path = tmp_path / f"TS_1{FORMATS[key].suffix}"
    save(get_format(key, **choices).write([(picks, frame or frame_of("TS_1", GRID))], path, OBJECTS))
    return path


def test_meaning_relion5(tmp_path):
    """particle_set.cpp: bin-1 pixel = Å / pixel size + size/2; the voxel of a volume binned by b is pixel / b."""
    import starfile

    data = starfile.read(written(tmp_path, "relion5"), always_dict=True)
    row, optics = data["particles"].iloc[0], data["optics"]
    pixel, binning = float(np.ravel(optics["rlnTomoTiltSeriesPixelSize"])[0]), 4
    size = np.array(GRID.shape)[::-1] * binning
    angst = row[[f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]].to_numpy(float)
    np.testing.assert_allclose((angst / pixel + size / 2) / binning, INDEX[0, ::-1], atol=1e-4)
    assert row["rlnAutopickFigureOfMerit"] == 0.75 and row["rlnTomoName"] == "TS_1"


def test_meaning_relion4(tmp_path):
    """rlnCoordinate counts unbinned pixels from the corner, so that extraction at bin 4 finds index * 4."""
    import starfile

    row = starfile.read(written(tmp_path, "relion4"), always_dict=True)["particles"].iloc[0]
    np.testing.assert_allclose(row[[f"rlnCoordinate{a}" for a in "XYZ"]].to_numpy(float) / 4, INDEX[0, ::-1])


def test_meaning_warp(tmp_path):
    """Pixels of a tomogram, zero at the centre of the first voxel; micrographs are called NAME.tomostar."""
    import starfile

    row = starfile.read(written(tmp_path, "warp"), always_dict=True)[""]
    row = row if isinstance(row, dict) else row.iloc[0]
    np.testing.assert_allclose([float(row[f"rlnCoordinate{a}"]) for a in "XYZ"], INDEX[0, ::-1])
    assert row["rlnMicrographName"] == "TS_1.tomostar"
    fine = written(tmp_path / "fine", "warp", coords_angpix=2.5)
    row = starfile.read(fine, always_dict=True)[""]
    row = row if isinstance(row, dict) else row.iloc[0]
    np.testing.assert_allclose(float(row["rlnCoordinateX"]), INDEX[0, 2] * 4)


@pytest.mark.parametrize("origin", [0, 1])
def test_meaning_dynamo(tmp_path, origin):
    """Columns 24-26 number voxels, from 0 or from 1 as said; column 10 is the score; the .doc names tomogram 20."""
    path = written(tmp_path, "dynamo", origin=origin)
    row = path.read_text().split()
    np.testing.assert_allclose([float(v) for v in row[23:26]], INDEX[0, ::-1] + origin)
    assert float(row[9]) == 0.75 and row[19] == "1" and float(row[35]) == 10.0 and float(row[12]) == 0
    assert path.with_suffix(".doc").read_text() == "1 TS_1\n"
    other = written(tmp_path / "t", "dynamo", tilt_range=(-60.0, 60.0)).read_text().split()
    assert other[12:15] == ["1", "-60", "60"]


def test_meaning_imod(tmp_path):
    """binspec.html: X and Y run from 0 to NX, NY and Z from -0.5 to NZ - 0.5; so the voxel at a point is its floor."""
    import imodmodel

    table = imodmodel.read(written(tmp_path, "imod"))
    point = table[["x", "y", "z"]].to_numpy()[0]
    np.testing.assert_array_equal(np.floor(point + np.array([0, 0, 0.5])).astype(int), INDEX[0, ::-1])
    np.testing.assert_allclose(point, INDEX[0, ::-1] + [0.5, 0.5, 0.0])
    text = [float(v) for v in written(tmp_path, "imod-text").read_text().split()]
    np.testing.assert_allclose(text, [1, 1, *point])


def test_imod_header(tmp_path):
    from imodmodel.models import ImodModel

    path = written(tmp_path, "imod")
    model = ImodModel.from_file(path)
    head = model.header
    assert (head.xmax, head.ymax, head.zmax) == (61, 40, 21) and head.pixelsize == 10.0 and head.units == -10
    assert head.flags.z_coordinates_start_from_negative_half
    o = model.objects[0].header
    assert o.pdrawsize == 15 and o.flags.scattered and o.red == 1.0 and o.blue == pytest.approx(0.2)


@pytest.mark.parametrize("key", ["em", "artiax"])
def test_meaning_motive_list(tmp_path, key):
    """ArtiaX takes 1 off rows 8-10 and draws at that voxel; row 1 is the score."""
    import emfile

    _, data = emfile.read(written(tmp_path, key))
    row = np.asarray(data).reshape(-1, 20)[0]
    np.testing.assert_allclose(row[7:10] - 1, INDEX[0, ::-1])
    assert row[0] == 0.75 and row[19] == 1


def test_meaning_coords_and_ndjson_and_csv(tmp_path):
    import json

    assert np.loadtxt(written(tmp_path, "coords")).tolist() == INDEX[0, ::-1].tolist()
    point = json.loads(written(tmp_path, "ndjson").read_text())
    assert point["type"] == "point" and [point["location"][a] for a in "xyz"] == INDEX[0, ::-1].tolist()
    line = written(tmp_path, "csv").read_text().splitlines()[1]
    assert line == "TS_1,ribosome,330.0000,120.0000,70.0000,0.750000"


def test_meaning_on_a_pyramid_level(tmp_path):
    """A blob at index 33 of the fine volume lies at (33 - 0.5) / 2 of a level of local means, not at 16.5."""
    frame = replace(frame_of("TS_1", GRID), grid=GRID.downsample(2))
    numbers = np.loadtxt(written(tmp_path, "coords", frame))
    np.testing.assert_allclose(numbers, (INDEX[0, ::-1] - 0.5) / 2)


# ---- rotations mean the same as in copick ----


def test_rotations_agree_with_copick(tmp_path):
    from copick.util import formats as theirs

    picks = make_picks("TS_1", GRID, n=6)
    frame = frame_of("TS_1", GRID)
    table = tmp_path / "a.tbl"
    save(FORMATS["dynamo"].write([(picks, frame)], table, OBJECTS))
    positions, eulers, shifts, scores = theirs.read_dynamo_table(str(table))[:4]
    points, transforms = theirs.dynamo_to_copick_transform(positions, eulers, shifts, 10.0)
    np.testing.assert_allclose(points, picks.positions[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(transforms[:, :3, :3], picks.rotations, atol=1e-5)
    motl = tmp_path / "b.em"
    save(FORMATS["em"].write([(picks, frame)], motl, OBJECTS))
    positions, eulers, scores = theirs.read_em_motivelist(str(motl))
    points, transforms = theirs.em_to_copick_transform(positions, eulers, 10.0)
    np.testing.assert_allclose(points, picks.positions[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(transforms[:, :3, :3], picks.rotations, atol=1e-5)
    np.testing.assert_allclose(scores, picks.scores, atol=1e-6)


@pytest.mark.parametrize("key", ["relion5", "relion4"])
def test_copicks_reader_reads_our_star(tmp_path, key):
    from copick.util import formats as theirs
    from copick.util.relion import relion_rows_to_poses

    picks, frame = make_picks("TS_1", GRID, n=6), frame_of("TS_1", GRID)
    path = tmp_path / "a.star"
    save(FORMATS[key].write([(picks, frame)], path, OBJECTS))
    table, optics = theirs.read_star_particles_with_optics(str(path))
    centre = tuple(frame.centre[::-1])
    points = theirs.relion_coordinates_to_angstrom(table, tomogram_center=centre, optics=optics)
    np.testing.assert_allclose(points, picks.positions[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(relion_rows_to_poses(table)[0], picks.rotations, atol=1e-5)


@pytest.mark.parametrize("key, mode", [("relion5", "centered"), ("relion4", "auto")])
def test_agrees_with_copicks_star_writer(tmp_path, key, mode):
    import starfile
    from copick.util.formats import build_relion_particles_df

    picks, frame = make_picks("TS_1", GRID, n=6), frame_of("TS_1", GRID)
    path = tmp_path / "a.star"
    save(FORMATS[key].write([(picks, frame)], path, OBJECTS))
    ours = starfile.read(path, always_dict=True)["particles"]
    transforms = np.tile(np.eye(4), (6, 1, 1))
    transforms[:, :3, :3] = picks.rotations
    theirs = build_relion_particles_df(
        picks.positions[:, ::-1], transforms, tomo_name="TS_1", tomogram_center=tuple(frame.centre[::-1]),
        tilt_series_pixel_size=2.5, coordinates=mode,
    )  # fmt: skip
    shared = [c for c in ours if c in theirs and c != "rlnTomoName"]
    assert len(shared) == 6
    np.testing.assert_allclose(ours[shared].to_numpy(float), theirs[shared].to_numpy(float), atol=1e-5)


def test_dynamotable_reads_ours(tmp_path):
    import dynamotable

    picks, frame = make_picks("TS_1", GRID, n=6), frame_of("TS_1", GRID)
    path = tmp_path / "a.tbl"
    save(FORMATS["dynamo"].write([(picks, frame)], path, OBJECTS))
    table = dynamotable.read(str(path), str(path.with_suffix(".doc")))
    np.testing.assert_allclose(
        table[["x", "y", "z"]].to_numpy(float), GRID.indices(picks.positions)[:, ::-1], atol=1e-5
    )
    assert set(table["tomo_file"]) == {"TS_1"}


# ---- RELION: what files of others hold ----


def star(path: Path, blocks: dict) -> Path:
    import pandas as pd
    import starfile

    starfile.write({k: pd.DataFrame(v) for k, v in blocks.items()}, path)
    return path


ROW = {"rlnTomoName": ["TS_1"], "rlnCoordinateX": [132.0], "rlnCoordinateY": [48.0], "rlnCoordinateZ": [28.0]}


def test_relion_shifts_and_subtomogram_orientation(tmp_path):
    """The particle lies at coordinate - A_subtomogram @ origin (copick#261: not applied)."""
    more = {"rlnOriginXAngst": [3.0], "rlnOriginYAngst": [0.0], "rlnOriginZAngst": [-2.0]}
    frame = frame_of("TS_1", GRID)
    path = star(tmp_path / "a.star", {"particles": {**ROW, **more}})
    (found,) = FORMATS["relion4"].read(path, reading_of(frame))
    np.testing.assert_allclose(found.positions, [[72.0, 120.0, 327.0]])
    sub = {"rlnTomoSubtomogramRot": [90.0], "rlnTomoSubtomogramTilt": [0.0], "rlnTomoSubtomogramPsi": [0.0]}
    path = star(tmp_path / "b.star", {"particles": {**ROW, **more, **sub}})
    (found,) = FORMATS["relion4"].read(path, reading_of(frame))
    turn = Rotation.from_euler("ZYZ", [90, 0, 0], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(found.positions[0, ::-1], np.array([330, 120, 70]) - turn @ [3, 0, -2])
    np.testing.assert_allclose(found.rotations[0], turn, atol=1e-12)


def test_relion_reads_centred_before_pixels_and_corner_without_centre(tmp_path):
    both = {**ROW, **{f"rlnCenteredCoordinate{a}Angst": [0.0] for a in "XYZ"}}
    path = star(tmp_path / "a.star", {"particles": both})
    frame = frame_of("TS_1", GRID)
    np.testing.assert_allclose(FORMATS["relion5"].read(path, reading_of(frame))[0].positions, [frame.centre])
    found = FORMATS["relion5"].read(path, reading_of(replace(frame, centre=None)))[0]
    np.testing.assert_allclose(found.positions, [[70.0, 120.0, 330.0]])


def test_relion_optics_groups(tmp_path):
    optics = {"rlnOpticsGroup": [1, 2], "rlnTomoTiltSeriesPixelSize": [2.5, 5.0]}
    rows = {k: v * 2 for k, v in ROW.items()} | {"rlnOpticsGroup": [1, 2]}
    frame = replace(frame_of("TS_1", GRID), pixel_size=None)
    path = star(tmp_path / "a.star", {"optics": optics, "particles": rows})
    (found,) = FORMATS["relion4"].read(path, reading_of(frame))
    np.testing.assert_allclose(found.positions, [[70, 120, 330], [140, 240, 660]])
    path = star(
        tmp_path / "b.star", {"optics": optics, "particles": {k: v for k, v in rows.items() if "Group" not in k}}
    )
    with pytest.raises(ReadError, match=r"optics groups are mixed up.*`pixel_size`"):
        FORMATS["relion4"].read(path, reading_of(frame))
    given = FORMATS["relion4"].read(tmp_path / "a.star", reading_of(frame, pixel_size=10.0))[0]
    np.testing.assert_allclose(given.positions[0], [280, 480, 1320])


def test_relion_numeric_and_prefixed_names(tmp_path):
    rows = {k: [v[0], v[0]] for k, v in ROW.items()} | {"rlnTomoName": ["007", "rec_TS_1"], "rlnLCCmax": [0.4, 0.6]}
    frames = [frame_of("007", GRID), frame_of("TS_1", GRID)]
    reading = reading_of(*frames)
    found = FORMATS["relion4"].read(star(tmp_path / "a.star", {"particles": rows}), reading)
    assert [p.run for p in found] == ["007", "TS_1"] and not reading.unmatched
    assert found[1].scores[0] == 0.6


def test_relion_import_layout(tmp_path, monkeypatch):
    """3dem/relion#1287: an index with rlnTomoImportParticleFile, and one file a tomogram without optics."""
    import starfile

    monkeypatch.chdir(tmp_path)
    frames = [frame_of("TS_1", GRID), frame_of("TS_2", GRID, index=2)]
    parts = [(make_picks(f.run, GRID, seed=f.index), f) for f in frames]
    paths = save(get_format("relion5", layout="import").write(parts, Path("coords.star"), OBJECTS))
    index = starfile.read("coords.star", always_dict=True)["coordinate_files"]
    assert index["rlnTomoImportParticleFile"].tolist() == [f"coords_particles/TS_{i}.star" for i in (1, 2)]
    one = starfile.read("coords_particles/TS_1.star", always_dict=True)
    assert list(one) == ["particles"] and "rlnOpticsGroup" not in one["particles"] and len(paths) == 3
    found = FORMATS["relion5"].read(Path("coords.star"), reading_of(*frames))
    np.testing.assert_allclose(found[1].positions, parts[1][0].positions, atol=1e-3)


def test_names_of_volumes_become_names_of_tilt_series(tmp_path):
    """RELION calls the volume of TS_1 rec_TS_1.mrc, Warp TS_1_10.00Apx.mrc; runs may be called after either."""
    for key, run, name in (("relion5", "rec_TS_1", "TS_1"), ("warp", "TS_1_10.00Apx", "TS_1.tomostar")):
        path = tmp_path / f"{key}.star"
        save(FORMATS[key].write([(make_picks(run, GRID), frame_of(run, GRID))], path, OBJECTS))
        words = path.read_text().split()
        assert name in words and run not in words
        assert FORMATS[key].read(path, reading_of(frame_of(run, GRID)))[0].run == run
    both = [(make_picks(run, GRID), frame_of(run, GRID, index=i)) for i, run in enumerate(("rec_TS_1", "TS_1"))]
    save(FORMATS["relion4"].write(both, tmp_path / "both.star", OBJECTS))
    reading = reading_of(*(frame for _, frame in both))
    assert [p.run for p in FORMATS["relion4"].read(tmp_path / "both.star", reading)] == ["rec_TS_1", "TS_1"]


def test_tomograms_star(tmp_path):
    head = {"rlnTomoName": ["TS_1"], "rlnTomoTiltSeriesPixelSize": [2.5], "rlnVoltage": [300.0]}
    sizes = {"rlnTomoSizeX": [245], "rlnTomoSizeY": [160], "rlnTomoSizeZ": [84]}
    row = read_tomograms_star(star(tmp_path / "t.star", {"global": {**head, **sizes}}))["TS_1"]
    assert row.centre == (105.0, 200.0, 306.25) and row.optics == {"rlnVoltage": 300.0} and row.pixel_size == 2.5
    with pytest.raises(ReadError, match="no column rlnTomoSizeX, rlnTomoSizeY, rlnTomoSizeZ"):
        read_tomograms_star(star(tmp_path / "u.star", {"global": head}))


def test_warp_reads_pytoms_table(tmp_path):
    rows = {"rlnCoordinateX": [33, 1], "rlnCoordinateY": [12, 1], "rlnCoordinateZ": [7, 1], "rlnLCCmax": [0.4, 0.2],
            "rlnDetectorPixelSize": [10.0, 10.0], "rlnMicrographName": ["TS_1_10.00Apx.mrc"] * 2}  # fmt: skip
    path = star(tmp_path / "a.star", {"": rows})
    assert detect(path) == "warp"
    (found,) = FORMATS["warp"].read(path, reading_of(frame_of("TS_1", Grid((42, 80, 122), 5.0))))
    np.testing.assert_allclose(found.positions[0], [70, 120, 330])
    rows |= {f"rlnCoordinate{a}": [0.2, 0.4] for a in "XYZ"}
    with heard() as said:
        (found,) = FORMATS["warp"].read(star(tmp_path / "b.star", {"": rows}), reading_of(frame_of("TS_1", GRID)))
    np.testing.assert_allclose(found.positions[0], 0.2 * np.array(GRID.shape) * 10)
    assert any("parts of the tomogram's size" in line for line in said)


# ---- EMAN2, .coords, IMOD, motive lists and tables of others ----


def test_eman2_boxes(tmp_path):
    """e2spt_boxer.py draws a box at b / apix * apix_unbin + n // 2, which at odd sizes is not the middle."""
    import json

    box = (INDEX[0, ::-1] - np.array(GRID.shape)[::-1] // 2) * 10.0 / 2.5
    data = {
        "apix_unbin": 2.5,
        "boxes_3d": [[*box, "manual", 0.0, 3]],
        "class_list": {"3": {"name": "Ribosome", "boxsize": 64}},
    }
    path = tmp_path / "TS_1_info.json"
    path.write_text(json.dumps(data))
    (found,) = FORMATS["eman2"].read(path, reading_of(frame_of("TS_1", GRID)))
    np.testing.assert_allclose(GRID.indices(found.positions), INDEX, atol=1e-9)
    assert found.names.tolist() == ["ribosome"]
    del data["apix_unbin"]
    path.write_text(json.dumps(data))
    with pytest.raises(ReadError, match="no apix_unbin"):
        FORMATS["eman2"].read(path, reading_of(frame_of("TS_1", GRID)))
    with pytest.raises(OutputError, match="read, not written"):
        FORMATS["eman2"].write([], path, OBJECTS)


def test_motive_list_of_copick(tmp_path):
    from copick.util.formats import write_em_motivelist

    path = tmp_path / "TS_1.em"
    write_em_motivelist(
        str(path), INDEX[:, ::-1].astype(float), np.zeros((1, 3)), np.array([0.5]), shifts=np.ones((1, 3))
    )
    (found,) = FORMATS["em"].read(path, reading_of(frame_of("TS_1", GRID), name="ribosome"))
    np.testing.assert_allclose(GRID.indices(found.positions), INDEX + 1)
    assert found.scores[0] == 0.5 and found.rotations is None


def test_dynamo_shifts_complex_numbers_and_other_voxels(tmp_path):
    row = ["0"] * 36
    row[3], row[19], row[23:26], row[27], row[35] = "2", "9", ["33", "12", "7"], "0.1+0.2i", "5"
    path = tmp_path / "t.tbl"
    path.write_text(" ".join(row) + "\n")
    (tmp_path / "indices_column_20.doc").write_text("9 some/folder/TS_1_5.00Apx.rec\n")
    (found,) = FORMATS["dynamo"].read(path, reading_of(frame_of("TS_1", GRID), name="ribosome"))
    np.testing.assert_allclose(found.positions, [[35.0, 60.0, 175.0]])


def test_numbered_tomograms_need_a_list(tmp_path):
    frames = [frame_of("TS_1", GRID), frame_of("TS_2", GRID, index=2)]
    path = tmp_path / "all.tbl"
    save(FORMATS["dynamo"].write([(make_picks(f.run, GRID), f) for f in frames], path, OBJECTS))
    path.with_suffix(".doc").unlink()
    with pytest.raises(SelectionError, match="`index_map=FILE`"):
        FORMATS["dynamo"].read(path, reading_of(*frames))
    listed = tmp_path / "mine.csv"
    listed.write_text("1,TS_2\n2,TS_1\n")
    found = FORMATS["dynamo"].read(path, reading_of(*frames, index_map=listed))
    assert [p.run for p in found] == ["TS_2", "TS_1"]
    listed.write_text("1 TS_2\n1 TS_1\n")
    with pytest.raises(ReadError, match="line 2: tomogram 1 is there twice"):
        FORMATS["dynamo"].read(path, reading_of(*frames, index_map=listed))


def test_class_numbers_that_nobody_knows(tmp_path):
    path = written(tmp_path, "dynamo")
    with pytest.raises(SelectionError, match="`name=OBJECT`"):
        FORMATS["dynamo"].read(path, reading_of(frame_of("TS_1", GRID), labels={7: "a", 8: "b"}))


NAMELESS = "data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n1 2 3\n\n"


@pytest.mark.parametrize(
    "key, name, content, message",
    [
        ("relion5", "a.star", "data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\n", "no block with coordinates"),
        ("relion5", "a.star", "P6 not a star", "no 'data_' block"),
        ("relion4", "a.star", NAMELESS,
         "no column rlnTomoName"),
        ("dynamo", "a.tbl", "1 2 3\n", "3 columns; expected 26"),
        ("imod", "TS_1.mod", "not a model", "expected an IMOD model"),
        ("imod", "TS_1.mod", "IMODV1.2", "cannot be read as an IMOD model"),
        ("imod-text", "TS_1.txt", "1 2\n", "has 2 columns"),
        ("em", "TS_1.em", "short", "cannot be read as EM"),
        ("coords", "TS_1.coords", "1 2 3 4\n", "has 4 columns"),
        ("coords", "TS_1.coords", "1 2 nan\n", "line 1: column 3 is 'nan'; expected a finite number"),
        ("ndjson", "TS_1.ndjson", "{\"location\": {}}\n", "a line is no point"),
        ("ndjson", "TS_1.ndjson", "[1]\n", "line 1 is no JSON object"),
        ("csv", "a.csv", "object,x,y\n", "no column z"),
        ("csv", "a.csv", "run,object,x,y,z\nTS_1,ribosome,1,2\n", "line 2: 4 values, none for 'z'"),
        ("eman2", "TS_1.json", "{}", "no EMAN2 boxes"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path, key, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ReadError, match=message) as caught:
        FORMATS[key].read(path, reading_of(frame_of("TS_1", GRID)))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_what_nobody_says(tmp_path):
    picks = make_picks("TS_1", GRID)
    blank = RunFrame("TS_1")
    for key, option in (("relion5", "`tomograms_star`"), ("relion4", "`tilt_series_pixel_size`"),
                        ("coords", "`voxel_spacing`"), ("warp", "`voxel_spacing`")):  # fmt: skip
        with pytest.raises(SelectionError, match=option):
            FORMATS[key].write([(picks, blank)], tmp_path / "a", OBJECTS)
    path = star(tmp_path / "a.star", {"particles": ROW})
    with pytest.raises(ReadError, match="`pixel_size`"):
        FORMATS["relion4"].read(path, reading_of(blank))
    with pytest.raises(SelectionError, match="`tomo_type`: a@5, a@10"):
        FORMATS["coords"].write([(picks, RunFrame("TS_1", choices=("a@5", "a@10")))], tmp_path / "a", OBJECTS)


def test_save_is_all_or_nothing(tmp_path):
    (tmp_path / "b").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        save({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert not (tmp_path / "a").exists() and (tmp_path / "b").read_text() == "old"
    save({tmp_path / "a": b"1", tmp_path / "b": b"2"}, overwrite=True)
    assert (tmp_path / "b").read_text() == "2"


# ---- names ----


@pytest.mark.parametrize(
    "name, run",
    [("TS_1", "TS_1"), ("rec_TS_1.mrc", "TS_1"), ("TS_1_10.00Apx.mrc", "TS_1"), ("x/TS_10.tomostar", "TS_10"),
     ("ts_1.mrc.tomostar", "TS_1"), ("TS_1_rec.mrc", "TS_1"), ("TS_100", None), ("tomo_3", None)],
)  # fmt: skip
def test_run_names(name, run):
    assert RunNames(["TS_1", "TS_10", "3"]).find(name) == run


def test_run_names_that_match_two():
    names = RunNames(["TS_1", "rec_TS_1"])
    assert names.find("rec_TS_1") == "rec_TS_1"
    assert names.find("TS_1.mrc") == "TS_1"  # one step to the one, two to the other
    names = RunNames(["TS_1_10.00Apx", "rec_TS_1"])
    with pytest.raises(SelectionError, match=r"any of the runs TS_1_10\.00Apx, rec_TS_1"):
        names.find("TS_1")


def test_names_with_objects_and_aliases():
    names = RunNames(["TS_1"], ["ribosome"])
    assert names.find_with_object("TS_1_ribosome") == ("TS_1", "ribosome")
    assert names.find_with_object("rec_TS_1") == ("TS_1", None) and names.find_with_object("TS_1_x") == (None, None)
    assert object_alias("ferritin-complex", ["apo-ferritin"]) == "apo-ferritin"
    assert object_alias("ribosome", ["cytosolic-ribosome"]) == "cytosolic-ribosome"
    assert object_alias("Virus like capsid", ["virus-like-particle"]) == "virus-like-particle"
    assert object_alias("membrane", ["ribosome"]) == "membrane"
    assert tomo_type_alias("denoised", ["wbp-denoised-denoiset-ctfdeconv"]) == "wbp-denoised-denoiset-ctfdeconv"
    assert plain_name("/a/b/rec_Position_1_7.84Apx.mrc") == "Position_1"


def test_copicks_text_is_made_in_pieces(monkeypatch):
    monkeypatch.setattr(picksjson, "_AT_ONCE", 3)
    rng = np.random.default_rng(0)
    turned = Rotation.random(7, random_state=0).as_matrix()
    for rotations in (None, turned):
        picks = Picks("A", rng.uniform(0, 100, (7, 3)), np.array(["ball"] * 7), rng.random(7), rotations)
        pieces = list(picksjson.PicksText(picks, "ball", "me", "0", 10.0))
        assert len(pieces) == 6
        back = picksjson.parse_picks(json.loads("".join(pieces)), "A", "it")
        assert (back.name, back.user_id, back.session_id, back.voxel_spacing) == ("ball", "me", "0", 10.0)
        np.testing.assert_array_equal(back.picks.positions, picks.positions)
        np.testing.assert_array_equal(back.picks.scores, picks.scores)
        assert (back.picks.rotations is None) == (rotations is None)
    none = json.loads("".join(picksjson.PicksText(Picks.empty("A"), "ball", "me", "0", None)))
    assert none["points"] == [] and none["run_name"] == "A"


def test_star_files_say_nothing_of_when_they_were_written():
    import pandas as pd

    text = star_bytes({"particles": pd.DataFrame({"rlnCoordinateX": [1.0, 2.0]})}).decode()
    assert text.split() == ["data_particles", "loop_", "_rlnCoordinateX", "#1", "1.000000", "2.000000"]
