"""A model from a density alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from small import copick
from tomopick import recipes
from tomopick.cli.maps import with_simulated
from tomopick.core.errors import ReadError, SelectionError, TomopickError
from tomopick.core.types import Grid, Tomogram
from tomopick.data import MemoryProject, open_project, write_mrc
from tomopick.data.runs import Runs
from tomopick.recipes import from_maps
from tomopick.recipes.from_maps import MapOptions, for_other_volumes, simulated_with
from tomopick.recipes.looks import Looks, thickness_of


@pytest.fixture(scope="module")
def density(tmp_path_factory):
    """A ball of 50 Å."""
    z, y, x = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    place = tmp_path_factory.mktemp("maps") / "my_protein.mrc"
    write_mrc(place, gaussian_filter((z**2 + y**2 + x**2 < 100).astype(np.float32), 1), 5.0)
    return place


def layer(first, last, seed=0):
    values = np.random.default_rng(seed).standard_normal((80, 96, 96)).astype(np.float32)
    values[first:last] += 3 * gaussian_filter(
        np.random.default_rng(seed + 1).standard_normal((last - first, 96, 96)), 1
    )
    values[first:last] *= 1.6
    return Tomogram("A", values, Grid(values.shape, 12.0))


def test_how_thick_a_specimen_is():
    assert thickness_of(layer(20, 60)) == pytest.approx(40 * 12, rel=0.15)
    full = Tomogram(
        "A", np.random.default_rng(0).standard_normal((40, 64, 64)).astype(np.float32), Grid((40, 64, 64), 10)
    )
    assert thickness_of(full) == 400


def test_runs_are_like_a_users_own():
    project = MemoryProject()
    project.write_tomogram(layer(20, 60))
    looks = Looks.of(Runs(project))
    assert looks.voxel_spacing == 12 and looks.sections == 80 and looks.thickness[0] < 480 < looks.thickness[1]
    assert MapOptions(looks=looks).shape == (80, 192, 192)
    with pytest.raises(SelectionError, match="no tomogram to simulate the like of"):
        Looks.of(Runs(MemoryProject()))


def test_the_kind_of_tomogram_that_runs_are_to_be_like_is_said(tmp_path, monkeypatch):
    config, asked = copick(tmp_path / "mine", tomo_types=("denoised", "wbp")), []
    monkeypatch.setattr(from_maps, "simulated_with", lambda maps, out, options: (asked.append(options), (out, ()))[1])
    given = {"maps": ("m.mrc",), "like": str(config), "dry_run": False, "voxel_spacing": None, "seed": 0, "minutes": 0}

    def simulated(**more):
        return with_simulated([], tmp_path / "m", None, {**given, **more})

    with pytest.raises(SelectionError, match=r"several tomograms; say which with `like\.tomo_type`"):
        simulated(like_tomo_type=None)
    simulated(like_tomo_type="wbp")
    assert asked[0].looks.sections == 24 and asked[0].tomo_type == "denoised"
    with pytest.raises(TomopickError, match="--like-tomo-type is of the tomograms to simulate the like of; say which"):
        simulated(like_tomo_type="wbp", like=None)


def test_a_map_becomes_runs_that_can_be_learned_from(density, tmp_path, caplog):
    with caplog.at_level("INFO", "tomopick"):
        options = MapOptions(runs=1, across=64, looks=Looks(12.0, (350.0, 450.0), 48))
        config, names = simulated_with([f"{density},radius=50,mass=300"], tmp_path / "sim", options)
    assert names == ("my-protein",) and "my-protein: 300 kDa, as given; radius 50 Å" in caplog.text
    project = open_project(config)
    (run,) = project.runs()
    assert project.grid(run).shape == (48, 64, 64) and project.grid(run).voxel_spacing == pytest.approx(12)
    assert next(o for o in project.objects if o.name == "my-protein").radius == 50
    assert len(project.picks(run).of("my-protein")) >= 3
    again, _ = simulated_with([f"{density},radius=50,mass=300"], tmp_path / "sim", options)
    assert again == config  # made once


def test_what_a_tomogram_does_not_tell_from_the_map_is_left_out(tmp_path, monkeypatch, caplog):
    """Else the one would be taught to be nothing, and looks like the other."""
    axis = np.arange(32) - 15.5
    r = 5 * np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    asked = {}
    monkeypatch.setattr(from_maps, "simulate_project", lambda out, shape, **how: asked.update(how))
    for name, body, left_out in (("shell", (r > 38) & (r < 60), ["apo-ferritin"]), ("rod", r < 18, [])):
        write_mrc(tmp_path / f"{name}.mrc", gaussian_filter(body.astype(np.float32), 1), 5.0)
        with caplog.at_level("INFO", "tomopick"):
            simulated_with([f"{tmp_path}/{name}.mrc,mass=480"], tmp_path / "sim", MapOptions())
        assert {f"specimen.copies.{other}=0,0" for other in left_out} <= set(asked["settings"][2:])
        assert sum("=0,0" in text for text in asked["settings"]) < 3  # and most objects stay
        assert f"specimen.dominant={name}" in asked["settings"]  # half of the runs are of it alone, nearly
        assert ("left out of the runs" in caplog.text) == bool(left_out)
        caplog.clear()
    simulated_with([f"apo-ferritin={tmp_path}/shell.mrc,mass=480"], tmp_path / "sim", MapOptions())
    assert "specimen.copies.apo-ferritin=0,0" not in asked["settings"]  # it is itself


def test_recipes_see_more_grey_values_where_simulations_teach():
    usual = recipes.get("light")
    wider = for_other_volumes(usual)
    scale = {type(step).__name__: getattr(step, "scale", 0) for step in wider.augment.intensity}
    assert scale["ScaleShift"] > 0.5 and wider.augment.spatial == usual.augment.spatial


def test_what_is_no_map(density, tmp_path):
    with pytest.raises(SelectionError, match="given twice"):
        simulated_with([str(density)] * 2, tmp_path / "sim", MapOptions())
    for text, error, match in ((f"{tmp_path}/none.mrc", ReadError, "no such file"),
                               (f"{tmp_path}/none.mrc,radius=x", SelectionError, "radius is 'x'")):  # fmt: skip
        with pytest.raises(error, match=match):
            simulated_with([text], tmp_path / "sim", MapOptions())
    assert not (tmp_path / "sim").exists()


def test_a_density_that_does_not_fit_into_the_runs_is_refused(density, tmp_path, monkeypatch):
    monkeypatch.setattr(from_maps, "_shells", None)  # which makes room for it
    with pytest.raises(ReadError, match=r"my_protein\.mrc: its density is 1\d{3} Å across and does not fit .*960 Å"):
        simulated_with([f"{density},voxel=70"], tmp_path / "sim", MapOptions(looks=Looks(10.0)))
    assert not (tmp_path / "sim").exists()


def test_a_voxel_size_that_is_missing_is_asked_for_by_its_own_field(tmp_path):
    write_mrc(tmp_path / "m.mrc", np.eye(8, dtype=np.float32)[None] * np.ones((8, 1, 1)), 1.0)
    with pytest.raises(ReadError, match=r"`maps=m=.*m\.mrc,voxel=Å`"):
        simulated_with([f"{tmp_path}/m.mrc"], tmp_path / "sim", MapOptions())
