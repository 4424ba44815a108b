"""What is wrong with files of volumes, said so that somebody can mend it."""

import gzip
import os

import mrcfile
import numpy as np
import pytest
import zarr

from projects import ome_zarr, volume
from tomopick.core.errors import ReadError
from tomopick.data import open_project, read_volume
from tomopick.data.volumes import checks
from tomopick.data.volumes import mrc as mrc_module
from tomopick.data.volumes.volumes import contents_mark, volume_grids


def mrc(path, values=None, **header):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(volume((12, 16, 20)) if values is None else values)
        file.voxel_size = 10.0
        file.set_volume()
        for name, value in header.items():
            file.header[name] = value
    return path


def test_an_extended_header_that_is_not_there(tmp_path):
    path = mrc(tmp_path / "A.mrc", nsymbt=57600)
    with pytest.raises(ReadError, match="promises an extended header of 57600 bytes that is not there"):
        volume_grids(path)


def test_more_than_the_header_says(tmp_path, caplog):
    path = mrc(tmp_path / "A.mrc")
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(3))
    with caplog.at_level("WARNING"):
        assert read_volume(path)[0].shape == (12, 16, 20)
    assert "3 bytes behind its voxels" in caplog.text
    path.write_bytes(whole + bytes(2 * 4 * 16 * 20))
    with pytest.raises(ReadError, match="2 sections more"):
        read_volume(path)


@pytest.mark.parametrize("kind", [b"FEI1", b"SERI"])
def test_a_volume_with_a_tilt_series_header_can_be_insisted_on(tmp_path, kind):
    def made(name):
        path = mrc(tmp_path / name)
        with mrcfile.open(path, mode="r+") as file:
            file.set_extended_header(np.zeros(768, dtype="V1"))
            file.header.exttyp = kind
        return path

    with pytest.raises(ReadError, match="`voxel_spacing`"):
        volume_grids(made("A.mrc"))
    assert volume_grids(made("A.mrc"), 8.0)[0].voxel_spacing == 8.0
    assert read_volume(made("A_rec.mrc"))[1].voxel_spacing == 10.0


def test_names_in_capitals(tmp_path):
    mrc(tmp_path / "TS_01.MRC")
    mrc(tmp_path / "TS_02.REC")
    (tmp_path / "TS_01.CSV").write_text("object,x,y,z\nball,50,50,50\n")
    project = open_project(tmp_path)
    assert project.runs() == ["TS_01", "TS_02"] and project.tomogram("TS_02").values.shape == (12, 16, 20)
    assert len(project.picks("TS_01")) == 1


@pytest.mark.filterwarnings("ignore:Data array contains NaN:RuntimeWarning")
def test_voxels_that_are_not_finite_become_the_mean(tmp_path):
    values = volume((12, 16, 20))
    values[3, 4:9, 5] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    finite = np.isfinite(values)
    found, _ = read_volume(mrc(tmp_path / "A.mrc", values))
    np.testing.assert_allclose(found[~finite], values[finite].mean(), rtol=1e-5)
    np.testing.assert_array_equal(found[finite], values[finite])


def test_voxels_rewritten_in_place_are_noticed(tmp_path):
    path = ome_zarr(tmp_path / "A.zarr", [volume()])
    before = contents_mark(path)
    assert contents_mark(path) == before
    zarr.open_group(str(path), mode="a")["s0"][:4] = 7.0
    assert contents_mark(path) != before


def altered(path, at, value, kind="<i4"):
    data = bytearray(path.read_bytes())
    data[at : at + 4] = np.array(value, dtype=kind).tobytes()
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("name", ["A.mrc", "A.mrc.gz"])
@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(4, 2**31 - 1, "truncated|cannot hold"), (92, 2**31 - 1, "extended header"), (92, -4, "extended header"),
     (0, -1, "not an MRC"), (40, 1e30, "voxels of|voxel size"), (40, np.nan, "not set"), (40, 0.0, "not set")],
)  # fmt: skip
def test_headers_that_promise_too_much_take_no_room(tmp_path, name, at, value, message):
    path = altered(mrc(tmp_path / "A.mrc"), at, value, "<i4" if isinstance(value, int) else "<f4")
    if name.endswith(".gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress((tmp_path / "A.mrc").read_bytes()))
    with pytest.raises(ReadError, match=f"{name}: .*({message})"):
        read_volume(path)


class Full:
    """NumPy where there is no memory."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def empty(*_arguments, **_more):
        raise MemoryError


def test_volumes_for_which_there_is_no_memory(tmp_path, monkeypatch):
    mrc(tmp_path / "A.mrc")
    ome_zarr(tmp_path / "Z.zarr", [volume((12, 16, 20))])
    monkeypatch.setattr(checks, "np", Full())
    for name in ("A.mrc", "Z.zarr"):
        with pytest.raises(ReadError, match=rf"{name}.*no memory; bin it"):
            read_volume(tmp_path / name)


def test_what_packs_too_well_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(mrc_module, "LARGE", 10_000)
    path = tmp_path / "A.mrc.gz"
    path.write_bytes(gzip.compress(mrc(tmp_path / "A.mrc", np.zeros((64, 64, 64), "f4")).read_bytes()))
    with pytest.raises(ReadError, match="no tomogram with noise in it packs as small"):
        volume_grids(path)
    path.write_bytes(gzip.compress(mrc(tmp_path / "A.mrc", volume((64, 64, 64))).read_bytes()))
    assert volume_grids(path)[0].shape == (64, 64, 64)


@pytest.mark.parametrize("shape", [(2, 0, 2), (2**20, 2**20, 2**20)])
def test_shapes_that_no_volume_has(shape):
    with pytest.raises(ReadError, match=r"it: .*in its header"):
        checks.require_room(shape, "it")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("inside", [".zattrs", "s0/.zarray", "s0/0/0/0"])
def test_pipes_within_a_store_are_not_waited_for(tmp_path, inside):
    place = ome_zarr(tmp_path / "Z.zarr", [volume((12, 16, 20))]) / inside
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(ReadError, match=r"pipe|no file"):
        read_volume(tmp_path / "Z.zarr")
