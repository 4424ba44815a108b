"""Kaggle's layout of the CZII challenge, and the real data where it is there."""

import json
from pathlib import Path

import numpy as np
import pytest

from projects import means, ome_zarr, picks, same, volume
from real_data import DATA, needs_data
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.presets import CZII_OBJECTS, CZII_VOXEL_SPACING
from tomopick.core.types import Grid
from tomopick.data import KaggleProject, Project, open_project, write_mrc


def picks_json(path: Path, name: str, xyz, user="curation", session="0", **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = [{"location": dict(zip("xyz", p)), "transformation_": np.eye(4).tolist()} for p in xyz]
    data = {"pickable_object_name": name, "user_id": user, "session_id": session, "points": points, **more}
    path.write_text(json.dumps(data))


@pytest.fixture
def kaggle(tmp_path) -> Path:
    run = "train/{}/ExperimentRuns/TS_1/"
    static = tmp_path / run.format("static") / "VoxelSpacing10.000"
    static.mkdir(parents=True)
    values = volume((8, 12, 12))
    ome_zarr(static / "denoised.zarr", [values, means(values)], CZII_VOXEL_SPACING)
    ome_zarr(static / "wbp.zarr", [values], CZII_VOXEL_SPACING)
    picks_json(tmp_path / run.format("overlay") / "Picks" / "ribosome.json", "ribosome", [(70, 60, 50)])
    return tmp_path


@pytest.mark.parametrize("where", ["", "train", "train/static", "train/overlay"])
def test_kaggle(kaggle, where):
    project = open_project(kaggle / where)
    assert isinstance(project, KaggleProject) and isinstance(project, Project)
    assert project.runs() == ["TS_1"] and project.objects == CZII_OBJECTS
    assert project.tomo_types("TS_1") == ["denoised@10.012", "wbp@10.012"]
    assert project.grid("TS_1", "denoised@10").voxel_spacing == CZII_VOXEL_SPACING  # not the folder's 10.000
    assert project.tomogram("TS_1", "denoised@20").values.shape == (4, 6, 6)
    np.testing.assert_array_equal(project.picks("TS_1").positions, [[50, 60, 70]])
    assert project.picks("TS_1").rotations is None
    with pytest.raises(SelectionError, match=r"several.*denoised@10\.012, wbp@10\.012"):
        project.grid("TS_1")


def test_runs_are_listed_once(kaggle, monkeypatch):
    project = open_project(kaggle)
    monkeypatch.setattr("tomopick.data.sources.kaggle._run_folders", None)  # as of ten thousand runs: not once a run
    assert project.runs() == ["TS_1"] and project.tomogram("TS_1", "wbp") and len(project.picks("TS_1")) == 1
    with pytest.raises(SelectionError, match="no run 'TS_2'; did you mean 'TS_1'"):
        project.grid("TS_2")


def test_kaggle_writes_beside_the_truth(kaggle):
    project = open_project(kaggle, coordinate_offset="czii", objects=["ribosome:140"])
    assert next(o.radius for o in project.objects if o.name == "ribosome") == 140.0
    truth = project.picks("TS_1")
    np.testing.assert_allclose(truth.positions, np.array([[50, 60, 70]]) + CZII_VOXEL_SPACING / 2)
    project.write_picks(picks("TS_1"), "tomopick", "1")
    assert project.has_picks("TS_1", "tomopick", "1") and not project.has_picks("TS_1", "tomopick", "2")
    same(project.picks("TS_1", "*:tomopick/1"), picks("TS_1"))
    same(project.picks("TS_1", "*:curation"), truth)
    project.write_picks(picks("TS_1", ["ribosome"]), "tomopick", "1")  # again: the virus is no longer found
    same(project.picks("TS_1", "*:tomopick/1"), picks("TS_1", ["ribosome"]))
    with pytest.raises(SelectionError, match="no object 'gold'"):
        open_project(kaggle, objects=["gold:5"])
    with pytest.raises(SelectionError, match="leave `voxel_spacing` out"):
        open_project(kaggle, voxel_spacing=10.0)


def test_kaggle_centre_is_location_plus_translation(kaggle):
    path = kaggle / "train/overlay/ExperimentRuns/TS_1/Picks/ribosome.json"
    turn = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    data = json.loads(path.read_text())
    data["points"] = [{"location": {"x": 10, "y": 20, "z": 30}, "transformation_": turn, "score": None}]
    path.write_text(json.dumps(data))
    found = open_project(kaggle).picks("TS_1")
    np.testing.assert_array_equal(found.positions, [[33, 22, 11]])
    np.testing.assert_array_equal(found.rotations[0], np.array(turn)[:3, :3])
    path.write_text(json.dumps({**data, "trust_orientation": False}))
    assert open_project(kaggle).picks("TS_1").rotations is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"points": [{"location": {}}]}', '{"points": [], "unit": "pixel"}', '{"points": []}']
)
def test_kaggle_bad_json(kaggle, text):
    path = kaggle / "train/overlay/ExperimentRuns/TS_1/Picks/ribosome.json"
    path.write_text(text)
    with pytest.raises(ReadError, match=r"ribosome\.json"):
        open_project(kaggle).picks("TS_1")


