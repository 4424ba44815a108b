"""What other programs are given to show: voxels and picks in the right places."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import small
from tomopick.cli import main
from tomopick.core.errors import EngineError, OutputError
from tomopick.core.types import Grid, Tomogram
from tomopick.look import viewing
from tomopick.look.ports import bound

OBJECTS = (small.BALL, small.RING)


def scene():
    tomogram, truth = small.tomogram("A", 0, objects=OBJECTS)
    return tomogram, replace(truth, scores=np.linspace(0, 1, len(truth)))


def test_neuroglancers_voxels_begin_where_ours_are_centred():
    pytest.importorskip("neuroglancer")
    tomogram, picks = scene()
    state = viewing.neuroglancer_state(tomogram, picks, OBJECTS, {"ball": 0.4})
    data = state.to_json()
    assert [layer["name"] for layer in data["layers"]] == ["tomogram", "ball", "ring"]
    assert data["dimensions"]["z"] == [pytest.approx(1e-9), "m"] and list(data["dimensions"]) == ["x", "y", "z"]
    assert data["position"] == [24, 32, 12]
    ball = data["layers"][1]
    spheres = ball["annotations"]
    mine = picks.of("ball")
    assert len(spheres) == len(mine)
    centres = np.array([s["center"] for s in spheres])
    np.testing.assert_allclose(centres, mine.positions / 10 + 0.5)
    # The nearest voxel of a pick is the one that neuroglancer's pick lies in.
    np.testing.assert_array_equal(np.floor(centres), np.rint(tomogram.grid.indices(mine.positions)))
    assert {tuple(s["radii"]) for s in spheres} == {(4.0, 4.0, 4.0)}
    np.testing.assert_allclose([s["props"][0] for s in spheres], mine.scores)
    assert "slider(min=0, max=1, default=0.4000" in ball["shader"] and "prop_score() < least" in ball["shader"]
    assert "default=0.0000" in data["layers"][2]["shader"] and ball["shader"] != data["layers"][2]["shader"]


def test_a_volume_with_an_origin():
    pytest.importorskip("neuroglancer")
    tomogram, picks = scene()
    moved = Tomogram("A", tomogram.values, Grid(tomogram.grid.shape, 10.0, (5.0, -20.0, 30.0)))
    state = viewing.neuroglancer_state(moved, picks.shifted((5.0, -20.0, 30.0)), OBJECTS, {}).to_json()
    plain = viewing.neuroglancer_state(tomogram, picks, OBJECTS, {}).to_json()
    for one, other in zip(state["layers"][1]["annotations"], plain["layers"][1]["annotations"]):
        np.testing.assert_allclose(one["center"], other["center"])


def test_naparis_layers():
    tomogram, picks = scene()
    image, ball, _ = viewing.napari_layers(tomogram, picks, OBJECTS, {"ball": 0.5})
    assert image[2] == "image" and image[1]["scale"] == [10.0] * 3 and image[1]["translate"] == [0.0] * 3
    data, how, kind = ball
    assert kind == "points" and how["size"] == 80.0
    np.testing.assert_array_equal(data, picks.of("ball").positions)
    np.testing.assert_array_equal(how["shown"], picks.of("ball").scores >= 0.5)


def test_what_is_not_installed_or_not_one_run_is_said(tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="nothing-of-that-name is not installed"):
        viewing._imported("nothing-of-that-name")
    place = small.folder(tmp_path / "in", ("A", "B"))
    done = CliRunner().invoke(main, ["view", str(place), str(place)])
    assert done.exit_code == 2 and "name one with --run: A, B" in done.stderr
    seen = []
    monkeypatch.setattr(viewing, "show_in_napari", seen.extend)
    done = CliRunner().invoke(main, ["view", str(place), str(place), "--run", "A", "--with", "napari"])
    assert done.exit_code == 0, done.output
    assert [kind for _, _, kind in seen] == ["image", "points"]


def test_a_port_that_another_has_is_said():
    pytest.importorskip("neuroglancer")
    with bound(0) as other, pytest.raises(OutputError, match=r"`port=\d+`: the page cannot be served there"):
        viewing.shown_in_neuroglancer(None, other.getsockname()[1])


def test_looking_ends_with_ctrl_c_and_has_nothing_to_go_on_with(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    place = small.folder(tmp_path / "in", ("A",))
    monkeypatch.setattr(viewing, "neuroglancer_state", lambda *_: None)
    monkeypatch.setattr(viewing, "shown_in_neuroglancer", lambda *_: (object(), "http://127.0.0.1/"))
    monkeypatch.setattr("signal.pause", interrupted)
    done = CliRunner().invoke(main, ["view", str(place), str(place), "--no-browser"])
    assert done.exit_code == 0 and "Ctrl-C ends it" in done.stderr and "go on" not in done.stderr
