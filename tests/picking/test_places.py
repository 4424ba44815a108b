"""Picks in masks, out of them, away from borders, and facing surfaces; tiles that cannot hold any are not computed."""

import json
import os
import re
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import trimesh
from click.testing import CliRunner

import small
import tomopick as tp
from telling import heard
from tomopick.cli import main
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.types import Grid, Picks
from tomopick.data import MemoryProject, open_project, read_picks_csv, write_mrc
from tomopick.data.masks import Mask
from tomopick.data.surfaces import MeshSurface, VoxelSurface
from tomopick.picking.fleet import Job
from tomopick.picking.given import masks_mark, objection, require_masks, surface_of
from tomopick.picking.load import load_model
from tomopick.picking.masking import RunPlaces, label_of, labels_of, places_of_run
from tomopick.picking.options import PickOptions
from tomopick.picking.picker import Picker
from tomopick.picking.places import Places
from tomopick.picking.placing import placed

SHAPE = (24, 128, 128)
GRID = Grid(SHAPE, small.SPACING)


def half(spacing=10.0, shape=SHAPE, origin=(0.0, 0.0, 0.0), stop=400):
    """What lies below a y."""
    grid = Grid(shape, spacing, origin)
    y = grid.origin[1] + spacing * np.arange(shape[1])
    return Mask(np.broadcast_to((y < stop)[None, :, None], shape).copy(), grid)


def project(**more):
    made = MemoryProject([small.BALL])
    made.add(*small.tomogram("A", 5, SHAPE, 40, **more))
    return made


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def picked(places, tmp_path, mask=None):
    """Picks of the small model, and how many tiles its network saw."""
    data = project()
    model = load_model(small.trained())
    options = PickOptions(
        device="cpu", engine="torch", overrides=("tiling.shape=24,32,32", "tiling.overlap=8"), places=places
    )
    picker = Picker(model, options)
    seen = []
    engine = picker.predictors[0].engine

    def counting(values):
        seen.append(values.shape)
        return engine(values)

    picker.predictors = [replace(picker.predictors[0], engine=counting)]
    prepared = placed(picker, picker.prepare(data.tomogram("A")), data, data.tomogram("A"))
    return picker.pick(prepared)[0], len(seen)


@pytest.fixture
def mask_file(tmp_path):
    mask = half()
    write_mrc(tmp_path / "A.mrc", mask.values.astype(np.float32), mask.grid.voxel_spacing)
    return tmp_path / "A.mrc"


def rows(picks):
    return sorted(map(tuple, np.round(np.column_stack([picks.positions, picks.scores]), 3).tolist()))


def test_a_mask_keeps_the_picks_in_it_and_saves_tiles(tmp_path, mask_file):
    everything, tiles = picked(Places(), tmp_path)
    inside, some = picked(Places(inside=(str(mask_file),)), tmp_path)
    low = half().contains(everything.positions)
    assert 3 < low.sum() < len(everything) - 3
    # Nothing of what is kept changes by what is left out.
    assert rows(inside) == rows(everything.select(low))
    assert some <= 0.6 * tiles
    assert (inside.columns["distance_a"] < 0).all()
    np.testing.assert_allclose(inside.columns["distance_a"], inside.positions[:, 1] - 395.0, atol=1e-6)
    more = half(stop=700)
    write_mrc(mask_file, more.values.astype(np.float32), 10.0)
    outside, others = picked(Places(outside=(str(mask_file),)), tmp_path)
    assert rows(outside) == rows(everything.select(~more.contains(everything.positions))) and others < tiles
    assert (outside.columns["distance_a"] > 0).all()


def test_a_mask_that_was_replaced_is_another(tmp_path):
    """Of volumes, meshes and segmentations: what was picked in the old one is not finished."""
    config = small.copick(tmp_path / "in", ("A",))
    stored = open_project(config).root.get_run("A").new_segmentation(10.0, "ball", "1", user_id="me")
    shape = open_project(config).grid("A").shape
    volume, mesh = tmp_path / "m" / "A.mrc", tmp_path / "n" / "A.ply"
    marks = []
    for stop in (10, 20):
        values = np.zeros(shape, dtype=np.uint8)
        values[:, :stop] = 1
        stored.from_numpy(values)
        write_mrc(volume, values.astype(np.float32), 10.0)
        mesh.parent.mkdir(exist_ok=True)
        trimesh.creation.box((stop, stop, stop)).export(mesh)
        data = open_project(config)
        wheres = [str(p) for p in (volume, volume.parent, mesh, mesh.parent)] + ["ball:me/1"]
        marks.append([masks_mark(Places(outside=(w,)), data, "A") for w in wheres])
        assert marks[-1] == [masks_mark(Places(orient_to=w), data, "A") for w in wheres]
    assert all(a and a != b for a, b in zip(*marks))
    assert masks_mark(Places(border=3.0), data, "A") == ""


