"""Errors of back-ends name the configuration, wherever they arise; others pass."""

import json
import re
import socket

import numpy as np
import pytest

from tomopick import Grid, PickableObject, Tomogram
from tomopick.core.errors import ReadError, SelectionError
from tomopick.data import create_copick_project, open_project, write_run
from tomopick.data.sources import backends
from tomopick.data.sources.backends import named


class ProfileNotFound(Exception):
    """As botocore's: of no kind that Python knows."""


ProfileNotFound.__module__ = "botocore.exceptions"


@pytest.mark.parametrize("error", [ProfileNotFound("no\nsuch profile"), OSError("refused"), TimeoutError()])
def test_one_line_that_names_the_configuration(error):
    with pytest.raises(ReadError) as caught, named("p.json", "s3://bucket/x"):
        raise error
    text = str(caught.value)
    assert text.startswith("p.json: its data s3://bucket/x cannot be read (") and "\n" not in text
    assert "credentials" in text


@pytest.mark.parametrize("error", [SelectionError("no run"), ZeroDivisionError(), KeyError("x")])
def test_what_is_not_the_back_end_s_passes(error):
    with pytest.raises(type(error)), named("p.json", None):
        raise error


def test_a_server_that_is_not_there(tmp_path):
    pytest.importorskip("aiohttp")
    config = {
        "config_type": "filesystem", "name": "s", "description": "", "version": "1",
        "pickable_objects": [{"name": "ribosome", "is_particle": True, "label": 1, "radius": 150.0}],
        "overlay_root": f"local://{tmp_path}/overlay", "overlay_fs_args": {"auto_mkdir": True},
        "static_root": "http://127.0.0.1:9/x/",
    }  # fmt: skip
    place = tmp_path / "p.json"
    place.write_text(json.dumps(config))
    with pytest.raises(ReadError, match=r"p\.json: .*127\.0\.0\.1:9"):
        open_project(place).runs()


def test_a_server_that_is_silent(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    import fsspec
    from fsspec.config import conf

    monkeypatch.setattr(backends, "ANSWERED", 0.2)
    for protocol in ("http", "https"):
        monkeypatch.delitem(conf, protocol, raising=False)
    fsspec.get_filesystem_class("http").clear_instance_cache()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # and says nothing
        root = f"http://127.0.0.1:{server.getsockname()[1]}/x/"
        config = {
            "config_type": "filesystem", "name": "s", "description": "", "version": "1",
            "pickable_objects": [{"name": "ribosome", "is_particle": True, "label": 1, "radius": 150.0}],
            "overlay_root": f"local://{tmp_path}/overlay", "overlay_fs_args": {"auto_mkdir": True},
            "static_root": root,
        }  # fmt: skip
        (tmp_path / "p.json").write_text(json.dumps(config))
        with pytest.raises(ReadError, match=r"p\.json: "):
            open_project(tmp_path / "p.json").runs()
    for protocol in ("http", "https"):
        conf.pop(protocol, None)
    fsspec.get_filesystem_class("http").clear_instance_cache()


@pytest.fixture
def far(tmp_path):
    """A project whose tomogram lies in a store elsewhere, of four chunks; their places, and what one raises."""
    from fsspec.implementations.memory import MemoryFileSystem

    memory = MemoryFileSystem()
    values = np.random.default_rng(0).standard_normal((64, 300, 300)).astype(np.float32)
    made = create_copick_project(tmp_path / "c", [PickableObject("ball", 40.0, 1)])
    write_run(made, [Tomogram("A", values, Grid(values.shape, 10.0), "raw")])
    memory.store.clear()
    memory.pseudo_dirs.clear()
    memory.put(str(tmp_path / "c" / "ExperimentRuns"), "/far/ExperimentRuns", recursive=True)
    config = json.loads((tmp_path / "c" / "copick.json").read_text())
    del config["tomopick"]
    config |= {"static_root": "memory://far", "static_fs_args": {}, "overlay_root": f"local://{tmp_path}/o"}
    (tmp_path / "p.json").write_text(json.dumps(config))
    yield tmp_path / "p.json", memory, sorted(p for p in memory.find("/far") if re.search(r"\.zarr/0/\d", p))
    memory.store.clear()


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("reset"), OSError("SlowDown")])
@pytest.mark.parametrize("whole", [True, False])
def test_a_chunk_that_cannot_be_had_is_not_one_of_zeros(far, monkeypatch, error, whole):
    place, memory, chunks = far
    ask = type(memory).cat_file

    def fails(self, path, *more, **options):
        if path == chunks[2]:
            raise error
        return ask(self, path, *more, **options)

    project = open_project(place)
    slabs = project.slabs("A")
    monkeypatch.setattr(type(memory), "cat_file", fails)
    with pytest.raises(ReadError, match=r"p\.json: its data memory://far cannot be read \((slow|reset|SlowDown)\)"):
        project.tomogram("A") if whole else slabs.read(0, 64)


def test_chunks_that_a_store_elsewhere_lacks_are_said(far, caplog):
    place, memory, chunks = far
    memory.rm(chunks[0])
    tomogram = open_project(place).tomogram("A")
    assert tomogram.void is not None and tomogram.void.any() and not tomogram.void.all()
    assert "lacks 1 of its 4 chunks" in caplog.text
    for chunk in chunks[1:3]:
        memory.rm(chunk)
    with pytest.raises(ReadError, match="lacks 3 of its 4 chunks"):
        open_project(place).tomogram("A")


def test_a_bucket_that_refuses_what_it_has_not_and_one_that_refuses_all(far, monkeypatch, caplog):
    place, memory, chunks = far
    ask, refused = type(memory).cat_file, {chunks[1]}

    def fails(self, path, *more, **options):
        if path in refused:
            refused.update(later)
            raise PermissionError("403")
        return ask(self, path, *more, **options)

    monkeypatch.setattr(type(memory), "cat_file", fails)
    later: set[str] = set()
    assert open_project(place).tomogram("A") is not None and "lacks 1 of its 4 chunks" in caplog.text
    later = set(memory.find("/far"))  # its credentials have run out
    with pytest.raises(ReadError, match=r"p\.json: its data memory://far cannot be read"):
        open_project(place).tomogram("A")


def test_voxels_that_were_rewritten_in_a_bucket_are_noticed(far):
    place, memory, chunks = far
    before = open_project(place).stamp("A")
    assert open_project(place).stamp("A") == before
    memory.pipe(chunks[1], memory.cat(chunks[1])[:-1] + b"x")
    assert open_project(place).stamp("A") != before


def test_each_library_is_told_how_long_to_wait(monkeypatch):
    from fsspec.config import conf

    gql = pytest.importorskip("cryoet_data_portal._client")
    for protocol in ("s3", "ssh", "sftp", "smb"):
        monkeypatch.delitem(conf, protocol, raising=False)
    monkeypatch.setattr(gql, "RequestsHTTPTransport", gql.RequestsHTTPTransport)
    backends.require_answers(portal=True)
    backends.require_answers(portal=True)
    assert conf["s3"]["config_kwargs"]["read_timeout"] == backends.ANSWERED
    assert conf["ssh"]["login_timeout"] == conf["sftp"]["timeout"] == backends.ANSWERED
    assert gql.RequestsHTTPTransport(url="http://127.0.0.1:9/").default_timeout == backends.ANSWERED
