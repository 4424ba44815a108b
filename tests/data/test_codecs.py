"""Zarr codecs: only those that turn numbers into bytes and back are opened."""

import json
import os
import pickle

import numcodecs
import numpy as np
import pytest

from projects import ome_zarr, volume
from tomopick.core.errors import ReadError
from tomopick.data.volumes.omezarr import CODECS
from tomopick.data.volumes.volumes import read_volume, volume_grids


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["TOMOPICK_EVIL"],)


@pytest.mark.parametrize("place", ["compressor", "filters"])
@pytest.mark.parametrize("codec", ["pickle", "json2", "msgpack2", "vlen-bytes"])
def test_a_codec_that_runs_code_is_not_opened(tmp_path, monkeypatch, place, codec):
    monkeypatch.setenv("TOMOPICK_EVIL", str(tmp_path / "evil"))
    path = ome_zarr(tmp_path / "A.zarr", [volume()])
    array = path / "s0" / ".zarray"
    config = {"id": codec, "protocol": 5} if codec == "pickle" else {"id": codec}
    meta = json.loads(array.read_text()) | {place: config if place == "compressor" else [config]}
    array.write_text(json.dumps(meta))
    for chunk in path.glob("s0/*/*/*"):
        chunk.write_bytes(pickle.dumps(Evil()))
    for read in (volume_grids, read_volume):
        with pytest.raises(ReadError, match=r"is packed with '.*', which is not opened|cannot be opened"):
            read(path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["blosc", "zstd", "gzip", "zlib", "lz4", "bz2", "lzma"])
def test_the_usual_ones_are(tmp_path, name):
    import zarr

    values = volume()
    path = ome_zarr(tmp_path / "A.zarr", [values])
    group = zarr.open_group(str(path), mode="a")
    group.create_dataset("s0", data=values, chunks=(4, 4, 4), dimension_separator="/", overwrite=True,
                         compressor=numcodecs.get_codec({"id": name}))  # fmt: skip
    np.testing.assert_array_equal(read_volume(path)[0], values)
    assert name in CODECS