def test_within_and_beyond_move_the_surface(tmp_path, mask_file):
    everything, tiles = picked(Places(), tmp_path)
    away = everything.positions[:, 1] - 395.0
    near, some = picked(Places(inside=(str(mask_file),), within=120.0), tmp_path)
    assert rows(near) == rows(everything.select(away <= 120)) and some < tiles
    deep, _ = picked(Places(inside=(str(mask_file),), within=-80.0), tmp_path)
    assert rows(deep) == rows(everything.select(away <= -80))
    far, _ = picked(Places(outside=(str(mask_file),), beyond=90.0), tmp_path)
    assert rows(far) == rows(everything.select(away >= 90))


def test_border_and_range_of_z(tmp_path):
    everything, tiles = picked(Places(), tmp_path)
    faces = np.array(SHAPE) * 10.0
    at = everything.positions + 5.0
    inner = ((at >= 200 * np.array([0, 1, 1])) & (at <= faces - 200 * np.array([0, 1, 1]))).all(axis=1)
    away, _ = picked(Places(border=60.0), tmp_path)
    assert rows(away) == rows(everything.select(((at >= 60) & (at <= faces - 60)).all(axis=1)))
    assert inner.any()
    for text in ("8:14", "75:135A"):
        some, _ = picked(Places(z_range=text), tmp_path)
        z = everything.positions[:, 0]
        assert rows(some) == rows(everything.select((z >= 75) & (z < 135)))
    none, used = picked(Places(z_range="0:400A", border=2000.0), tmp_path)
    assert len(none) == 0 and used == 0 < tiles


@pytest.mark.parametrize(
    "mask",
    [half(), half(20.0, (12, 64, 64), (5, 5, 5)), half(50.0, (5, 26, 26)), half(7.0, (20, 60, 200), (30, 10, -40))],
    ids=["same", "binned", "coarse", "another box"],
)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("reach", [0.0, 70.0, -70.0])
def test_no_tile_is_left_out_that_could_hold_a_pick(mask, inside, reach):
    places = Places(inside=("m",), within=reach) if inside else Places(outside=("m",), beyond=reach)
    made = RunPlaces(places, GRID, {"m": VoxelSurface(mask)})
    rng = np.random.default_rng(0)
    at = rng.uniform(0, np.array(SHAPE) * 10 - 10, (4000, 3))
    kept = made.keep(Picks("A", at, ["ball"] * len(at)))
    assert all(made.wanted(p, p) for p in kept.positions)
    if inside or mask.grid.shape in (SHAPE, (12, 64, 64)):  # a mask that ends within a cell says little about it
        assert not all(made.wanted(p, p) for p in at)


def test_several_masks_and_one_of_another_run():
    left, none = VoxelSurface(half()), None
    at = Picks("A", np.array([[100.0, 100.0, 100.0], [100.0, 900.0, 100.0]]), ["ball"] * 2)
    either = RunPlaces(Places(inside=("l", "n")), GRID, {"l": left, "n": none}).keep(at)
    assert len(either) == 1 and np.isnan(either.columns["distance_n"]).all()
    assert len(RunPlaces(Places(outside=("l", "n")), GRID, {"l": left, "n": none}).keep(at)) == 1
    assert len(RunPlaces(Places(inside=("n",)), GRID, {"n": none}).keep(at)) == 0


def test_clean_picks_may_lie_beside_the_sample_by_what_its_voxels_leave_open():
    values = np.zeros(SHAPE, dtype=bool)
    values[:, :, :10] = True  # to x = 95
    sample, gold = VoxelSurface(Mask(values, GRID)), VoxelSurface(Mask(np.zeros(SHAPE, dtype=bool), GRID))
    made = RunPlaces(Places(clean="m"), GRID, {"sample": sample, "gold": gold}, clean=("sample", "gold"))
    at = np.array([[50.0, 50.0, x] for x in (40.0, 94.0, 99.0, 101.0, 150.0)])
    assert made.keep(Picks("A", at, ["ball"] * 5)).positions[:, 2].tolist() == [40.0, 94.0, 99.0]


