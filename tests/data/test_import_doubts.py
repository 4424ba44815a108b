"""What files of others leave open, and what of it may not be guessed."""

import numpy as np
import pytest

from tomopick.core.errors import ReadError, SelectionError, TomopickError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import MemoryProject
from tomopick.data.formats import read_tomograms_star
from tomopick.data.importing import ImportOptions, import_picks

SHAPE, SPACING = (30, 40, 50), 10.0


def project(*runs):
    made = MemoryProject([PickableObject("ball", 60.0)])
    for run in runs:
        values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        made.add(Tomogram(run, values, Grid(SHAPE, SPACING), "wbp"))
    return made


def touch(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(into, run):
    return into.picks(run, "*:imported/0").positions[:, ::-1].tolist()


@pytest.mark.parametrize("folder", ["TS_9", "rec_TS_9", "ts_09_10.00Apx"])
@pytest.mark.parametrize("runs", [("TS_1",), ("TS_1", "TS_2")])
def test_a_folder_that_is_called_after_another_tomogram_is_not_passed_over(tmp_path, folder, runs):
    path = touch(tmp_path / "TS_1" / folder / "picks.coords", "10 20 5\n")
    with pytest.raises(SelectionError, match="nothing for the runs"):
        import_picks([path], project(*runs), ImportOptions(name="ball"))


@pytest.mark.parametrize("folder", ["2026-11-27", "job012", "user7", "9"])
def test_folders_of_dates_jobs_and_users_are_no_tomograms(tmp_path, folder):
    path = touch(tmp_path / "TS_1" / folder / "picks.coords", "10 20 5\n")
    into = project("TS_1", "TS_2")
    import_picks([path], into, ImportOptions(name="ball"))
    assert found(into, "TS_1") == [[100, 200, 50]]


CENTRED = "".join(f"_rlnCenteredCoordinate{a}Angst\n" for a in "XYZ")
IN_ANGSTROM = {
    "a.star": f"data_particles\n\nloop_\n_rlnTomoName\n{CENTRED}TS_1 -150 0 -100\n",
    "m.star": "data_particles\n\nloop_\n_wrpSourceName\n_wrpCoordinateX1\n_wrpCoordinateY1\n_wrpCoordinateZ1\n"
    "TS_1.tomostar 100 200 50\n",
    "TS_1.json": '{"pickable_object_name": "ball", "user_id": "a", "session_id": "0", "run_name": "TS_1", "points": '
    '[{"location": {"x": 100, "y": 200, "z": 50}}]}',
}  # fmt: skip


@pytest.mark.parametrize("name", IN_ANGSTROM)
def test_a_pixel_size_that_does_not_count_is_said(tmp_path, name, told):
    path = touch(tmp_path / name, IN_ANGSTROM[name])
    into = project("TS_1")
    import_picks([path], into, ImportOptions(name="ball", pixel_size=2.0))
    assert found(into, "TS_1") == [[100, 200, 50]]
    assert sum("its coordinates are in Å, so that `pixel_size` does not count for them" in line for line in told) == 1


def test_lists_that_name_each_other_are_refused(tmp_path):
    rows = "data_\n\nloop_\n_rlnTomoName\n_rlnTomoImportParticleFile\nTS_1 "
    touch(tmp_path / "b.star", f"{rows}{tmp_path / 'a.star'}\n")
    path = touch(tmp_path / "a.star", f"{rows}{tmp_path / 'b.star'}\n")
    with pytest.raises(ReadError, match="is a list of files, and named in one"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))


def test_each_row_of_a_dynamo_table_counts_in_its_own_voxels(tmp_path):
    def row(x, y, z, apix):
        columns = ["0"] * 36
        columns[19], columns[23:26], columns[35] = "1", map(str, (x, y, z)), str(apix)
        return " ".join(columns)

    path = touch(tmp_path / "TS_1.tbl", "\n".join([row(10, 20, 5, 10), row(5, 10, 2.5, 20), row(10, 20, 5, 0)]) + "\n")
    into = project("TS_1")
    import_picks([path], into, ImportOptions(name="ball"))
    assert found(into, "TS_1") == [[100, 200, 50]] * 3


