"""Errors of back-ends name the configuration, wherever they arise; others pass."""

import json
import socket

import pytest

from tomopick.core.errors import ReadError, SelectionError
from tomopick.data import open_project
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