def test_what_is_asked_for_must_make_sense():
    with pytest.raises(SelectionError, match="`within=50`: from what"):
        Places(within=50.0)
    with pytest.raises(SelectionError, match="is no span"):
        Places(z_range="all")
    for text in ("-5:5", "5:-5", "9:3"):
        with pytest.raises(SelectionError, match=f"`z_range={text}`: "):
            Places(z_range=text)
    assert Places(z_range="-50:50A") and Places(z_range=":40")  # the first section reaches half a voxel below 0
    with pytest.raises(SelectionError, match="`inside=nowhere`: there is no such file"):
        places_of_run(Places(inside=("nowhere",)), project(), "A", GRID, 0.0)
    assert [label_of(t) for t in ("a/Mem_1.mrc.gz", "membrane:me/1@10", "x/ÅÄ.ply")] == ["mem-1", "membrane", "mask"]


def test_every_mask_has_a_column_of_its_own():
    for wheres, wanted in (
        (["m/half.mrc", "gold.mrc"], ["half", "gold"]),
        (["m/half.mrc", "m/b/half.mrc"], ["m-half", "b-half"]),
        (["a/m/half.mrc", "b/m/half.mrc"], ["a-m-half", "b-m-half"]),
        (["half.mrc", "b/half.mrc.gz"], ["half", "b-half"]),
        (["mem:me/1", "mem:me/2", "mem:me/2@10"], ["mem-me-1", "mem-me-2", "mem-me-2-10"]),
        (["x/sample", "sample"], ["x-sample", "sample"]),
        (["Ä.mrc", "Ö.mrc", "mask-2"], ["mask", "mask-2", "mask-2-2"]),
        (["b/half.mrc", "half.mrc", "b-half.mrc"], ["half", "half-2", "b-half"]),
    ):
        found = labels_of(wheres)
        assert [*found] == wheres and len({*found.values()}) == len(wheres)
        assert [*found.values()] == wanted, wheres


def test_a_mask_called_sample_is_not_that_of_clean(tmp_path):
    write_mrc(tmp_path / "sample.mrc", half(stop=300).values.astype(np.float32), 10.0)
    places = Places(inside=(str(tmp_path / "sample.mrc"),), clean="surroundings")
    picks = Picks("A", np.array([[100.0, 200, 300]]), np.array(["ball"]))
    kept = places_of_run(places, project(), "A", GRID, 0.0, {"sample": half()}).keep(picks)
    away = {name: float(column[0]) for name, column in kept.columns.items()}
    assert away.pop("distance_sample") == pytest.approx(-195) and [*away.values()] == pytest.approx([-95])


@pytest.mark.parametrize("option", ["--inside", "--outside", "--orient-to"])
def test_a_mask_that_would_decide_nothing_is_refused(tmp_path, option):
    tomogram = project().tomogram("A")
    for name in ("in", "masks", "out"):
        (tmp_path / name).mkdir()
    for name in ("A", "B"):
        write_mrc(tmp_path / "in" / f"{name}.mrc", tomogram.values, 10.0)
    write_mrc(tmp_path / "one.mrc", half().values.astype(np.float32), 10.0)
    (tmp_path / "notes.txt").write_text("1 2 3")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (
        ("masks", "is of none of the runs A, B"), ("one.mrc", "is of none of the runs A, B"),
        ("gone.mrc", "no such file"),
        ("notes.txt", "is no volume by its name, and no folder"), ("pipe", "is no volume by its name, and no folder"),
    ):  # fmt: skip
        done = run("pick", small.trained(), tmp_path / "in", "--out", tmp_path / "out", option, tmp_path / name)
        assert done.exit_code == 2 and why in done.stderr and not list((tmp_path / "out").iterdir()), done.output


