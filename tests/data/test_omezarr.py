"""OME-Zarr volumes and their pyramids."""

import json

import numpy as np
import pytest
import zarr

from projects import means, ome_zarr, volume
from real_data import DATA, needs_data
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.presets import CZII_VOXEL_SPACING
from tomopick.core.types import Grid
from tomopick.data import open_project, read_volume
from tomopick.data.volumes.volumes import volume_grids


def test_pyramid_offset(tmp_path):
    """A blob at level-0 index c is at the same place in Å on level 1, whose index is (c - 0.5) / 2."""
    centre = np.array([7.0, 12.0, 9.0])
    z, y, x = np.indices((16, 24, 20))
    blob = np.exp(-((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2) / 8).astype(np.float32)
    path = ome_zarr(tmp_path / "A.zarr", [blob, means(blob), means(means(blob))], 10.0)
    project = open_project(path)
    for query, n in (("@10", 24), ("@20", 12), ("@40.5", 6)):
        tomogram = project.tomogram("A", query)
        assert tomogram.grid.shape[1] == n == tomogram.values.shape[1]
        weights = tomogram.values / tomogram.values.sum()
        index = [float((weights * i).sum()) for i in np.indices(weights.shape)]
        np.testing.assert_allclose(tomogram.grid.positions(np.array([index]))[0], centre * 10.0, atol=0.5)
    assert project.grid("A", "@20") == Grid((16, 24, 20), 10.0).downsample(2)
    with pytest.raises(SelectionError, match=r"no tomogram '@13'; there is @10\.000, @20\.000, @40\.000"):
        project.grid("A", "@13")


def test_stated_translation_wins(tmp_path):
    path = ome_zarr(tmp_path / "A.zarr", [volume(), means(volume())])
    group = zarr.open_group(str(path), mode="a")
    multiscales = group.attrs["multiscales"]
    multiscales[0]["datasets"][1]["coordinateTransformations"].append({"type": "translation", "translation": [1, 2, 3]})
    group.attrs["multiscales"] = multiscales
    assert volume_grids(path)[1].origin == (1.0, 2.0, 3.0)


def test_only_the_chosen_level_is_read(tmp_path):
    path = ome_zarr(tmp_path / "A.zarr", [volume(), means(volume())])
    for chunk in (path / "s0").glob("[0-9]*/*/*"):
        chunk.write_bytes(b"broken")
    np.testing.assert_array_equal(read_volume(path, 1)[0], means(volume()))
    with pytest.raises(ReadError, match="level s0 cannot be read"):
        read_volume(path, 0)


def test_zarr_metadata_forms(tmp_path):
    nanometer = ome_zarr(tmp_path / "A.zarr", [volume()], 1.5, "nanometer")
    assert volume_grids(nanometer)[0].voxel_spacing == pytest.approx(15.0)
    path = ome_zarr(tmp_path / "B.zarr", [volume().astype("i2")])
    group = zarr.open_group(str(path), mode="a")
    group.attrs.put({"ome": {"multiscales": group.attrs["multiscales"], "version": "0.5"}})
    values, grid = read_volume(path)
    assert values.dtype == np.float32 and grid.voxel_spacing == 10.0


@needs_data
def test_real_czii_metadata(tmp_path):
    source = DATA / "zarr_metadata"
    path = tmp_path / "A.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.attrs.put(json.loads((source / ".zattrs").read_text()))
    for name, shape in (("0", (184, 630, 630)), ("1", (92, 315, 315)), ("2", (46, 158, 158))):
        group.create_dataset(name, shape=shape, chunks=(256, 256, 256), dtype="f4")
    fine, middle, coarse = volume_grids(path)
    assert fine.voxel_spacing == pytest.approx(CZII_VOXEL_SPACING, abs=1e-5) and fine.shape == (184, 630, 630)
    np.testing.assert_allclose(middle.origin, fine.voxel_spacing / 2, atol=1e-5)
    np.testing.assert_allclose(coarse.origin, 1.5 * fine.voxel_spacing, atol=1e-5)


BAD_ZARR = {
    "axes": (lambda p: ome_zarr(p, [volume()], axes="xyz"), "axes .* expected z, y, x"),
    "4d": (lambda p: ome_zarr(p, [volume()], axes="czyx"), "axes"),
    "unit": (lambda p: ome_zarr(p, [volume()], unit="parsec"), "units .*parsec"),
    "array": (lambda p: zarr.save_array(str(p), volume()), "cannot be read as Zarr"),
    "plain group": (lambda p: zarr.open_group(str(p), mode="w"), "no multiscales"),
    "zarr 3": (lambda p: (p.mkdir(), (p / "zarr.json").write_text("{}")), "Zarr 3"),
    "no level": (lambda p: (ome_zarr(p, [volume()]), (p / "s0" / ".zarray").unlink()), "level 's0'"),
    "flat": (lambda p: ome_zarr(p, [volume()[0]]), r"level 's0' is \(12, 14\)"),
    "negative": (lambda p: ome_zarr(p, [volume()], spacing=-1.0), "positive"),
    "json": (lambda p: (ome_zarr(p, [volume()]), (p / ".zattrs").write_text("{")), "no multiscales"),
    "one angstrom": (lambda p: ome_zarr(p, [volume()], spacing=1.0), "voxel size 1 x 1 x 1 .*--voxel-spacing"),
    "image": (lambda p: ome_zarr(p, [volume((1, 12, 14))]), "single image"),
    "not rotated": (lambda p: ome_zarr(p, [volume((32, 8, 24))]), "thin along y, not z"),
    "exchanged": (lambda p: ome_zarr(p, [volume((32, 24, 8))]), "thin along x, not z"),
    "not cubes": (lambda p: ome_zarr(p, [volume()], spacing=np.array([10.0, 10.0, 13.0])), "not cubes"),
    "constant": (lambda p: ome_zarr(p, [np.zeros((4, 4, 4), np.float32)]), "all voxels are 0"),
}


@pytest.mark.parametrize("name", BAD_ZARR)
@pytest.mark.filterwarnings("ignore::UserWarning:zarr")
def test_bad_zarr(tmp_path, name):
    make, message = BAD_ZARR[name]
    path = tmp_path / "A.zarr"
    if name == "flat":
        group = zarr.open_group(str(path), mode="w")
        group.create_dataset("s0", data=volume()[0])
        scale = [{"type": "scale", "scale": [10.0] * 3}]
        group.attrs["multiscales"] = [{"datasets": [{"path": "s0", "coordinateTransformations": scale}]}]
    else:
        make(path)
    with pytest.raises(ReadError, match=message) as caught:
        read_volume(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_zarr_without_scale(tmp_path):
    path = ome_zarr(tmp_path / "A.zarr", [volume()])
    group = zarr.open_group(str(path), mode="a")
    group.attrs["multiscales"] = [{"datasets": [{"path": "s0"}]}]
    with pytest.raises(ReadError, match="--voxel-spacing"):
        volume_grids(path)
    assert volume_grids(path, 7.0)[0].voxel_spacing == 7.0
