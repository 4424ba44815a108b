"""Volumes, tables, offsets and atomic writing."""

import gzip
import logging
import os
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopick.core.errors import OutputError, ReadError, SelectionError
from tomopick.core.files import write_together
from tomopick.core.presets import CZII_VOXEL_SPACING
from tomopick.core.types import Grid, Picks
from tomopick.data import (
    CoordinateOffset,
    FolderProject,
    atomic_folder,
    atomic_write,
    read_picks_csv,
    read_volume,
    volume_grids,
    write_mrc,
    write_picks_csv,
)
from tomopick.data.tables import the_one

SHAPE = (6, 8, 10)
RAMP = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def mrc(path: Path, values: np.ndarray = RAMP, spacing: float = 10.0, **header) -> Path:
    """An MRC file whose header fields are changed after mrcfile has written it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile says that NaNs are being written
        new = mrcfile.new(path, values, overwrite=True, compression="gzip" if path.suffix == ".gz" else None)
    with new as file:
        file.voxel_size = spacing
        file.set_volume() if values.ndim == 3 else None
        for name, value in header.items():
            file.header[name] = value
    return path


# ---- MRC ----


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".map", ".mrc.gz"])
def test_mrc_modes(tmp_path, dtype, suffix):
    values = (RAMP % 100).astype(dtype)
    path = mrc(tmp_path / f"a{suffix}", values)
    read, grid = read_volume(path)
    assert read.dtype == np.float32 and read.flags.c_contiguous and read.flags.writeable
    np.testing.assert_array_equal(read, values.astype(np.float32))
    assert grid == volume_grids(path)[0]
    assert grid.shape == SHAPE and grid.voxel_spacing == pytest.approx(10.0) and grid.origin == (0, 0, 0)


def test_mrc_big_endian(tmp_path):
    path = mrc(tmp_path / "a.mrc", RAMP.astype(">f4"))
    np.testing.assert_array_equal(read_volume(path)[0], RAMP)


@pytest.mark.parametrize(
    "flags, limits, unsigned",
    [(0, (0, 0), True), (1, (0, 0), False), (None, (0, 255), True), (None, (-128, 127), False), (None, (0, -1), False)],
)
def test_mrc_old_imod_bytes(tmp_path, flags, limits, unsigned):
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8).view(np.int8)
    path = mrc(tmp_path / "a.rec", values, dmin=limits[0], dmax=limits[1])
    if flags is not None:
        with path.open("r+b") as file:
            file.seek(152)
            file.write(np.array([1146047817, flags], dtype="<i4").tobytes())
    read, _ = read_volume(path)
    np.testing.assert_array_equal(read, values.view(np.uint8 if unsigned else np.int8).astype(np.float32))


def test_mrc_origin_is_not_heeded(tmp_path):
    path = mrc(tmp_path / "a.mrc", nxstart=5, nystart=-7)
    assert volume_grids(path)[0].origin == (0, 0, 0)


@pytest.mark.parametrize("spacing", [0.0, 1.0])
def test_mrc_without_voxel_size(tmp_path, spacing):
    path = mrc(tmp_path / "a.mrc", spacing=spacing)
    with pytest.raises(ReadError, match="`voxel_spacing`"):
        volume_grids(path)
    assert volume_grids(path, 7.84)[0].voxel_spacing == 7.84


def test_mrc_anisotropy_is_said(tmp_path, caplog):
    path = mrc(tmp_path / "a.mrc", spacing=(10.0, 10.0, 10.001))
    with caplog.at_level(logging.WARNING, "tomopick"):
        volume_grids(path)
        assert not caplog.records
        other = mrc(tmp_path / "b.mrc", spacing=(10.0, 10.0, 10.3))
        volume_grids(other)
        grid = volume_grids(other)[0]
    assert "not cubes" in caplog.text and grid.voxel_spacing == pytest.approx(10.1)
    assert len(caplog.records) == 1  # once a file, however often it is looked at
    flat = mrc(tmp_path / "c.mrc", spacing=(10.0, 10.0, 13.0))
    with pytest.raises(ReadError, match=r"voxels of 13 x 10 x 10 Å \(z, y, x\) are not cubes; .*`voxel_spacing`"):
        volume_grids(flat)
    assert volume_grids(flat, 11.0)[0].voxel_spacing == 11.0


def truncated(path):
    mrc(path)
    os.truncate(path, path.stat().st_size - 100)


def truncated_gz(path):
    mrc(path)
    path.write_bytes(path.read_bytes()[:-20])


def corrupt_gz(path):
    path.write_bytes(gzip.compress(b"\x01" * 5000)[:15] + b"\xff" * 200)


def camera(path, kind=b"SERI"):
    mrc(path)
    with mrcfile.open(path, "r+") as file:
        file.set_extended_header(np.zeros(64, dtype="V16"))
        file.header.exttyp = kind


BAD = {
    "a.mrc truncated": (truncated, "truncated.*expected"),
    "a.mrc.gz truncated": (truncated_gz, "cannot be read|ends before"),
    "b.mrc.gz corrupt": (corrupt_gz, "cannot be read as MRC|not an MRC"),
    "text.mrc": (lambda p: p.write_text("object,x,y,z\n" * 200), "not an MRC file"),
    "empty.mrc": (lambda p: p.write_bytes(b""), "not an MRC file"),
    "noise.mrc": (lambda p: p.write_bytes(bytes(range(256)) * 20), "not an MRC file"),
    "2d.mrc": (lambda p: mrc(p, RAMP[0]), "single image"),
    "4d.mrc": (lambda p: mrc(p, RAMP, ispg=401, mz=3), "stack of 2 volumes"),
    "complex.mrc": (lambda p: mrc(p, RAMP.astype(np.complex64)), "mode 4"),
    "tilts.st": (mrc, "tilt series"),
    "tilts.ali": (mrc, "tilt series"),
    "images.mrcs": (mrc, "image stack"),
    "stack.mrc": (lambda p: mrc(p, RAMP, ispg=0, mz=1), "ISPG 0"),
    "serialem.mrc": (
        lambda p: (mrc(p, RAMP, ispg=0), p.with_name(p.name + ".mdoc").write_text("")),
        "tilt series.*ISPG 1",
    ),
    "thin.rec": (lambda p: mrc(p, np.random.default_rng(0).random((32, 8, 24), dtype=np.float32)), "clip rotx"),
    "exchanged.mrc": (lambda p: mrc(p, np.random.default_rng(0).random((32, 24, 8), dtype=np.float32)), "along x, not"),
    "column.mrc": (lambda p: mrc(p, RAMP[:, :, :1]), "single image"),
    "seri.mrc": (camera, r"tilt series of 6 images by its extended header \(SERI\)"),
    "fei.mrc": (lambda p: camera(p, b"FEI1"), r"extended header \(FEI1\)"),
    **{
        f"TS_1{suffix}.mrc": (
            lambda p, suffix=suffix: (mrc(p, RAMP, ispg=0), p.with_suffix(suffix).write_text("")),
            rf"tilt series of 6 images \(ISPG 0, with TS_1{suffix}{suffix} beside it\).*ISPG 1",
        )
        for suffix in (".tlt", ".rawtlt", ".mdoc")
    },
    "axes.mrc": (lambda p: mrc(p, RAMP, mapc=3, maps=1), "axis order"),
    "constant.mrc": (lambda p: mrc(p, np.full(SHAPE, 3.0, np.float32)), "all voxels are 3"),
    "nan.mrc": (lambda p: mrc(p, np.full(SHAPE, np.nan, np.float32)), "no voxel is a finite"),
    "missing.mrc": (lambda p: None, "no such file"),
    "folder.mrc": (lambda p: p.mkdir(), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_mrc(tmp_path, name):
    make, message = BAD[name]
    path = tmp_path / name.split()[0]
    make(path)
    with pytest.raises(ReadError, match=message) as caught:
        read_volume(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_imod_volume_with_ispg_0_is_read(tmp_path, caplog):
    (tmp_path / "a.tlt").touch()  # IMOD leaves it beside the reconstruction
    for name in ("a.rec", "a_rec.mrc"):
        np.testing.assert_array_equal(read_volume(mrc(tmp_path / name, ispg=0))[0], RAMP)
    assert not caplog.records
    np.testing.assert_array_equal(read_volume(mrc(tmp_path / "b.mrc", ispg=0))[0], RAMP)
    (record,) = caplog.records
    assert "b.mrc: ISPG 0 in its header" in record.getMessage()


def test_few_nans_are_filled(tmp_path, caplog):
    values = RAMP.copy()
    values[0, 0, :3] = np.nan
    with caplog.at_level(logging.WARNING, "tomopick"):
        read, _ = read_volume(mrc(tmp_path / "a.mrc", values))
    assert "3 voxels are not finite" in caplog.text
    assert read[0, 0, 0] == pytest.approx(np.nanmean(values)) and read[1, 1, 1] == values[1, 1, 1]


def test_write_mrc(tmp_path):
    write_mrc(tmp_path / "a.mrc", RAMP, 7.84)
    values, grid = read_volume(tmp_path / "a.mrc")
    np.testing.assert_array_equal(values, RAMP)
    assert grid.voxel_spacing == pytest.approx(7.84)
    assert mrcfile.validate(tmp_path / "a.mrc")
    write_mrc(tmp_path / "b.mrc", RAMP, Grid(SHAPE, 20.0, (5.0, 6.0, 7.0)))
    with mrcfile.open(tmp_path / "b.mrc") as file:
        assert file.voxel_size.x == 20 and file.header.origin.item() == (7.0, 6.0, 5.0)


# ---- tables ----


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ribosome", "apo-ferritin", 'odd, "name"']),
            *[st.floats(-1e5, 1e5) for _ in range(3)],
            st.floats(0, 1),
        ),
        max_size=6,
    )
)
def test_csv_round_trip(tmp_path_factory, rows):
    picks = Picks("r", [row[1:4] for row in rows], [row[0] for row in rows], [row[4] for row in rows])
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_picks_csv(path, picks)
    (read,) = read_picks_csv(path).values()
    assert read.names.tolist() == picks.names.tolist()
    np.testing.assert_allclose(read.positions, picks.positions, atol=5.1e-4)
    np.testing.assert_allclose(read.scores, picks.scores, atol=5.1e-7)


def test_csv_forms(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffid,experiment,particle_type,x,y,z\n0,TS_1,ribosome,1,2,3\n1,TS_2,virus,4,5,6\n\n")
    tables = read_picks_csv(path)
    assert sorted(tables) == ["TS_1", "TS_2"] and tables["TS_1"].run == "TS_1"
    np.testing.assert_array_equal(tables["TS_1"].positions, [[3, 2, 1]])
    assert tables["TS_2"].scores.tolist() == [1.0]
    path.write_text("object,x,y,z,score\n")
    assert len(read_picks_csv(path)[""]) == 0


def test_a_table_that_names_no_object_is_of_the_one_that_is_given(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y,z\n30,20,10\n")
    picks = read_picks_csv(path, the_one(["ribosome:150"]))[""]
    assert picks.names.tolist() == ["ribosome"] and picks.positions.tolist() == [[10, 20, 30]]
    assert len(FolderProject(path, objects=["ribosome:150"]).picks("a")) == 1
    with pytest.raises(ReadError, match=r"no column object in 'x,y,z'; .* or one object named: `objects=NAME:RADIUS`"):
        FolderProject(path, objects=["ribosome:150", "vault:400"])
    write_mrc(tmp_path / "rec_a.mrc", np.zeros((4, 4, 4), np.float32), 10.0)  # matched by its name, not exactly
    assert FolderProject(tmp_path, objects=["ribosome:150"]).picks("rec_a").names.tolist() == ["ribosome"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1: no column object, x, y, z"),
        ("object,x,y\na,1,2\n", "line 1: no column z"),
        ("x,y,z\n1,2,3\n", "line 1: no column object"),
        ("object,x,y,z\na,1,2,3\nb,1,two,3\n", "line 3: y is 'two'"),
        ("object,x,y,z\na,1,nan,3\n", "line 2: y is 'nan'"),
        ("object,x,y,z\na,1,2\n", "line 2: 3 values, none for 'z'"),
        ("object,x,y,z\n,1,2,3\n", "line 2: the object has no name"),
        ("object,x,y,z,score\na,1,2,3,inf\n", "line 2: score is 'inf'"),
    ],
)
def test_csv_errors_name_the_line(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ReadError, match=message) as caught:
        read_picks_csv(path)
    assert str(path) in str(caught.value)


def test_csv_not_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xf1\xfe\x00\x01" * 10)
    with pytest.raises(ReadError, match="is no text"):
        read_picks_csv(tmp_path / "a.csv")


# ---- offset ----


@settings(max_examples=30)
@given(st.tuples(*[st.floats(-2, 2)] * 3), st.floats(1, 30))
def test_offset_round_trip(voxels, spacing):
    picks = Picks("r", [[1.0, 2.0, 3.0]], ["a"], [1.0])
    offset = CoordinateOffset.parse(voxels)
    there = offset.to_file(picks, spacing)
    np.testing.assert_allclose(offset.to_true(there, spacing).positions, picks.positions, atol=1e-9)
    true_index = there.positions / spacing + np.array(voxels)
    np.testing.assert_allclose(true_index, picks.positions / spacing, atol=1e-9)


def test_offset_forms():
    assert CoordinateOffset.parse("czii") == CoordinateOffset((0.5, 0.5, 0.5), CZII_VOXEL_SPACING)
    assert CoordinateOffset.parse("0.5,0,-1").voxels == (0.5, 0.0, -1.0)
    assert CoordinateOffset.parse("0.5").voxels == (0.5, 0.5, 0.5)
    assert not CoordinateOffset.parse("none") and CoordinateOffset.parse("czii")


@pytest.mark.parametrize(
    "value, hint",
    [("czi", "did you mean 'czii'"), ("1,2", "a preset; there is czii"), ("1,nan,2", "a preset; there is")],
)
def test_offset_unknown(value, hint):
    with pytest.raises(SelectionError, match=hint):
        CoordinateOffset.parse(value)


# ---- atomic ----


def test_atomic_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as handle:
        handle.write("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with atomic_write(path) as handle:
        handle.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and path.stat().st_mode & 0o044


def test_atomic_write_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "file" / "a.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "folder"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_atomic_write_full_disk(tmp_path):
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "a.txt") as handle:
        os.dup2(full, handle.fileno())
        handle.write("x" * 100_000)
    os.close(full)
    assert os.listdir(tmp_path) == []


def test_write_together_is_all_or_none(tmp_path):
    (tmp_path / "b").write_text("")
    with pytest.raises(OutputError):
        write_together({tmp_path / "a.txt": "1", tmp_path / "b" / "c.txt": "2"})
    assert os.listdir(tmp_path) == ["b"]


def test_atomic_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a") as part:
        (part / "x").write_text("1")
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []
    with atomic_folder(tmp_path / "a") as part:
        (part / "x").write_text("1")
    assert (tmp_path / "a" / "x").exists() and os.listdir(tmp_path) == ["a"]
    with pytest.raises(OutputError, match="exists already"), atomic_folder(tmp_path / "a"):
        pass
