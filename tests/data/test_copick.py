"""copick projects on disk, through the copick library."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopick.core.errors import OutputError, ReadError, SelectionError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import CopickProject, Project, create_copick_project, open_project, write_run, write_tomogram
from tomopick.data.volumes.volumes import contents_mark

SPACING = 10.012444
SHAPE = (8, 12, 14)
OBJECTS = (
    PickableObject("ribosome", 150.0, 1, score_weight=2.0),
    PickableObject("virus-like-particle", None, 2),
    PickableObject("membrane", None, 3, is_particle=False),
)


def tomogram(run="TS_1", tomo_type="denoised", spacing=SPACING, shape=SHAPE) -> Tomogram:
    values = np.random.default_rng(len(run + tomo_type)).normal(size=shape).astype(np.float32)
    return Tomogram(run, values, Grid(shape, spacing), tomo_type)


def some_picks(run="TS_1", n=4, rotations=False) -> Picks:
    rng = np.random.default_rng(n)
    names = ["ribosome", "virus-like-particle"] * (n // 2) + ["ribosome"] * (n % 2)
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0] if rotations else None
    return Picks(run, rng.uniform(0, 100, (n, 3)), names, rng.uniform(size=n), turns)


def by_name(picks: Picks) -> Picks:
    # Positions that the file cannot tell apart are ordered by score.
    return picks.select(np.lexsort((picks.scores, *picks.positions.round(6).T, picks.names)))


def same(a: Picks | None, b: Picks) -> None:
    assert a is not None
    a, b = by_name(a), by_name(b)
    assert a.names.tolist() == b.names.tolist()
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-9)
    assert (a.rotations is None) == (b.rotations is None)
    if a.rotations is not None:
        np.testing.assert_allclose(a.rotations, b.rotations, atol=1e-9)


@pytest.fixture
def project(tmp_path) -> CopickProject:
    project = create_copick_project(tmp_path / "p", OBJECTS, name="test")
    write_run(project, [tomogram()], some_picks(), "truth", "0")
    return project


def test_written_project(project, tmp_path):
    for where in (tmp_path / "p", tmp_path / "p" / "copick.json"):
        again = open_project(where)
        assert isinstance(again, CopickProject) and isinstance(again, Project) and again.uri == str(where)
        assert again.runs() == ["TS_1"] and again.tomo_types("TS_1") == ["denoised@10.012"]
    assert again.objects == OBJECTS[:2]
    grid = again.grid("TS_1", "denoised@10")
    assert grid.shape == SHAPE and grid.voxel_spacing == pytest.approx(SPACING, abs=1e-6)
    read = again.tomogram("TS_1")
    np.testing.assert_array_equal(read.values, tomogram().values)
    assert read.values.dtype == np.float32 and read.values.flags.c_contiguous and read.tomo_type == "denoised"
    coarse = again.tomogram("TS_1", "denoised@20")
    np.testing.assert_allclose(coarse.grid.origin, SPACING / 2, atol=1e-6)
    np.testing.assert_allclose(coarse.values[0, 0, 0], tomogram().values[:2, :2, :2].mean(), atol=1e-6)
    same(again.picks("TS_1"), some_picks())


def test_copick_reads_what_we_wrote(project, tmp_path):
    import copick

    project.write_picks(some_picks(n=3, rotations=True), "tomopick", "1")
    root = copick.from_file(str(tmp_path / "p" / "copick.json"))
    (found,) = root.get_run("TS_1").get_picks("ribosome", "tomopick", "1")
    expected = some_picks(n=3, rotations=True).of("ribosome")
    np.testing.assert_allclose(found.full_positions()[:, ::-1], expected.positions)
    np.testing.assert_allclose(found.scores(), expected.scores)
    np.testing.assert_allclose(found.numpy()[1][:, :3, :3], expected.rotations)
    assert found.trust_orientation is True and found.meta.voxel_spacing == pytest.approx(10.012)
    (truth,) = root.get_run("TS_1").get_picks("ribosome", "truth")
    assert truth.points and truth.trust_orientation is False
    (volume,) = root.get_run("TS_1").get_voxel_spacing(10.012).get_tomograms("denoised")
    assert volume.numpy().shape == SHAPE


finite = st.floats(-2000, 8000)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(finite, finite, finite, st.floats(0, 1), st.integers(0, 99)), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["none", "czii", "1,0,-0.25"]),
)
def test_picks_round_trip(tmp_path_factory, rows, turned, offset):
    folder = tmp_path_factory.getbasetemp() / "copick-round"
    if not folder.exists():
        write_tomogram(create_copick_project(folder, OBJECTS), tomogram())
    turns = np.stack([np.linalg.qr(np.random.default_rng(row[4]).normal(size=(3, 3)))[0] for row in rows])
    names = [OBJECTS[row[4] % 2].name for row in rows]
    picks = Picks("TS_1", [r[:3] for r in rows], names, [r[3] for r in rows], turns if turned else None)
    open_project(folder, coordinate_offset=offset).write_picks(picks, "a", "1")
    read = open_project(folder, coordinate_offset=offset).picks("TS_1", "*:a/1")
    same(read, picks)
    raw = open_project(folder).picks("TS_1", "*:a/1")
    shift = {"none": 0, "czii": 0.5, "1,0,-0.25": np.array([1, 0, -0.25])}[offset]
    np.testing.assert_allclose(
        by_name(raw).positions, by_name(picks).positions - shift * np.full(3, SPACING), atol=1e-3
    )


def test_unlabelled_empty_and_stale(project):
    write_tomogram(project, tomogram("TS_2"))
    assert project.picks("TS_2") is None and not project.has_picks("TS_2", "tomopick", "1")
    project.write_picks(Picks.empty("TS_2"), "tomopick", "1")
    assert project.has_picks("TS_2", "tomopick", "1") and len(project.picks("TS_2")) == 0
    project.write_picks(some_picks("TS_2"), "tomopick", "1")
    project.write_picks(some_picks("TS_2").of("ribosome"), "tomopick", "1")
    same(project.picks("TS_2"), some_picks("TS_2").of("ribosome"))


def test_choice(project, tmp_path):
    project.write_picks(some_picks(n=2), "tomopick", "1")
    with pytest.raises(SelectionError, match=r"\*:tomopick/1, \*:truth/0"):
        project.picks("TS_1")
    same(project.picks("TS_1", "*:tom*"), some_picks(n=2))
    same(project.picks("TS_1", "ribosome:truth"), some_picks().of("ribosome"))
    write_tomogram(project, tomogram(tomo_type="wbp"))
    write_tomogram(project, tomogram(tomo_type="wbp", spacing=5.006, shape=(16, 24, 28)))
    assert project.tomo_types("TS_1") == ["denoised@10.012", "wbp@10.012", "wbp@5.006"]
    with pytest.raises(SelectionError, match=r"several tomograms.*wbp@10\.012, wbp@5\.006"):
        project.grid("TS_1", "wbp")
    assert project.grid("TS_1", "wbp@5").shape == (16, 24, 28)
    # stored at this spacing: not the second level of the finer one
    np.testing.assert_array_equal(project.tomogram("TS_1", "wbp@10").values, tomogram(tomo_type="wbp").values)
    with pytest.raises(SelectionError, match="did you mean 'TS_1'"):
        project.grid("TS1")
    with pytest.raises(SelectionError, match="no tomogram 'denoised@13'"):
        project.grid("TS_1", "denoised@13")


def test_refused_names(project):
    with pytest.raises(OutputError, match="write 'my-user'"):
        project.write_picks(some_picks(), "my_user", "1")
    with pytest.raises(SelectionError, match="no pickable object 'membrane'"):
        project.write_picks(Picks("TS_1", [[0, 0, 0]], ["membrane"], [1.0]), "a", "1")
    with pytest.raises(SelectionError, match="no run 'TS_9'"):
        project.write_picks(some_picks("TS_9"), "a", "1")


def test_objects_get_radii(project, tmp_path):
    again = open_project(tmp_path / "p", objects=["virus-like-particle:135"])
    assert [o.radius for o in again.objects] == [150.0, 135.0]
    with pytest.raises(SelectionError, match="no object 'ribosom'; did you mean 'ribosome'"):
        open_project(tmp_path / "p", objects=["ribosom:135"])
    with pytest.raises(SelectionError, match="`tomo_type=TYPE@7`"):
        open_project(tmp_path / "p", voxel_spacing=7.0)


def test_moved_and_copied(project, tmp_path):
    shutil.copytree(tmp_path / "p", tmp_path / "copy")
    copy = open_project(tmp_path / "copy")
    copy.write_picks(some_picks(n=2), "tomopick", "1")
    assert copy.has_picks("TS_1", "tomopick", "1")
    assert not open_project(tmp_path / "p").has_picks("TS_1", "tomopick", "1")  # the copy is the copy's own
    shutil.move(tmp_path / "p", tmp_path / "moved")
    same(open_project(tmp_path / "moved").picks("TS_1"), some_picks())


def test_others_config(project, tmp_path, caplog):
    path = tmp_path / "other.json"
    config = json.loads((tmp_path / "p" / "copick.json").read_text())
    del config["tomopick"], config["config_type"]
    path.write_text(json.dumps({**config, "overlay_root": "local:///gone/p"}))
    with caplog.at_level(logging.WARNING, "tomopick"):
        assert open_project(path).runs() == ["TS_1"]
    assert "/gone/p is not there" in caplog.text
    path.write_text(json.dumps({**config, "overlay_root": "local:///gone/q"}))
    with pytest.raises(ReadError, match="/gone/q is not there"):
        open_project(path)
    # read-only static and an overlay that does not exist yet
    static = f"local://{tmp_path / 'p'}"
    path.write_text(json.dumps({**config, "static_root": static, "overlay_root": f"local://{tmp_path / 'o'}"}))
    both = open_project(path)
    both.write_picks(some_picks(n=2), "tomopick", "1")
    same(both.picks("TS_1", "*:tomopick"), some_picks(n=2))
    same(open_project(path).picks("TS_1", "*:tomopick"), some_picks(n=2))
    assert (tmp_path / "o" / "ExperimentRuns" / "TS_1" / "Picks").is_dir()
    # the overlay hides a static tomogram of the same name
    shutil.copytree(
        tmp_path / "p/ExperimentRuns/TS_1/VoxelSpacing10.012", tmp_path / "o/ExperimentRuns/TS_1/VoxelSpacing10.012"
    )
    assert open_project(path).tomogram("TS_1").values.shape == SHAPE


def test_remote_overlay_goes_through_copick(project, tmp_path):
    path = tmp_path / "other.json"
    config = json.loads((tmp_path / "p" / "copick.json").read_text())
    del config["tomopick"]
    config |= {"static_root": f"local://{tmp_path / 'p'}", "overlay_root": "memory://overlay", "overlay_fs_args": {}}
    path.write_text(json.dumps(config))
    remote = open_project(path)
    remote.write_picks(some_picks(n=3, rotations=True), "tomopick", "1")
    same(open_project(path).picks("TS_1", "*:tomopick"), some_picks(n=3, rotations=True))
    # Columns, too, which copick's own model of the file does not know; and again in place of what is there.
    given = some_picks(n=3).with_column("distance_gold", np.array([12.5, -3.0, np.nan]))
    remote.write_picks(given, "tomopick", "1")
    found = open_project(path).picks("TS_1", "*:tomopick")
    assert len(found) == 3 and found.rotations is None
    for name in set(given.names.tolist()):
        np.testing.assert_array_equal(found.of(name).columns["distance_gold"], given.of(name).columns["distance_gold"])
    with pytest.raises(OutputError, match="not on this machine"):
        write_tomogram(remote, tomogram("TS_2"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "no 'pickable_objects'"),
        ('{"pickable_objects": [], "config_type": "tape"}', "copick cannot open it"),
        ('{"pickable_objects": [{"name": "a b"}], "config_type": "filesystem"}', "copick cannot open it"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:copick")
def test_bad_config(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ReadError, match=message) as caught:
        open_project(tmp_path / "c.json")
    assert "\n" not in str(caught.value)


def test_bad_picks(project, tmp_path):
    folder = tmp_path / "p" / "ExperimentRuns" / "TS_1" / "Picks"
    (folder / "truth_0_ribosome.json").write_text('{"points": [')
    with pytest.raises(ReadError, match="picks ribosome:truth/0: cannot be read"):
        open_project(tmp_path / "p").picks("TS_1")
    (folder / "ribosome.json").write_text("{}")
    with pytest.raises(ReadError, match=r"USER_SESSION_OBJECT\.json"):
        open_project(tmp_path / "p").picks("TS_1")


def test_create_refuses(tmp_path):
    create_copick_project(tmp_path / "p", OBJECTS)
    with pytest.raises(OutputError, match="exists already"):
        create_copick_project(tmp_path / "p", OBJECTS)
    with pytest.raises(OutputError, match=r"p/copick\.json: copick refuses object 'a b'"):  # where it would have been
        create_copick_project(tmp_path / ".p.part", [PickableObject("a b", 60.0, 1)], place=tmp_path / "p")
    with pytest.raises(OutputError, match="copick refuses object 'a b'"):
        create_copick_project(tmp_path / "q", [PickableObject("a b", 1.0)])
    with pytest.raises(OutputError, match="labels"):
        create_copick_project(tmp_path / "q", [PickableObject("a", 1.0), PickableObject("b", 1.0)])
    assert not (tmp_path / "q").exists()


def test_write_run_refuses(project):
    with pytest.raises(OutputError, match="run 'TS_1' exists already"):
        write_run(project, [tomogram()])
    with pytest.raises(OutputError, match="of one run"):
        write_run(project, [tomogram("TS_2"), tomogram("TS_3")])
    with pytest.raises(OutputError, match=r"denoised\.zarr: exists already"):
        write_tomogram(project, tomogram())
    with pytest.raises(OutputError, match="no place for an origin"):
        write_tomogram(project, tomogram("TS_2").crop((0, 0, 2), (4, 4, 4)))
    with pytest.raises(OutputError, match="tomogram type ''"):
        write_tomogram(project, tomogram("TS_2", ""))
    with pytest.raises(OutputError, match="cannot be the name of a file"):
        write_tomogram(project, tomogram("../TS_2"))
    assert project.runs() == ["TS_1"] and os.listdir(project.overlay_folder("TS_1").parent) == ["TS_1"]


def test_interrupted_run_is_not_there(project, tmp_path):
    """Picks of an unknown object are refused after the tomogram is on disk: nothing of the run is seen."""
    with pytest.raises(SelectionError, match="no pickable object 'gold'"):
        write_run(project, [tomogram("TS_2")], Picks("TS_2", [[0, 0, 0]], ["gold"], [1.0]))
    assert project.runs() == ["TS_1"]
    # As a kill leaves it: the hidden folder stays, and nobody lists it.
    runs = tmp_path / "p" / "ExperimentRuns"
    shutil.copytree(runs / "TS_1", runs / ".TS_2.12345678.part")
    assert open_project(tmp_path / "p").runs() == ["TS_1"]


def test_picks_that_cannot_be_written_change_nothing(project, tmp_path):
    folder = Path(tmp_path / "p" / "ExperimentRuns" / "TS_1" / "Picks")
    before = {p.name: p.read_text() for p in folder.iterdir()}
    (folder / "a_1_virus-like-particle.json").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        project.write_picks(some_picks(), "a", "1")
    (folder / "a_1_virus-like-particle.json").rmdir()
    assert {p.name: p.read_text() for p in folder.iterdir()} == before
    assert not project.has_picks("TS_1", "a", "1")


def test_picks_of_an_object_that_is_gone(project):
    folder = project.overlay_folder("TS_1") / "Picks"
    text = (folder / "truth_0_ribosome.json").read_text().replace('"ribosome"', '"gone"').replace('"truth"', '"a"')
    (folder / "a_1_gone.json").write_text(text)
    fresh = open_project(project.uri)
    assert not fresh.has_picks("TS_1", "a", "1") and all(e.name != "gone" for e in fresh.picks_sets("TS_1"))
    fresh.write_picks(some_picks(n=2), "a", "1")
    same(fresh.picks("TS_1", "*:a/1"), some_picks(n=2))
    assert (folder / "a_1_gone.json").read_text() == text


def test_a_replaced_tomogram_has_another_stamp(project):
    before = project.stamp("TS_1")
    assert before == open_project(project.uri).stamp("TS_1", "denoised@10") and before.place.endswith("copick.json")
    (store,) = project.overlay_folder("TS_1").glob("VoxelSpacing*/*.zarr")
    shutil.copytree(store, store.with_name("x"))
    shutil.rmtree(store)
    store.with_name("x").rename(store)
    for path in store.rglob(".z*"):
        os.utime(path, ns=(1, 1))
    after = open_project(project.uri).stamp("TS_1")
    assert after.place == before.place and after.contents != before.contents
    # A remote store has no times; its metadata tells.
    remote = contents_mark(open_project(project.uri)._tomograms("TS_1").popitem()[1].zarr())
    assert len(remote) == 16


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_picks_files_that_are_none_are_refused_in_one_line(tmp_path):
    project = create_copick_project(tmp_path / "p", [PickableObject("ball", 40.0, 1)])
    write_run(project, [tomogram("A")], Picks("A", np.full((1, 3), 50.0), np.array(["ball"])), "me", "0")
    (path,) = (tmp_path / "p").rglob("me_0_ball.json")
    for damage, match in {"deep": "deeper", "pipe": "pipe", "empty": "JSON", "text": "not copick's picks"}.items():
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
        else:
            path.write_text({"deep": "[" * 10**5, "empty": "", "text": '"x"'}[damage])
        with pytest.raises(ReadError, match=match):
            open_project(tmp_path / "p").picks("A")
