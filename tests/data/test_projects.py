"""Memory and folder projects, and what `open_project` says."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from projects import means, ome_zarr, picks, same, volume
from tomopick.core.errors import OutputError, ReadError, SelectionError, TomopickError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import FolderProject, MemoryProject, Project, open_project, write_mrc
from tomopick.data.choose import PicksEntry
from tomopick.data.labelled import picks_where_any
from tomopick.data.sources import folder as folder_module
from tomopick.data.tables import read_picks_csv

RIBOSOME = PickableObject("ribosome", 150.0, 1)
VIRUS = PickableObject("virus-like-particle", 135.0, 2)


@pytest.fixture
def memory() -> MemoryProject:
    project = MemoryProject([RIBOSOME, VIRUS, PickableObject("membrane", None, 3, is_particle=False)])
    for i, run in enumerate(("TS_2", "TS_1")):
        project.add(Tomogram(run, volume(seed=i), Grid((8, 12, 14), 10.012), "denoised"), picks(run))
    return project


def test_memory(memory):
    assert isinstance(memory, Project)
    assert memory.runs() == ["TS_1", "TS_2"] and [o.name for o in memory.objects] == ["ribosome", "virus-like-particle"]
    assert memory.tomo_types("TS_1") == ["denoised@10.012"]
    assert memory.tomogram("TS_1").values.dtype == np.float32
    same(memory.picks("TS_1"), picks("TS_1"))
    same(memory.picks("TS_1", "ribo*:truth"), picks("TS_1").of("ribosome"))
    assert not memory.has_picks("TS_1", "tomopick", "0")
    memory.write_picks(Picks.empty("TS_1"), "tomopick", "0")
    assert memory.has_picks("TS_1", "tomopick", "0")
    assert len(memory.picks("TS_1", "*:tomopick/0")) == 0
    memory.write_tomogram(Tomogram("TS_3", volume(), Grid((8, 12, 14), 5.0)))
    assert memory.picks("TS_3") is None


@pytest.mark.parametrize("query", ["denoised", "denoised@10.012", "denoised@10", "den*@10.1", "@10", None])
def test_tomogram_queries(memory, query):
    assert memory.grid("TS_1", query).voxel_spacing == 10.012


def test_tomogram_choice(memory):
    grid = Grid((8, 12, 14), 10.012)
    memory.write_tomogram(Tomogram("TS_1", volume(), grid, "wbp"))
    memory.write_tomogram(Tomogram("TS_1", volume((4, 6, 7)), Grid((4, 6, 7), 20.024), "wbp"))
    with pytest.raises(SelectionError, match=r"several.*denoised@10\.012, wbp@10\.012, wbp@20\.024"):
        memory.tomogram("TS_1")
    with pytest.raises(SelectionError, match=r"several.*wbp@10\.012, wbp@20\.024"):
        memory.tomogram("TS_1", "wbp")
    with pytest.raises(SelectionError, match="no tomogram type 'denoise'; did you mean 'denoised'"):
        memory.tomogram("TS_1", "denoise")
    with pytest.raises(SelectionError, match=r"no tomogram 'wbp@13'; there is wbp@10\.012, wbp@20\.024"):
        memory.tomogram("TS_1", "wbp@13")
    with pytest.raises(SelectionError, match="means several"):
        memory.tomogram("TS_1", "@10.012")
    with pytest.raises(SelectionError, match="'ten' is no voxel spacing"):
        memory.tomogram("TS_1", "wbp@ten")
    assert memory.grid("TS_1", "wbp@20").shape == (4, 6, 7)


def test_exact_spacing_decides_between_near_ones():
    project = MemoryProject([RIBOSOME])
    for spacing in (10.0, 10.012):
        project.write_tomogram(Tomogram("a", volume(), Grid((8, 12, 14), spacing), "wbp"))
    assert project.grid("a", "wbp@10.012").voxel_spacing == 10.012
    assert project.grid("a", "wbp@10").voxel_spacing == 10.0
    with pytest.raises(SelectionError, match="means several"):
        project.grid("a", "wbp@10.05")


def test_picks_choice(memory):
    memory.write_picks(picks("TS_1", ["ribosome"], 1.0), "tomopick", "1")
    with pytest.raises(SelectionError, match=r"several picks of 'ribosome'.*\*:tomopick/1, \*:truth/0"):
        memory.picks("TS_1")
    with pytest.raises(SelectionError, match=r"ribosome:tomopick/1, ribosome:truth/0"):
        memory.picks("TS_1", "ribosome")
    same(memory.picks("TS_1", "*:tomopick"), picks("TS_1", ["ribosome"], 1.0))
    same(memory.picks("TS_1", "*:*/0"), picks("TS_1"))
    same(memory.picks("TS_1", "re:ribo.*:t[or]+u"), picks("TS_1").of("ribosome"))
    same(memory.picks("TS_1", "virus*"), picks("TS_1").of("virus-like-particle"))
    # several users or sessions are meant only by who says so
    project = MemoryProject([RIBOSOME, VIRUS])
    project.write_picks(picks("TS_1", ["ribosome"]), "me", "1")
    project.write_picks(picks("TS_1", ["virus-like-particle"]), "tomopick", "0")
    for query in (None, "*:*"):
        with pytest.raises(SelectionError, match=r"several picks; .*: \*:me/1, \*:tomopick/0 \(or '\*:\*/\*' for all"):
            project.picks("TS_1", query)
    assert len(project.picks("TS_1", "*:*/*")) == 2
    assert len(project.picks("TS_1", "ribosome")) == len(project.picks("TS_1", "*:m*")) == 1
    # tomopick has looked, and found none of these
    assert len(memory.picks("TS_1", "virus-like-particle:tomopick")) == 0
    for query in ("ribosom:truth", "*:curation/0"):
        with pytest.raises(SelectionError, match=f"no picks '{query[:3]}".replace("*", r"\*")):
            memory.picks("TS_1", query)
    with pytest.raises(SelectionError, match="object:user/session"):
        memory.picks("TS_1", "a:b:c")
    with pytest.raises(SelectionError, match="no regular expression"):
        memory.picks("TS_1", "re:[:a/b")


def test_predictions_of_other_runs_are_not_taken_for_labels(memory):
    project = MemoryProject([RIBOSOME, VIRUS])
    project.write_picks(picks("TS_1"), "truth", "0")
    assert list(picks_where_any(project, ["TS_1"], None)) == ["TS_1"]
    project.write_picks(picks("TS_2"), "tomopick", "0")
    with pytest.raises(SelectionError, match=r"memory: several picks; .*: \*:tomopick/0, \*:truth/0"):
        picks_where_any(project, project.runs(), None)
    assert list(picks_where_any(project, project.runs(), "*:truth/0")) == ["TS_1"]
    assert list(picks_where_any(project, project.runs(), "*:*/0")) == ["TS_1", "TS_2"]


def test_names_are_checked(memory):
    with pytest.raises(SelectionError, match="no run 'TS_3'; did you mean"):
        memory.tomogram("TS_3")
    with pytest.raises(SelectionError, match="no pickable object 'ribosom'; did you mean 'ribosome'"):
        memory.write_picks(picks("TS_1", ["ribosom"]), "a", "0")
    with pytest.raises(OutputError, match=r"user 'my_name' would be renamed.*write 'my-name'"):
        memory.write_picks(picks("TS_1"), "my_name", "0")
    with pytest.raises(OutputError, match="session ''"):
        memory.write_picks(picks("TS_1"), "a", "")


@pytest.fixture
def folder(tmp_path) -> Path:
    write_mrc(tmp_path / "A.mrc", volume(), 10.0)
    ome_zarr(tmp_path / "B.zarr", [volume(seed=1), means(volume(seed=1))], 8.0)
    write_mrc(tmp_path / "raw.st", volume(), 2.0)
    (tmp_path / "A.csv").write_text("object,x,y,z,score\nribosome,70,60,50,0.5\nvirus,10,20,30,1\n")
    (tmp_path / "notes.csv").write_text("run,remark\nA,nice\n")
    return tmp_path


def test_folder(folder):
    project = open_project(folder)
    assert isinstance(project, FolderProject) and isinstance(project, Project) and project.uri == str(folder)
    assert project.runs() == ["A", "B"]
    assert [(o.name, o.radius, o.label) for o in project.objects] == [("ribosome", None, 1), ("virus", None, 2)]
    assert project.tomo_types("A") == ["@10.000"] and project.tomo_types("B") == ["@8.000"]
    assert project.grid("B") == Grid((8, 12, 14), 8.0)
    np.testing.assert_array_equal(project.tomogram("A").values, volume())
    found = project.picks("A")
    np.testing.assert_array_equal(found.positions, [[50, 60, 70], [30, 20, 10]])
    assert found.scores.tolist() == [0.5, 1.0]
    assert project.picks("B") is None
    same(project.picks("A", "virus"), found.of("virus"))
    with pytest.raises(SelectionError, match="leave the type out"):
        project.grid("A", "denoised")
    with pytest.raises(SelectionError, match="no picks 'virs'; did you mean 'virus'"):
        project.picks("A", "virs")
    for ask in (project.picks, project.grid, project.tomogram, project.tomo_types):
        with pytest.raises(SelectionError, match="no run 'C'"):
            ask("C")


def test_a_table_that_holds_no_picks_is_said_only_to_who_asks_for_it(folder, caplog):
    (folder / "B.csv").write_text("threshold,score\n1,2\n")
    with caplog.at_level(logging.WARNING, "tomopick"):
        project = open_project(folder)
    assert "B.csv: line 1: no column" in caplog.text and [o.name for o in project.objects] == ["ribosome", "virus"]
    assert len(project.picks("A")) == 2 and project.tomogram("B").values.shape == (8, 12, 14)
    for ask in (project.picks, project.picks_sets):
        with pytest.raises(ReadError, match=r"B\.csv: line 1"):
            ask("B")


def test_a_table_is_one_users(folder):
    assert open_project(folder).picks_sets("A") == [PicksEntry("ribosome"), PicksEntry("virus")]
    assert open_project(folder).picks_sets("B") == []


@pytest.mark.parametrize("name", ["A.mrc", "B.zarr"])
def test_a_replaced_volume_has_another_stamp(folder, name):
    before = open_project(folder).stamp(name[0])
    assert before == open_project(folder / name).stamp(name[0]) and before.place == str((folder / name).resolve())
    if name == "A.mrc":
        write_mrc(folder / name, volume(seed=5), 10.0)
    else:
        ome_zarr(folder / name, [volume(seed=5), means(volume(seed=5))], 8.0)
    after = open_project(folder).stamp(name[0])
    assert after.place == before.place and after.contents != before.contents


def test_folder_voxel_spacing_is_the_users(folder):
    project = open_project(folder, voxel_spacing=5.0)
    assert project.grid("A").voxel_spacing == 5.0
    coarse = project.grid("B", "@10")
    assert coarse.voxel_spacing == 10.0 and coarse.origin == (2.5, 2.5, 2.5)


def test_folder_objects(folder, caplog):
    project = open_project(folder, objects=["ribosome:150"])
    assert [(o.name, o.radius) for o in project.objects] == [("ribosome", 150.0)]
    with caplog.at_level(logging.WARNING, "tomopick"):
        assert project.picks("A").names.tolist() == ["ribosome"]
    assert "virus are left out" in caplog.text
    listed = [{"name": "ribosome", "radius": 140, "label": 7}, {"name": "gold", "is_particle": False}]
    (folder / "objects.json").write_text(json.dumps(listed))
    project = open_project(folder, objects=["ribosome:150", "virus:135"])
    assert [(o.name, o.radius, o.label) for o in project.objects] == [("ribosome", 150.0, 7), ("virus", 135.0, 8)]
    for bad in ("ribosome:-1", "ribosome:big", ":5", "ribosome:nan"):
        with pytest.raises(SelectionError, match="NAME:RADIUS"):
            open_project(folder, objects=[bad])
    for text in (
        "{", '{"a": 1}', "[1]", '[{"radius": 3}]', '[{"name": "a", "radius": "big"}]', r'[{"name": "a\nb"}]',
        r'[{"name": "\u001b[31ma"}]',
    ):  # fmt: skip
        (folder / "objects.json").write_text(text)
        with pytest.raises(ReadError, match=r"objects\.json"):
            open_project(folder)


def test_folder_writes_beside_the_tomogram_once(folder):
    project = open_project(folder, objects=["ribosome:150"], coordinate_offset="0.5,0.5,0.5")
    assert not project.has_picks("B", "tomopick", "0")
    project.write_picks(picks("B", ["ribosome"]), "tomopick", "0")
    assert project.has_picks("B", "tomopick", "0")
    same(project.picks("B"), picks("B", ["ribosome"]))
    same(open_project(folder, objects=["ribosome:150"]).picks("B"), picks("B", ["ribosome"], -4.0))
    with pytest.raises(OutputError, match="exists already"):
        project.write_picks(picks("B", ["ribosome"]), "tomopick", "0")
    with pytest.raises(SelectionError, match="no pickable object"):
        project.write_picks(picks("A"), "tomopick", "0")


def test_one_run_twice(folder):
    write_mrc(folder / "B.rec", volume(), 10.0)
    with pytest.raises(ReadError, match=r"run 'B' is there twice, B\.rec and B\.zarr"):
        open_project(folder)


def test_tables_alone(tmp_path):
    (tmp_path / "A.csv").write_text("object,x,y,z\nribosome,70,60,50\n")
    (tmp_path / "other.csv").write_text("threshold,score\n1,2\n")
    project = open_project(tmp_path)
    assert project.runs() == ["A"] and project.tomo_types("A") == []
    assert len(project.picks("A")) == 1
    with pytest.raises(SelectionError, match="no tomograms"):
        project.grid("A")
    with pytest.raises(SelectionError, match="`voxel_spacing`"):
        open_project(tmp_path, coordinate_offset="1").picks("A")
    shifted = open_project(tmp_path, coordinate_offset="1", voxel_spacing=10.0).picks("A")
    np.testing.assert_allclose(shifted.positions, [[60, 70, 80]])


def test_one_table_of_many_runs(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,experiment,particle_type,x,y,z\n0,TS_1,ribosome,1,2,3\n1,TS_2,ribosome,4,5,6\n")
    project = open_project(path)
    assert project.runs() == ["TS_1", "TS_2"]
    np.testing.assert_array_equal(project.picks("TS_2").positions, [[6, 5, 4]])


@pytest.mark.parametrize("name", ["A.mrc", "B.zarr"])
def test_one_volume(folder, name):
    project = open_project(folder / name)
    assert project.runs() == [name[0]]
    assert project.tomogram(name[0]).values.shape == (8, 12, 14)
    assert (project.picks(name[0]) is None) == (name == "B.zarr")


def test_one_stack(folder):
    with pytest.raises(ReadError, match="tilt series"):
        open_project(folder / "raw.st")


def test_open_says_what_it_expected(folder, tmp_path_factory):
    with pytest.raises(ReadError, match=r"no such file or folder; did you mean 'A\.mrc'"):
        open_project(folder / "A.mrcs")
    with pytest.raises(ReadError, match="no tomograms; expected"):
        open_project(tmp_path_factory.mktemp("empty"))
    (folder / "notes.txt").write_text("")
    with pytest.raises(ReadError, match="no tomogram by its name"):
        open_project(folder / "notes.txt")
    with pytest.raises(SelectionError, match="`voxel_spacing=-1"):
        open_project(folder, voxel_spacing=-1)
    with pytest.raises(SelectionError, match="did you mean 'czii'"):
        open_project(folder, coordinate_offset="czi")
    (folder / "my.json").write_text('{"pickable_objects": []}')
    with pytest.raises(ReadError, match=r"holds the copick configuration my\.json"):
        open_project(folder)


def test_a_home_that_nobody_has_is_a_folder_that_is_not_there():
    with pytest.raises(ReadError, match="there is no such file or folder"):
        open_project("~nobody-of-this-name/t")


@pytest.mark.parametrize("key", ["overlay_root", "static_root"])
@pytest.mark.parametrize("value", [3, [], {}, True, "\x00", "~nobody-of-this-name/t"])
def test_roots_that_are_no_paths_are_refused_in_one_line(tmp_path, key, value):
    objects = [{"name": "ball", "radius": 40, "label": 1, "is_particle": True}]
    (tmp_path / "copick.json").write_text(
        json.dumps({"config_type": "filesystem", "name": "x", "description": "", "version": "1.0.0",
                    "pickable_objects": objects, key: value})
    )  # fmt: skip
    with pytest.raises(TomopickError, match=r"copick\.json"):
        open_project(tmp_path / "copick.json").runs()


def test_a_table_of_many_runs_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "many.csv"
    path.write_text("run,object,x,y,z\n" + "".join(f"R{i},ball,{i},2,3\n" for i in range(20)))
    read = []
    monkeypatch.setattr(folder_module, "read_picks_csv", lambda p, *how: read.append(p) or read_picks_csv(p, *how))
    project = open_project(path)
    read.clear()
    assert [project.picks(run).positions[0, 2] for run in project.runs()] == sorted(range(20), key=lambda i: f"R{i}")
    assert len(read) == 1
    path.write_text("run,object,x,y,z\nR0,ball,50,2,3\nR0,ball,51,2,3\n")
    assert project.picks("R0").positions[:, 2].tolist() == [50, 51] and len(read) == 2