def test_a_mask_of_any_name_is_of_the_one_run_that_is_picked(tmp_path):
    data = MemoryProject([small.BALL])
    for name in "AB":
        data.add(*small.tomogram(name, 5, SHAPE, 40))
    write_mrc(tmp_path / "gold.mrc", half().values.astype(np.float32), 10.0)
    places = Places(outside=(str(tmp_path / "gold.mrc"),))
    require_masks(places, data, ["A"])
    found = places_of_run(places, data, "A", GRID, 0.0).surfaces
    assert (found[places.outside[0]].mask.values == half().values).all() and masks_mark(places, data, "A")
    with pytest.raises(SelectionError, match=r"is of none of the runs A, B; .*rename it to A\.mrc, or give a folder"):
        require_masks(places, data, ["A", "B"])
    (tmp_path / "gold.mrc").rename(tmp_path / "B.mrc")
    with pytest.raises(SelectionError, match="is of none of the runs A; "):
        require_masks(Places(outside=(str(tmp_path / "B.mrc"),)), data, ["A"])
    (tmp_path / "B.mrc").rename(tmp_path / "gold.mrc")
    with pytest.raises(SelectionError, match="is of none of the runs A, B; "):
        tp.pick(small.trained(), data, tmp_path / "out", places=places, device="cpu")
    assert not (tmp_path / "out").exists()


def test_what_leaves_nothing_is_said(caplog):
    empty = Mask(np.zeros(SHAPE, dtype=bool), GRID)
    assert objection(Places(border=50.0), GRID) is None and np.isinf(VoxelSurface(empty).distances([0, 0, 0]))
    for places, told in (
        (Places(border=200.0), r"^run A: `border=200`: leaves nothing of z, y, x = 240, 1280, 1280 Å; [^`]*$"),
        (Places(z_range="100:140"), r"^run A: `z_range=100:140`: 100:140 reaches .* in Å\? write 100:140A: [^`]*$"),
        (Places(z_range="200:1400"), r"^run A: `z_range=200:1400`: .* in Å\? write 200:1400A: [^`]*$"),
        (Places(border=50.0, z_range="0:20A"), "^run A: `border=50` and `z_range=0:20A`: leaves nothing"),
        (Places(border=200.0, z_range="0:20A"), "^run A: `border=200`: leaves nothing"),
    ):
        caplog.clear()
        places_of_run(places, project(), "A", GRID, 0.0)
        assert re.search(told, caplog.messages[0]), caplog.text
    for name in ("within", "beyond", "border"):
        with pytest.raises(SelectionError, match=f"`{name}=nan`: expected a finite number"):
            Places(inside=("a",), outside=("b",), **{name: np.nan})


def test_what_is_wrong_for_every_run_is_refused_before_out_is_begun(tmp_path):
    place = small.folder(tmp_path / "in", ("A", "B"), picks=False)
    grid = open_project(place).grid("A")
    write_mrc(tmp_path / "masks" / "A.mrc", np.ones((4, 8, 6), np.float32), 80.0)
    write_mrc(tmp_path / "masks" / "B.mrc", np.ones((4, 8, 6), np.float32), 80.0)
    for name in "AB":
        with mrcfile.open(tmp_path / "masks" / f"{name}.mrc", "r+") as file:
            file.voxel_size = (80.0, 80.0, 20.0)
    hole = trimesh.creation.icosphere(radius=50)
    hole.apply_translation(np.array(grid.shape[::-1]) * 5.0)
    hole.update_faces(np.arange(len(hole.faces)) != 5)
    hole.export(tmp_path / "hole.ply")
    call = ("pick", small.trained(), place, "--device", "cpu", "--out", tmp_path / "out")
    masks, hole = tmp_path / "masks", tmp_path / "hole.ply"
    for options, told in (
        (("--z-range", "400:500"), "none of 2 runs can be picked: .*: run A: --z-range 400:500: 400:500 reaches"),
        (("--runs", "B", "--border", "4000"), "error: .*: run B: --border 4000: leaves nothing of z, y, x = "),
        (("--inside", masks), "none of 2 runs can be picked: mask .*A.mrc: .* are not cubes; make them cubes$"),
        (("--inside", hole), "none of 2 runs .*: --inside .*hole.ply: an open mesh, .* with --within$"),
        (("--outside", hole), "none of 2 runs .*: --outside .*hole.ply: an open mesh, .* with --beyond$"),
    ):
        done = run(*call, *options)
        assert done.exit_code == 2 and re.search(told, done.stderr.strip()), done.output
        assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
    near = run(*call, "--inside", hole, "--within", 40, "--orient-to", hole)
    assert near.exit_code == 0, near.output
    # Where some can be picked, the others are failures of their own.
    write_mrc(masks / "B.mrc", np.ones(grid.shape, np.float32), grid.voxel_spacing)
    some = run(*call, "--overwrite", "--inside", masks)
    assert some.exit_code == 1 and "1 of 2 runs failed" in some.stderr
    assert (tmp_path / "out" / "B.csv").is_file()


