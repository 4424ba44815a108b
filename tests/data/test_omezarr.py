"""OME-Zarr volumes and their pyramids."""

import copy
import gzip
import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, Zstd

from projects import means, ome_zarr, volume
from real_data import DATA, needs_data
from tomopick.core.errors import ReadError, SelectionError
from tomopick.core.presets import CZII_VOXEL_SPACING
from tomopick.core.types import Grid, Tomogram
from tomopick.data import FolderProject, open_project, read_volume
from tomopick.data.volumes.ngff import read_multiscale
from tomopick.data.volumes.slabs import volume_slabs
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


def as_the_portal_writes() -> dict:
    """Pixel sizes that differ in the seventh digit, scales alone, levels named by number."""
    axes = [{"name": a, "type": "space", "unit": "angstrom"} for a in "zyx"]
    fine = (10.0124442, 10.0124442, 10.0124445)
    levels = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [v * 2**k for v in fine]}]}
        for k in range(3)
    ]
    return {"multiscales": [{"axes": axes, "datasets": levels, "metadata": {}, "name": "/", "version": "0.4"}]}


@pytest.mark.parametrize("whose", ["ours", pytest.param("real", marks=needs_data)])
def test_czii_metadata(tmp_path, whose):
    path = tmp_path / "A.zarr"
    group = zarr.open_group(str(path), mode="w")
    real = DATA / "zarr_metadata" / ".zattrs"
    group.attrs.put(json.loads(real.read_text()) if whose == "real" else as_the_portal_writes())
    for name, shape in (("0", (184, 630, 630)), ("1", (92, 315, 315)), ("2", (46, 158, 158))):
        group.create_dataset(name, shape=shape, chunks=(256, 256, 256), dtype="f4")
    fine, middle, coarse = volume_grids(path)
    assert fine.voxel_spacing == pytest.approx(CZII_VOXEL_SPACING, abs=1e-5) and fine.shape == (184, 630, 630)
    np.testing.assert_allclose(middle.origin, fine.voxel_spacing / 2, atol=1e-5)
    np.testing.assert_allclose(coarse.origin, 1.5 * fine.voxel_spacing, atol=1e-5)


BAD_ZARR = {
    "axes": (lambda p: ome_zarr(p, [volume()], axes="xyz"), "axes .* expected z, y, x"),
    "4d": (lambda p: ome_zarr(p, [volume()], axes="czyx"), "expected 4 numbers"),
    "unit": (lambda p: ome_zarr(p, [volume()], unit="parsec"), "units .*parsec"),
    "array": (lambda p: zarr.save_array(str(p), volume()), "cannot be read as Zarr"),
    "plain group": (lambda p: zarr.open_group(str(p), mode="w"), "no multiscales"),
    "zarr 3": (lambda p: (p.mkdir(), (p / "zarr.json").write_text("{}")), "zarr_format 3"),
    "no level": (lambda p: (ome_zarr(p, [volume()]), (p / "s0" / ".zarray").unlink()), "level 's0'"),
    "flat": (lambda p: ome_zarr(p, [volume()[0]]), r"level 's0' is \(12, 14\)"),
    "negative": (lambda p: ome_zarr(p, [volume()], spacing=-1.0), "positive"),
    "json": (lambda p: (ome_zarr(p, [volume()]), (p / ".zattrs").write_text("{")), "cannot be read as Zarr"),
    "one angstrom": (lambda p: ome_zarr(p, [volume()], spacing=1.0), "voxel size 1 x 1 x 1 .*`voxel_spacing`"),
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
    with pytest.raises(ReadError, match="`voxel_spacing`"):
        volume_grids(path)
    assert volume_grids(path, 7.0)[0].voxel_spacing == 7.0


def with_axes(path, values, names, unit="angstrom"):
    """One level with whatever axes lie before z, y, x."""
    group = zarr.open_group(str(path), mode="w")
    group.create_dataset("0", data=values, chunks=(1,) * (values.ndim - 3) + (4, 4, 4))
    scale = [{"type": "scale", "scale": [1.0] * (values.ndim - 3) + [10.0] * 3}]
    axes = [{"name": n, "type": "space", "unit": unit} if n in "zyx" else {"name": n} for n in names]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    return path


@pytest.mark.parametrize(
    ("unit", "spacing"), [("nm", 100.0), ("Å", 10.0), ("Angstrom", 10.0), ("pm", 0.1), ("um", 1e5)]
)
def test_units_as_people_write_them(tmp_path, unit, spacing):
    (grid,) = volume_grids(with_axes(tmp_path / "A.zarr", volume(), "zyx", unit))
    assert grid.voxel_spacing == pytest.approx(spacing)


@pytest.mark.parametrize("names", ["czyx", "tczyx"])
def test_axes_of_length_one(tmp_path, names):
    values = volume()
    path = with_axes(tmp_path / "A.zarr", values.reshape((1,) * (len(names) - 3) + values.shape), names)
    found, grid = read_volume(path)
    np.testing.assert_array_equal(found, values)
    assert grid.shape == values.shape
    np.testing.assert_array_equal(volume_slabs(path).read(2, 5), values[2:5])
    two = with_axes(tmp_path / "B.zarr", np.stack([values, values]).reshape((2, 1, *values.shape)), "tczyx")
    with pytest.raises(ReadError, match="several channels or times"):
        read_volume(two)


@pytest.mark.parametrize("fill", [0, None])
def test_chunks_that_are_missing(tmp_path, caplog, fill):
    values = volume((32, 32, 32))
    path = tmp_path / "A.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_dataset("0", data=values, chunks=(16, 16, 16), dimension_separator="/", fill_value=fill)
    scale = [{"type": "scale", "scale": [10.0] * 3}]
    group.attrs["multiscales"] = [{"datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    (path / "0" / "1" / "0" / "1").unlink()
    with caplog.at_level("WARNING"):
        found, grid = read_volume(path)
    assert "lacks 1 of its 8 chunks" in caplog.text
    void = Tomogram("A", found, grid).void
    assert void[16:, :16, 16:].all() and void.sum() == 16**3
    for name in ("0/0/0", "0/0/1", "0/1/0", "0/1/1"):
        (path / "0" / name).unlink()
    with pytest.raises(ReadError, match="lacks 5 of its 8 chunks"):
        read_volume(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "multiscales": [
        {
            "axes": [{"name": n, "type": "space", "unit": "angstrom"} for n in "zyx"],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [10.0, 10.0, 10.0]},
                        {"type": "translation", "translation": [0.0, 0.0, 0.0]},
                    ],
                }
            ],
        }
    ]
}