MICROGRAPHS = "\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"


def test_two_tables_of_particles_are_not_one(tmp_path):
    text = f"data_particles\n{MICROGRAPHS}TS_1 10 20 5\n\ndata_images\n{MICROGRAPHS}TS_1 11 21 6\n"
    path = touch(tmp_path / "a.star", text)
    with pytest.raises(ReadError, match="several blocks with coordinates among data_particles, data_images"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))


def test_an_optics_group_of_two_sizes_is_refused(tmp_path):
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 5\n1 10\n\n"
    rows = MICROGRAPHS.replace("_rlnCoordinateX", "_rlnOpticsGroup\n_rlnCoordinateX")
    path = touch(tmp_path / "a.star", f"{optics}data_particles\n{rows}TS_1 1 10 20 5\n")
    with pytest.raises(ReadError, match="rlnOpticsGroup 1 is there twice, with different rlnImagePixelSize"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))


def test_keywords_of_star_in_capitals(tmp_path):
    path = touch(tmp_path / "a.star", f"DATA_particles\n{MICROGRAPHS.replace('loop', 'LOOP')}TS_1 10 20 5\n")
    into = project("TS_1")
    import_picks([path], into, ImportOptions(name="ball"))
    assert found(into, "TS_1") == [[100, 200, 50]]


@pytest.mark.parametrize("name", ["rlnTomoSizeZ", "rlnTomoTiltSeriesPixelSize"])
@pytest.mark.parametrize("value", ["0", "-4"])
def test_sizes_in_tomograms_star_are_positive(tmp_path, name, value):
    row = {"rlnTomoName": "TS_1", **{f"rlnTomoSize{a}": "100" for a in "XYZ"}, "rlnTomoTiltSeriesPixelSize": "2"}
    row[name] = value
    path = touch(
        tmp_path / "t.star", "data_global\n\nloop_\n" + "".join(f"_{c}\n" for c in row) + " ".join(row.values())
    )
    with pytest.raises(ReadError, match=f"{name} is {value}; expected a positive number"):
        read_tomograms_star(path)


@pytest.mark.parametrize("apix", [0, -5])
def test_eman2_counts_in_a_positive_size(tmp_path, apix):
    path = touch(tmp_path / "TS_1_info.json", f'{{"boxes_3d": [[1, 2, 3, "m", 1, 0]], "apix_unbin": {apix}}}')
    with pytest.raises(ReadError, match=f"apix_unbin is {apix}; expected a positive number"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))


def test_the_run_that_a_picks_file_states_counts_whatever_the_file_is_called(tmp_path):
    path = touch(tmp_path / "TS_1.json", IN_ANGSTROM["TS_1.json"].replace('"TS_1"', '"TS_9"'))
    with pytest.raises(SelectionError, match="the files name TS_9"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))


NO_ROTATIONS = {"zero": np.zeros((3, 3)), "mirror": np.diag([-1, 1, 1]), "larger": 2 * np.eye(3),
                "shear": np.eye(3) + np.eye(3, k=1)}  # fmt: skip


@pytest.mark.parametrize("kind", NO_ROTATIONS)
def test_a_matrix_that_is_no_rotation_is_refused(tmp_path, kind):
    titles = ",".join(f"transform_{i}{j}" for i in range(3) for j in range(3))
    numbers = ",".join(map(str, NO_ROTATIONS[kind].ravel()))
    path = touch(tmp_path / "TS_1.csv", f"object,x,y,z,{titles}\nball,100,200,50,{numbers}\n")
    with pytest.raises(TomopickError, match="pick 1 of 1 has a matrix that is no rotation"):
        import_picks([path], project("TS_1"), ImportOptions(name="ball"))
    rounded = np.round([[[0.7071, -0.7071, 0], [0.7071, 0.7071, 0], [0, 0, 1]]], 2)
    assert len(Picks("A", np.zeros((1, 3)), np.array(["ball"]), rotations=rounded)) == 1