def test_segmentations_of_which_several_fit_are_refused_before_out_is_begun(tmp_path):
    config = small.copick(tmp_path / "in", ("A",))
    data = open_project(config)
    for user in ("me", "you"):
        made = data.root.get_run("A").new_segmentation(10.0, "ball", "1", user_id=user)
        made.from_numpy(np.ones(data.grid("A").shape, dtype=np.uint8))
    call = ("pick", small.trained(), config, "--device", "cpu", "--out", tmp_path / "out")
    done = run(*call, "--inside", "ball")
    assert done.exit_code == 2 and "several segmentations 'ball': ball:me/1" in done.stderr
    typo = run(*call, "--inside", "nofile.mrc")
    assert typo.exit_code == 2 and "--inside nofile.mrc: there is no such file or folder" in typo.stderr
    assert not (tmp_path / "out").exists()
    whole = run(*call, "--inside", "ball:me", "--session-id", "7")  # so much as tells it from the others
    assert whole.exit_code == 0, whole.output


def test_meshes_lie_in_the_frame_of_the_tomograms_header(tmp_path):
    place = small.folder(tmp_path / "in", ("A",), picks=False)
    ball = trimesh.creation.icosphere(subdivisions=4, radius=40.0)
    ball.apply_translation((150.0, 250.0, 100.0))
    ball.export(tmp_path / "at_0.ply")
    with mrcfile.open(place / "A.mrc", "r+") as file:
        file.header.origin = (3000.0, -500.0, 70.0)
    ball.apply_translation((3000.0, -500.0, 70.0))
    ball.export(tmp_path / "ball.ply")
    data = open_project(place)
    grid, at = data.grid("A"), np.array([[100.0, 250.0, 150.0], [100.0, 250.0, 220.0]])
    np.testing.assert_allclose(surface_of(data, "A", str(tmp_path / "ball.ply"), grid).distances(at), [-40, 30], atol=1)
    with pytest.raises(ReadError, match=r"at_0\.ply: lies at z, y, x = .* Å, beside the tomogram at -5 to "):
        surface_of(data, "A", str(tmp_path / "at_0.ply"), grid)
    nm = trimesh.creation.icosphere(radius=4.0)
    nm.apply_translation((3015.0, -475.0, 80.0))
    nm.export(tmp_path / "nm.ply")
    with heard() as told:
        surface_of(data, "A", str(tmp_path / "ball.ply"), grid)
        surface_of(data, "A", str(tmp_path / "nm.ply"), grid)
    assert len(told) == 1 and "nm.ply: lies at" in told[0] and "is it in nm or voxels? expected Å" in told[0]


def test_meshes_of_a_folder_are_matched_as_volumes_are(tmp_path):
    place = small.folder(tmp_path / "in", ("TS_1", "TS_2"), picks=False)
    data, folder = open_project(place), tmp_path / "masks"
    grid = data.grid("TS_1")
    folder.mkdir()
    ball = trimesh.creation.icosphere(radius=60.0)
    ball.apply_translation((150.0, 250.0, 100.0))
    ball.export(folder / "rec_TS_1.ply")
    whole = np.ones(grid.shape, np.float32)
    write_mrc(folder / "TS_2.mrc", whole, grid.voxel_spacing)
    places = Places(inside=(str(folder),))
    require_masks(places, data, ["TS_1"])
    require_masks(places, data, ["TS_2"])
    assert isinstance(surface_of(data, "TS_1", str(folder), grid), MeshSurface)
    assert isinstance(surface_of(data, "TS_2", str(folder), grid), VoxelSurface)
    for name in ("TS_1.ply", "TS_1.stl", "TS_2.ply"):
        ball.export(folder / name)
    write_mrc(tmp_path / "more" / "TS_1.mrc", whole, grid.voxel_spacing)
    write_mrc(tmp_path / "more" / "TS_1.rec", whole, grid.voxel_spacing)
    for name, where, two in (
        ("TS_1", folder, "TS_1.ply, TS_1.stl"),
        ("TS_2", folder, "TS_2.mrc, TS_2.ply"),
        ("TS_1", tmp_path / "more", "TS_1.mrc, TS_1.rec"),
    ):
        with pytest.raises(ReadError, match=rf"has several masks of run '{name}', {two}; expected one, so keep one"):
            surface_of(data, name, str(where), grid)