def test_picks_only_folder(tmp_path):
    picks_json(tmp_path / "TS_1" / "Picks" / "ribosome.json", "ribosome", [(70, 60, 50)])
    picks_json(tmp_path / "TS_2" / "Picks" / "ribosome.json", "ribosome", [(70, 60, 50)], voxel_spacing=20.0)
    np.testing.assert_allclose(
        open_project(tmp_path, coordinate_offset="czii").picks("TS_1").positions,
        np.array([[50, 60, 70]]) + CZII_VOXEL_SPACING / 2,
    )
    custom = open_project(tmp_path, coordinate_offset=(1, 1, 1))
    np.testing.assert_allclose(custom.picks("TS_2").positions, [[70, 80, 90]])
    with pytest.raises(SelectionError, match="neither a tomogram nor"):
        custom.picks("TS_1")
    assert custom.tomo_types("TS_1") == []


@needs_data
def test_real_czii_picks():
    project = open_project(DATA / "czii" / "picks", coordinate_offset="czii")
    assert isinstance(project, KaggleProject)
    found = [project.picks(run) for run in project.runs()]
    assert len(found) == 7 and sum(map(len, found)) == 1269
    assert set(found[0].names) <= {o.name for o in CZII_OBJECTS} and found[0].rotations is None
    for part in found:
        indices = part.positions / CZII_VOXEL_SPACING
        assert indices.min() > -1 and (indices < np.array([184, 630, 630])).all()


def test_a_volume_of_bytes_with_picks(tmp_path):
    """As a tomogram that was a film: int8, no cube, picks beside it."""
    values = np.random.default_rng(0).integers(-128, 128, (10, 26, 34)).astype(np.int8)
    values[0, 0, :2] = -128, 127
    write_mrc(tmp_path / "A.mrc", values, 10.0)
    (tmp_path / "A.csv").write_text("object,x,y,z\nball,320,10,20\n")
    project = open_project(tmp_path)
    tomogram = project.tomogram("A")
    assert tomogram.grid == Grid((10, 26, 34), 10.0) and tomogram.values.dtype == np.float32
    assert tomogram.values.min() == -128 and tomogram.values.max() == 127
    np.testing.assert_array_equal(tomogram.values, values)
    np.testing.assert_array_equal(project.picks("A").positions, [[20, 10, 320]])


@needs_data
def test_real_tomogram():
    project = open_project(DATA / "apoferritin")
    (run,) = project.runs()
    tomogram = project.tomogram(run)
    assert tomogram.grid == Grid((100, 260, 348), 10.0)
    assert tomogram.values.min() == -128 and tomogram.values.max() == 127