def places(value, path=()):
    """Where something may be put in place of what is there."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


@settings(max_examples=400, derandomize=True)
@given(st.sampled_from(list(places(GOOD))), JSON)
def test_any_metadata_is_read_or_refused_in_one_line(place, anything):
    data = copy.deepcopy(GOOD)
    if place:
        at = data
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = anything
    else:
        data = anything
    try:
        read_multiscale(data, "A.zarr")
    except ReadError as error:
        assert "A.zarr" in str(error) and "\n" not in str(error) and len(str(error)) < 300


def zarr_3(path, values, codecs, chunk, inner=None, order=None):
    """A volume as NGFF 0.5 and Zarr 3 have it, written by hand."""
    tail = [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs]
    if order:
        tail.insert(0, {"name": "transpose", "configuration": {"order": list(order)}})
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    within = {"chunk_shape": list(inner or chunk), "codecs": tail, "index_codecs": index}
    sharded = [{"name": "sharding_indexed", "configuration": within}]
    node = {
        "zarr_format": 3, "node_type": "array", "shape": list(values.shape), "data_type": str(values.dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": sharded if inner else tail, "attributes": {},
    }  # fmt: skip
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    pyramid = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    (path / "0").mkdir(parents=True)
    ome = {"ome": {"version": "0.5", "multiscales": [pyramid]}}
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": ome}))
    (path / "0" / "zarr.json").write_text(json.dumps(node))

    def packed(part):
        data = part.transpose(order or range(3)).tobytes()
        for codec in codecs:
            data = {"gzip": gzip.compress, "zstd": Zstd().encode, "blosc": Blosc().encode}[codec["name"]](data)
        return bytes(data)

    def cut(array, index, shape):
        part = np.zeros(shape, array.dtype)
        there = array[tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, shape))]
        part[tuple(slice(n) for n in there.shape)] = there
        return part

    for index in np.ndindex(*[-(-n // c) for n, c in zip(values.shape, chunk)]):
        part = cut(values, index, chunk)
        if not part.any():
            continue
        data = b""
        if inner:
            rows = []
            for k in np.ndindex(*[n // c for n, c in zip(chunk, inner)]):
                piece = packed(cut(part, k, inner))
                rows.append([len(data), len(piece)])
                data += piece
            data += np.array(rows, dtype="<u8").tobytes() + b"crc!"
        else:
            data = packed(part)
        file = path / "0" / "c" / "/".join(map(str, index))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc"])
@pytest.mark.parametrize("inner", [None, (4, 4, 8)])
@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_zarr_3(tmp_path, codec, inner, order):
    values = volume((10, 12, 21))
    codecs = [] if codec == "none" else [{"name": codec, "configuration": {}}]
    path = zarr_3(tmp_path / "A.zarr", values, codecs, (8, 8, 16), inner, order)
    found, grid = read_volume(path)
    np.testing.assert_array_equal(found, values)
    assert grid.voxel_spacing == 10.0 and grid.shape == values.shape
    np.testing.assert_array_equal(volume_slabs(path).read(3, 9), values[3:9])
    assert FolderProject(tmp_path).runs() == ["A"]


def test_zarr_3_that_is_damaged(tmp_path):
    path = zarr_3(tmp_path / "A.zarr", volume((8, 8, 8)), [{"name": "blosc", "configuration": {}}], (4, 4, 4))
    chunk = path / "0" / "c" / "0" / "0" / "0"
    for data in (b"", chunk.read_bytes()[:-9], b"\x02\x01" + b"\xff" * 60):
        chunk.write_bytes(data)
        with pytest.raises(ReadError, match=r"chunk .* cannot be decoded"):
            read_volume(path)
    node = json.loads((path / "0" / "zarr.json").read_text())
    for key in ("shape", "data_type", "chunk_grid", "codecs", "fill_value", "chunk_key_encoding"):
        for wrong in (None, "x", [], {}, -1, [{"name": "pickle"}]):
            (path / "0" / "zarr.json").write_text(json.dumps({**node, key: wrong}))
            with pytest.raises(ReadError) as caught:
                read_volume(path)
            assert "\n" not in str(caught.value)