def test_a_batch_can_be_told_to_other_processes():
    places = Places(inside=("a", "b"), within=3.0, border=5.0)
    job = Job(("m",), "p", {}, PickOptions(places=places), "out")
    assert Job.parse(job.text()).options.places == places


def test_pick_verb_with_a_segmentation_of_a_copick_project(tmp_path):
    config = small.copick(tmp_path / "in", ("A",))
    data = open_project(config)
    shape = data.grid("A").shape
    values = np.zeros(shape, dtype=np.uint8)
    values[:, : shape[1] // 2] = 1
    data.root.get_run("A").new_segmentation(10.0, "ball", "1", user_id="me").from_numpy(values)
    model = small.trained()
    call = ("pick", model, config, "--out", tmp_path / "r", "--device", "cpu", "--session-id", "1")
    done = run(*call, "--inside", "ball:me/1@10", "--orient-to", "ball:me/1")
    assert done.exit_code == 0, done.output
    found = open_project(config).picks("A", "*:tomopick/1")
    edge = (shape[1] // 2 - 0.5) * 10
    assert len(found) and (found.positions[:, 1] < edge).all()
    np.testing.assert_allclose(found.columns["distance_ball"], found.positions[:, 1] - edge, atol=1e-3)
    # The particle's z goes along y, out of the mask, in x, y, z.
    np.testing.assert_allclose(found.rotations[:, :, 2], np.tile([0, 1.0, 0], (len(found), 1)), atol=1e-6)
    assert "finished before" in run(*call, "--inside", "ball:me/1@10", "--orient-to", "ball:me/1").output
    other = run(*call, "--outside", "ball:me/1")
    assert other.exit_code == 0 and "with another model, input or settings are replaced" in other.stderr
    missing = run(*call, "--inside", "balls:me/1")
    assert missing.exit_code == 2 and "no segmentation 'balls:me/1'" in missing.stderr
    export = run("export", config, tmp_path / "p.star", "--to", "relion5", "--picks", "*:tomopick/1")
    assert export.exit_code == 0


def test_distances_and_rotations_stay_in_tables_and_go_to_relion(tmp_path):
    place = small.folder(tmp_path / "in", ("A", "B"), picks=False)
    mask = half(shape=(24, 64, 48)).values
    (tmp_path / "masks").mkdir()
    write_mrc(tmp_path / "masks" / "A.mrc", mask.astype(np.float32), 10.0)
    call = (
        "pick",
        small.trained(),
        place,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--inside",
        tmp_path / "masks",
    )
    done = run(*call, "--orient-to", tmp_path / "masks")
    assert done.exit_code == 0, done.output
    found = read_picks_csv(tmp_path / "out" / "A.csv")[""]
    np.testing.assert_allclose(found.columns["distance_masks"], found.positions[:, 1] - 395.0, atol=2e-3)
    np.testing.assert_allclose(found.rotations[:, :, 2], np.tile([0, 1.0, 0], (len(found), 1)), atol=1e-5)
    assert len(read_picks_csv(tmp_path / "out" / "B.csv")[""]) == 0  # no mask of it: nothing is inside
    done = run("export", tmp_path / "out", tmp_path / "p.star", "--to", "relion5", "--tomograms", place)
    assert done.exit_code == 0, done.output
    import starfile

    table = starfile.read(tmp_path / "p.star", always_dict=True)["particles"]
    np.testing.assert_allclose(table["rlnAngleTiltPrior"], 90.0, atol=1e-3)
    np.testing.assert_allclose(table["rlnAnglePsiPrior"], table["rlnAnglePsi"])
    with mrcfile.open(tmp_path / "masks" / "A.mrc") as file:
        assert file.data.max() == 1
    record = next((tmp_path / "out" / "records").glob("*.jsonl")).read_text().splitlines()
    assert any("orient_to" in json.loads(line).get("settings", {}).get("places", {}) for line in record)
