"""Whole runs out of projects and into them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomopick.core.errors import OutputError, ReadError, SelectionError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import (
    MemoryProject,
    create_copick_project,
    open_project,
    read_picks_csv,
    write_mrc,
    write_picks_csv,
    write_run,
)
from tomopick.data.exporting import TARGETS, ExportOptions, export_picks
from tomopick.data.importing import ImportOptions, import_picks
from tomopick.data.runs import Runs

OBJECTS = (PickableObject("ribosome", 150.0, 1), PickableObject("apo-ferritin", 60.0, 2))
SHAPES = {"TS_1": (20, 40, 61), "TS_2": (21, 41, 60)}


def tomogram(run: str, spacing: float = 10.0, tomo_type: str = "denoised") -> Tomogram:
    values = np.random.default_rng(len(run)).normal(size=SHAPES[run]).astype(np.float32)
    return Tomogram(run, values, Grid(SHAPES[run], spacing), tomo_type)


def picks_of(run: str, n: int = 8) -> Picks:
    rng = np.random.default_rng(int(run[-1]))
    positions = rng.uniform(10, np.array(SHAPES[run]) * 10 - 20, (n, 3))
    return Picks(run, positions, np.resize(["ribosome", "apo-ferritin"], n), rng.uniform(0.1, 1, n))


@pytest.fixture
def project():
    made = MemoryProject(OBJECTS)
    for run in SHAPES:
        made.add(tomogram(run), picks_of(run), "tomopick", "0")
    return made


def fresh():
    made = MemoryProject(OBJECTS)
    for run in SHAPES:
        made.add(tomogram(run))
    return made


def same(found: Picks, wanted: Picks, atol: float = 0.01) -> None:
    a, b = (p.select(np.lexsort(p.positions.T)) for p in (found, wanted))
    np.testing.assert_allclose(a.positions, b.positions, atol=atol)
    np.testing.assert_array_equal(a.names, b.names)


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "copick"])
def test_there_and_back(project, tmp_path, target):
    """Every format by default settings, both runs and both objects, with no hint but the options of the format."""
    options = ExportOptions(tilt_series_pixel_size=2.5)
    out = tmp_path / "out"
    if target in ("relion5", "relion4", "warp"):
        out = out / "particles.star"
    elif target in ("dynamo", "em", "csv"):
        out = out / f"all.{ {'dynamo': 'tbl', 'em': 'em', 'csv': 'csv'}[target] }"
    files = export_picks(project, target, out, options)
    assert all(p.is_file() for p in files)
    empty = fresh()
    key = "em" if target == "artiax" else target
    report = import_picks([p for p in files if p.suffix != ".doc"], empty, ImportOptions(format=key))
    assert report.counts == {run: {"apo-ferritin": 4, "ribosome": 4} for run in SHAPES} and not report.outside
    for run in SHAPES:
        same(empty.picks(run), picks_of(run))


def test_formats_are_recognised(project, tmp_path):
    for target, name in (("relion5", "a.star"), ("relion4", "b.star"), ("warp", "c.star"), ("dynamo", "d.tbl"),
                         ("csv", "e.csv"), ("em", "f.em")):  # fmt: skip
        options = ExportOptions(tilt_series_pixel_size=2.5, objects=["ribosome"])
        (path, *_) = export_picks(Runs(project, ["TS_1"]), target, tmp_path / name, options)
        empty = fresh()
        import_picks([path], empty, ImportOptions(name="ribosome"))
        same(empty.picks("TS_1"), picks_of("TS_1").of("ribosome"))
    with pytest.raises(ReadError, match="no known format by its ending"):
        import_picks([_touch(tmp_path / "x.xyz")], fresh(), ImportOptions())


def _touch(path: Path, text: str = "") -> Path:
    path.write_text(text)
    return path


def test_one_file_for_each_object_or_together(project, tmp_path):
    import starfile

    files = export_picks(project, "relion5", tmp_path / "p.star", ExportOptions())
    assert sorted(p.name for p in files) == ["p_apo-ferritin.star", "p_ribosome.star"]
    (one,) = export_picks(project, "relion5", tmp_path / "q.star", ExportOptions(together=True))
    table = starfile.read(one, always_dict=True)["particles"]
    assert sorted(set(table["rlnClassNumber"])) == [1, 2] and len(table) == 16
    empty = fresh()
    import_picks([one], empty, ImportOptions())
    same(empty.picks("TS_2"), picks_of("TS_2"))
    split = export_picks(Runs(project, ["TS_1"]), "imod", tmp_path / "m", ExportOptions(together=False))
    assert sorted(p.name for p in split) == ["TS_1_apo-ferritin.mod", "TS_1_ribosome.mod"]
    with pytest.raises(OutputError, match="file for each of the 2 runs; expected a folder"):
        export_picks(project, "imod", tmp_path / "all.mod", ExportOptions())


def test_runs_of_different_thresholds_each_keep_to_their_own(tmp_path):
    place, head = tmp_path / "picks", "object,x,y,z,score,threshold\n"
    place.mkdir()
    (place / "A.csv").write_text(f"{head}ball,100,100,100,0.4,0.3\nball,200,100,100,0.2,0.3\n")
    (place / "B.csv").write_text(f"{head}ball,100,100,100,0.9,0.5\nball,200,100,100,0.4,0.5\n")
    options = ExportOptions(at_thresholds=True)
    (path,) = export_picks(open_project(place, objects=["ball:50"]), "csv", tmp_path / "e.csv", options)
    assert {run: p.scores.tolist() for run, p in read_picks_csv(path).items()} == {"A": [0.4], "B": [0.9]}


def test_picks_below_their_thresholds_are_told_and_left_out(project, tmp_path, told):
    def written(picks=None, **choices):
        runs, options = Runs(project, picks=picks), ExportOptions(overwrite=True, **choices)
        (path,) = export_picks(runs, "csv", tmp_path / "p.csv", options)
        return read_picks_csv(path)

    with pytest.raises(SelectionError, match=r"tell no thresholds.*leave `at_thresholds` out"):
        written(at_thresholds=True)
    cuts = {"ribosome": 0.5, "apo-ferritin": 0.3}
    for run in project.runs():
        picks = project.picks(run)
        column = np.array([cuts[name] for name in picks.names.tolist()])
        project.write_picks(picks.with_column("threshold", column), "picker", "1")
    everything = {run: project.picks(run, "*:picker/1") for run in project.runs()}
    below = sum(int((~p.is_kept).sum()) for p in everything.values())
    assert 0 < below < sum(map(len, everything.values()))
    assert (
        written(picks="*:picker/1")["TS_1"].columns["threshold"].tolist()
        == everything["TS_1"].columns["threshold"].tolist()
    )
    assert f"{below} picks below the thresholds that they were picked with are written too" in " ".join(told)
    told.clear()
    kept = written(picks="*:picker/1", at_thresholds=True)
    assert {run: len(p) for run, p in kept.items()} == {run: int(p.is_kept.sum()) for run, p in everything.items()}
    assert not any("below" in line for line in told)
    assert written(picks="*:picker/1", min_score=cuts).keys() == kept.keys()
    high = written(picks="*:picker/1", min_score={"ribosome": 0.9})
    assert all((p.of("ribosome").scores >= 0.9).all() for p in high.values())
    assert len(high["TS_1"].of("apo-ferritin")) == len(everything["TS_1"].of("apo-ferritin"))
    mixed = written(picks="*:picker/1", min_score={"*": 0.3, "ribosome": 0.9})  # one's own wins
    for run, p in everything.items():
        wanted = (p.scores >= np.where(p.names == "ribosome", 0.9, 0.3)).sum()
        assert len(mixed.get(run, ())) == wanted
    with pytest.raises(SelectionError, match="did you mean 'ribosome'"):
        written(picks="*:picker/1", min_score={"ribosom": 0.5})


def test_scores_runs_objects_and_existing_output(project, tmp_path, told):
    options, meant = ExportOptions(min_score=0.5, objects=["ribosome"]), Runs(project, ["TS_1"])
    wanted = picks_of("TS_1").of("ribosome")
    (path,) = export_picks(meant, "csv", tmp_path / "a.csv", options)
    assert len(path.read_text().splitlines()) == 1 + int((wanted.scores >= 0.5).sum())
    assert told == [f"{(wanted.scores >= 0.5).sum()} picks of 1 run", "in Å from the centre of the first voxel"]
    assert len(read_picks_csv(path)["TS_1"]) == (wanted.scores >= 0.5).sum()
    export_picks(meant, "coords", tmp_path / "c", options)
    assert told[-1] == "counted in voxels of 10 Å of a volume of 61 x 40 x 20 (x, y, z)"
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*`overwrite`"):
        export_picks(project, "csv", path, ExportOptions())
    assert path.read_bytes() == before
    export_picks(project, "csv", path, ExportOptions(overwrite=True))
    with pytest.raises(SelectionError, match=r"no picks to export with `min_score=1.5`"):
        export_picks(project, "csv", tmp_path / "b.csv", ExportOptions(min_score=1.5))
    with pytest.raises(SelectionError, match=r"no picks to export with `min_score=1.5,ribosome=2`"):
        export_picks(project, "csv", tmp_path / "b.csv", ExportOptions(min_score={"*": 1.5, "ribosome": 2}))
    with pytest.raises(SelectionError, match="no run 'TS_3'"):
        export_picks(Runs(project, ["TS_3"]), "csv", tmp_path / "b.csv", ExportOptions())
    with pytest.raises(SelectionError, match="did you mean 'relion5'"):
        export_picks(project, "relion", tmp_path / "b.star", ExportOptions())
    assert not (tmp_path / "b.csv").exists()


def test_tomograms_star_gives_names_and_true_sizes(project, tmp_path):
    """A binned volume of rounded size has its middle elsewhere than the tomogram RELION knows (3dem/relion#1280)."""
    import pandas as pd
    import starfile

    rows = pd.DataFrame(
        {"rlnTomoName": ["rec_TS_1", "rec_TS_2"], "rlnTomoTiltSeriesPixelSize": [2.5, 2.5], "rlnVoltage": [300.0] * 2,
         "rlnTomoSizeX": [245, 240], "rlnTomoSizeY": [161, 165], "rlnTomoSizeZ": [81, 84]}
    )  # fmt: skip
    star = tmp_path / "tomograms.star"
    starfile.write({"global": rows}, star)
    (path,) = export_picks(
        project, "relion5", tmp_path / "p.star", ExportOptions(tomograms_star=star, objects=["ribosome"])
    )
    blocks = starfile.read(path, always_dict=True)
    first = picks_of("TS_1").of("ribosome").positions[0]
    row = blocks["particles"].iloc[0]
    assert row["rlnTomoName"] == "rec_TS_1" and blocks["optics"]["rlnVoltage"].tolist() == [300.0, 300.0]
    assert row["rlnCenteredCoordinateXAngst"] == pytest.approx(first[2] - 245 / 2 * 2.5, abs=1e-4)
    assert row["rlnCenteredCoordinateZAngst"] == pytest.approx(first[0] - 81 / 2 * 2.5, abs=1e-4)
    empty = fresh()
    import_picks([path], empty, ImportOptions(tomograms_star=star, name="ribosome"))
    same(empty.picks("TS_1"), picks_of("TS_1").of("ribosome"))


def test_agrees_with_copicks_own_export(tmp_path):
    """copick 1.31's STAR export of the same picks holds the same positions."""
    import starfile
    from copick.util.relion import picks_to_df_relion

    made = create_copick_project(tmp_path / "project", OBJECTS)
    write_run(made, [tomogram("TS_2")], picks_of("TS_2"))
    (path,) = export_picks(made, "relion5", tmp_path / "p.star", ExportOptions(objects=["ribosome"]))
    ours = starfile.read(path, always_dict=True)["particles"]
    (theirs,) = made.root.get_run("TS_2").get_picks(object_name="ribosome")
    table = picks_to_df_relion(theirs)
    columns = [f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"]
    np.testing.assert_allclose(ours[columns].to_numpy(float), table[columns].to_numpy(float), atol=1e-4)
    np.testing.assert_allclose(ours["rlnAutopickFigureOfMerit"], picks_of("TS_2").of("ribosome").scores, atol=1e-6)


def test_pyramid_level_and_several_spacings(tmp_path):
    made = create_copick_project(tmp_path / "project", OBJECTS)
    fine = tomogram("TS_1")
    write_run(
        made, [fine, Tomogram("TS_1", fine.values[:10, :20, :30], Grid((10, 20, 30), 20.5), "wbp")], picks_of("TS_1")
    )
    options = ExportOptions(objects=["ribosome"])
    with pytest.raises(SelectionError, match=r"`tomo_type`: denoised@10.000, wbp@20.500"):
        export_picks(made, "coords", tmp_path / "a.coords", options)
    coarse = Runs(made, tomo_type="denoised@20")
    (level,) = export_picks(coarse, "coords", tmp_path / "l.coords", options)
    wanted = (picks_of("TS_1").of("ribosome").positions[:, ::-1] / 10 - 0.5) / 2
    np.testing.assert_allclose(np.loadtxt(level), wanted, atol=1e-3)
    # RELION counts Å from the middle: which tomogram is meant does not matter, and the level's rounded size must not.
    (a,) = export_picks(made, "relion5", tmp_path / "a.star", options)
    (b,) = export_picks(coarse, "relion5", tmp_path / "b.star", options)
    assert a.read_text().split("data_particles")[1] == b.read_text().split("data_particles")[1]


def test_picks_and_tomograms_in_different_places(tmp_path):
    """What `tomopick pick` leaves: RUN.csv in one folder, the tomograms in another, under a longer name."""
    (tmp_path / "tomograms").mkdir()
    for run in SHAPES:
        write_mrc(tmp_path / "tomograms" / f"rec_{run}_10.00Apx.mrc", tomogram(run).values, 10.0)
        write_picks_csv(tmp_path / "picks" / f"{run}.csv", picks_of(run))
    picks, tomograms = open_project(tmp_path / "picks"), open_project(tmp_path / "tomograms")
    with pytest.raises(SelectionError, match="with `tomograms`"):
        export_picks(picks, "imod", tmp_path / "models", ExportOptions())
    files = export_picks(picks, "imod", tmp_path / "models", ExportOptions(tomograms=tomograms))
    assert sorted(p.name for p in files) == ["TS_1.mod", "TS_2.mod"]
    files = export_picks(picks, "coords", tmp_path / "c", ExportOptions(voxel_spacing=10.0))
    assert len(files) == 4
    with pytest.raises(SelectionError, match="`tomograms_star`"):
        export_picks(picks, "relion5", tmp_path / "p.star", ExportOptions(voxel_spacing=10.0))


def test_to_copick(project, tmp_path):
    (config,) = export_picks(project, "copick", tmp_path / "new", ExportOptions(user_id="me"))
    made = open_project(config)
    assert made.runs() == ["TS_1", "TS_2"]
    same(made.picks("TS_1", "*:me/0"), picks_of("TS_1"))
    export_picks(project, "copick", tmp_path / "new", ExportOptions(user_id="me"))  # as one who was cut off repeats it
    with pytest.raises(OutputError, match=r"has picks of me/0.*`session_id`"):
        export_picks(project, "copick", tmp_path / "new", ExportOptions(user_id="me", min_score=0.5))
    export_picks(project, "copick", tmp_path / "new", ExportOptions(user_id="me", session_id="1", min_score=0.5))
    assert len(open_project(config).picks("TS_1", "*:me/1")) < 8
    with pytest.raises(OutputError, match="no copick project"):
        export_picks(project, "copick", tmp_path / "x.json", ExportOptions())


def test_runs_without_the_picks_asked_for_are_left_out(project, tmp_path):
    project.write_picks(picks_of("TS_1"), "me", "1")
    (path,) = export_picks(Runs(project, picks="*:me/1"), "csv", tmp_path / "a.csv", ExportOptions())
    assert "TS_2" not in path.read_text() and path.read_text().count("TS_1") == 8
    with pytest.raises(SelectionError, match="several picks of"):
        export_picks(project, "csv", tmp_path / "b.csv", ExportOptions())
    with pytest.raises(SelectionError, match=r"no picks '\*:you/1'"):
        export_picks(Runs(project, picks="*:you/1"), "csv", tmp_path / "b.csv", ExportOptions())


def test_unmatched_are_listed(project, tmp_path, told):
    (path,) = export_picks(project, "csv", tmp_path / "a.csv", ExportOptions())
    path.write_text(path.read_text().replace("TS_2", "Position_9"))
    empty = fresh()
    report = import_picks([path], empty, ImportOptions())
    assert report.unmatched == ("Position_9",) and list(report.counts) == ["TS_1"]
    assert any(line.startswith("no run for 'Position_9'") for line in told)
    path.write_text(path.read_text().replace("TS_1", "Position_8"))
    with pytest.raises(SelectionError, match="the files name Position_8, Position_9"):
        import_picks([path], empty, ImportOptions())


def test_outside_is_said(project, tmp_path, told):
    (path,) = export_picks(project, "relion4", tmp_path / "a_ribosome.star",
                           ExportOptions(objects=["ribosome"], tilt_series_pixel_size=2.5))  # fmt: skip
    options = ImportOptions(pixel_size=5.0)
    report = import_picks([path], fresh(), options)
    assert report.outside["TS_1"] > 0 and "lie outside the tomogram and are kept" in told[-1]
    report = import_picks([path], fresh(), replace(options, drop_outside=True))
    assert sum(report.counts["TS_1"].values()) == 4 - report.outside["TS_1"]


def test_import_refuses(project, tmp_path):
    (path,) = export_picks(Runs(project, ["TS_1"]), "csv", tmp_path / "a.csv", ExportOptions())
    with pytest.raises(OutputError, match="run TS_1 has picks already"):
        import_picks([path], project, ImportOptions(user_id="tomopick"))
    import_picks([path], project, ImportOptions(user_id="tomopick", overwrite=True))
    path.write_text(path.read_text().replace("apo-ferritin", "apo-feritin"))
    with pytest.raises(SelectionError, match="did you mean 'apo-ferritin'"):
        import_picks([path], fresh(), ImportOptions())
    with pytest.raises(ReadError, match="no such file"):
        import_picks([tmp_path / "nothing.csv"], fresh(), ImportOptions())
    star = _touch(tmp_path / "b.star", "data_particles\n\nloop_\n_rlnTomoName #1\n_rlnSomething #2\nTS_1 1\n\n")
    with pytest.raises(ReadError, match="no block with coordinates"):
        import_picks([star], fresh(), ImportOptions())


def test_coordinate_offset_is_taken_out_and_put_back(tmp_path):
    """Exported are true voxels: a data set's own offset is no part of another program's file."""
    (tmp_path / "t").mkdir()
    write_mrc(tmp_path / "t" / "TS_1.mrc", tomogram("TS_1").values, 10.0)
    write_picks_csv(tmp_path / "t" / "TS_1.csv", picks_of("TS_1").of("ribosome"))
    project = open_project(tmp_path / "t", coordinate_offset="czii")
    (path,) = export_picks(project, "coords", tmp_path / "a.coords", ExportOptions())
    wanted = picks_of("TS_1").of("ribosome").positions[:, ::-1] / 10 + 0.5
    np.testing.assert_allclose(np.loadtxt(path), wanted, atol=1e-3)


def test_portals_names_reach_our_objects(tmp_path):
    rows = [{"type": "point", "location": {"x": 3.0, "y": 4.0, "z": 5.0}}]
    path = _touch(tmp_path / "TS_1.ndjson", "\n".join(map(json.dumps, rows)))
    empty = fresh()
    import_picks([path], empty, ImportOptions(name="ribosome"))
    np.testing.assert_allclose(empty.picks("TS_1").positions, [[50.0, 40.0, 30.0]])
    table = _touch(tmp_path / "a.csv", "run,object,x,y,z\nTS_1,ferritin-complex,30,40,50\n")
    report = import_picks([table], empty, ImportOptions(session_id="1"))
    assert report.counts == {"TS_1": {"apo-ferritin": 1}}


class LocalS3:
    """Stands for the portal's bucket."""

    def __init__(self, **_):
        pass

    def open(self, path, mode):
        return open(path, mode)


def test_portal_project_is_a_source(project, tmp_path, monkeypatch):
    """The portal's answers from a stand-in: its names and types come through copick, points in our own ndjson too."""
    import s3fs
    from copick.impl.cryoet_data_portal import CopickRootCDP

    from tomopick.data.new_project import portal_config

    points = export_picks(Runs(project, ["TS_1"]), "ndjson", tmp_path / "n", ExportOptions(objects=["ribosome"]))
    shape = {"id": 3, "annotation_id": 2, "shape_type": "Point"}
    file = {"id": 4, "annotation_shape_id": 3, "format": "ndjson", "s3_path": str(points[0]), "https_path": "",
            "tomogram_voxel_spacing_id": 5, "source": "community"}  # fmt: skip
    answers = {
        "runs": [{"id": 16463, "name": "TS_1", "dataset_id": 10440}],
        "annotations": [{"id": 2, "run_id": 16463, "object_id": "GO:0022626", "object_name": "cytosolic ribosome"}],
        "annotation_shapes": [shape],
        "annotation_files": [file],
        "voxel_spacings": [{"id": 5, "run_id": 16463, "voxel_spacing": 10.0}],
        "tomograms": [{"id": 6, "tomogram_voxel_spacing_id": 5, "processing": "denoised", "voxel_spacing": 10.0,
                       "s3_omezarr_dir": "s3://nowhere/a.zarr", "processing_software": "denoiset",
                       "reconstruction_method": "WBP", "ctf_corrected": True}],
    }  # fmt: skip
    monkeypatch.setenv("COPICK_PORTAL_CACHE", "0")
    monkeypatch.setattr(CopickRootCDP, "_fetch_portal_data", lambda self: answers)
    monkeypatch.setattr(s3fs, "S3FileSystem", LocalS3)
    source = open_project(portal_config([10440], tmp_path / "portal", ["ribosome:150"]))
    assert source.runs() == ["16463"] and [o.name for o in source.objects] == ["cytosolic-ribosome"]
    found = source.picks("16463", "cytosolic-ribosome:data-portal/*")
    np.testing.assert_allclose(found.positions, picks_of("TS_1").of("ribosome").positions, atol=1e-3)
    assert source.tomo_types("16463") == ["wbp-denoised-denoiset-ctfdeconv@10.000"]


def test_mlcroissant_project_is_a_source(tmp_path):
    """A Croissant that copick made of a project on disk: read like any other project, and written to its overlay."""
    import warnings

    from copick.ops.croissant import export_croissant

    made = create_copick_project(tmp_path / "project", OBJECTS)
    write_run(made, [tomogram("TS_1")], picks_of("TS_1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = {"dataset_name": "a", "description": "b", "license": "CC0", "cite_as": "c"}
        export_croissant(made.root, str(tmp_path / "project"), base_url=f"file://{tmp_path / 'project'}", **text)
        config = {
            "config_type": "mlcroissant", "name": "a", "version": "1", "overlay_root": f"local://{tmp_path / 'mine'}",
            "overlay_fs_args": {"auto_mkdir": True},
            "croissant_url": str(tmp_path / "project" / "Croissant" / "metadata.json"),
            "pickable_objects": [o.model_dump() for o in made.root.config.pickable_objects],
        }  # fmt: skip
        source = open_project(_touch(tmp_path / "croissant.json", json.dumps(config)))
        assert source.runs() == ["TS_1"] and source.tomo_types("TS_1") == ["denoised@10.000"]
        same(source.picks("TS_1"), picks_of("TS_1"))
        np.testing.assert_array_equal(source.tomogram("TS_1").values, tomogram("TS_1").values)
        source.write_picks(picks_of("TS_1"), "me", "1")
        same(source.picks("TS_1", "*:me/1"), picks_of("TS_1"))
        (path,) = export_picks(Runs(source, picks="*:me/1"), "csv", tmp_path / "a.csv", ExportOptions())
    assert len(path.read_text().splitlines()) == 9


def test_imod_to_warp(tmp_path):
    """warpem/warp#195: a model of IMOD's, as Warp's table, at the same voxel."""
    import warnings

    import pandas as pd
    import starfile
    from imodmodel.models import ContourType, ImodModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        points = pd.DataFrame({"x": [30.5], "y": [12.5], "z": [7.0]})
        ImodModel.from_dataframe(points, type=ContourType.SCATTERED).to_file(tmp_path / "TS_1.mod")
    empty = fresh()
    import_picks([tmp_path / "TS_1.mod"], empty, ImportOptions(name="ribosome"))
    (path,) = export_picks(empty, "warp", tmp_path / "a.star", ExportOptions())
    row = starfile.read(path, always_dict=True)[""]
    assert [float(np.ravel(row[f"rlnCoordinate{a}"])[0]) for a in "XYZ"] == [30.0, 12.0, 7.0]
