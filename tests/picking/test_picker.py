import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from installed import needs
from small import BALL, NARROW, RING, SPACING, tomogram, untrained
from tomopick import Detector, Grid, Tomogram, open_project, recipes
from tomopick.core.errors import RecipeError
from tomopick.data import read_picks_csv, write_mrc
from tomopick.networks.engines import EngineSpec
from tomopick.picking.ensemble import Ensemble
from tomopick.picking.peaks import LOWEST_SCORE
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.published_tilings import StepTiles
from tomopick.picking.runs import pick_run

PLAIN = PickOptions(device="cpu", engine="torch", precision="f32")
LOW = {"ball": LOWEST_SCORE, "ring": LOWEST_SCORE}


@functools.cache
def detector(name: str) -> Detector:
    """An untrained network of a recipe, cut into tiles and decoded as that does."""
    torch.manual_seed(0)
    method = recipes.get(name).override(NARROW[name])
    network = method.network.build(2).eval()
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    layers[-1].weight.data.mul_(10)  # what starts near 0 would find next to nothing
    made = untrained((BALL, RING))
    return replace(made, method=method.method, recipe_json=method.to_json(), network=network)


def noise(shape, seed=0) -> Tomogram:
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return Tomogram("A", values, Grid(tuple(shape), SPACING))


def same(found, wanted, places=0.0):
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found.positions, wanted.positions, rtol=0, atol=places)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=places)
    assert found.names.tolist() == wanted.names.tolist()


EDGES = st.tuples(st.integers(9, 21), st.integers(17, 45), st.integers(17, 39))


@pytest.mark.parametrize("name", recipes.names())
@settings(max_examples=3, derandomize=True, phases=[Phase.generate])
@given(shape=EDGES)
def test_all_ways_give_the_same_picks_and_none_outside(name, shape, tmp_path_factory):
    model, volume = detector(name), noise(shape)
    found = model.pick(volume, LOW, PLAIN).picks
    assert volume.grid.contains(found.positions).all()
    same(Ensemble.of([model]).pick(volume, LOW, PLAIN).picks, found)
    options = replace(PLAIN, thresholds=LOW)
    same(Picker(model, options).pick(volume)[0], found)
    place = tmp_path_factory.mktemp("disk")
    write_mrc(place / "A.mrc", volume.values, SPACING)
    result = pick_run(Picker(model, options), open_project(place / "A.mrc"), "A", place / "out")
    assert sum(result.counts.values()) == len(found)
    same(read_picks_csv(place / "out" / "A.csv")[""], found, 2e-3)


def test_cells_beyond_an_odd_edge_hold_no_picks():
    model, volume = detector("topcup_released"), noise((25, 65, 49))
    found = model.pick(volume, LOW, PLAIN).picks
    assert len(found) > 20 and volume.grid.contains(found.positions).all()
    # The network answers for half a cell more along each axis, and finds something there.
    everything = model.peaks(model.heatmap(volume, PLAIN), model.objects, LOW)
    assert len(everything) > len(found)


@needs("openvino")
def test_a_network_is_made_ready_once_for_each_device_and_engine(monkeypatch):
    model, volume, built = untrained((BALL, RING)), noise((16, 32, 32)), []
    plain = EngineSpec.build

    def build(spec, network, *where):
        built.append(spec)
        return plain(spec, network, *where)

    monkeypatch.setattr(EngineSpec, "build", build)
    first = model.heatmap(volume, PLAIN).values
    Picker(Ensemble.of([model]), PLAIN).pick(volume)
    np.testing.assert_array_equal(model.heatmap(volume, PLAIN).values, first)
    assert built == [EngineSpec("torch", "f32")]
    model.pick(volume, options=replace(PLAIN, engine="openvino"))
    assert built == [EngineSpec("torch", "f32"), EngineSpec("openvino", "f32")]


@needs("openvino")
def test_new_weights_are_used_at_once():
    model, volume = untrained((BALL, RING)), noise((16, 32, 32))
    options = [PLAIN, replace(PLAIN, engine="openvino")]
    before = [model.heatmap(volume, o).values for o in options]
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(1.5)
    for heat, option in zip(before, options):
        after = model.heatmap(volume, option).values
        assert np.abs(after - heat).max() > 1e-3
        np.testing.assert_allclose(after, replace(model).heatmap(volume, option).values, atol=1e-5)


def test_what_is_unlike_the_training_is_logged(caplog):
    model, volume = untrained(skewness=-0.5), tomogram("A")[0]
    wide = replace(volume, grid=replace(volume.grid, voxel_spacing=1.5 * SPACING))
    picks, unlike = Picker(model, PLAIN).pick(wide)
    assert unlike == ["voxel spacing 15 Å resampled to the model's 10 Å"]
    same(model.pick(wide, options=PLAIN).picks, picks)
    same(Ensemble.of([model]).pick(wide, options=PLAIN).picks, picks)
    assert [r.getMessage() for r in caplog.records] == [f"run A: {unlike[0]}"] * 2


def test_records_name_the_models_that_were_joined():
    one, two = (replace(untrained(), name=name) for name in ("one", "two"))
    assert Ensemble.of([one, two]).names == ("one", "two") and one.names == ("one",)
    assert Ensemble.of([Ensemble.of([one, two]), one]).names == ("one", "two", "one")


def test_tiling_and_peaks_of_a_trained_model_can_be_changed():
    """As if the method had said so, of each member of an ensemble; other settings had their say in the training."""
    model, volume = detector("unet25d_resnetrs"), noise((20, 40, 56))
    changes = ("tiling.shape=16,32,32", "tiling.step=8,24,24", "tiling.flat=true", "peaks.half_width=20")
    tiling = StepTiles((16, 32, 32), (8, 24, 24), flat=True)
    peaks = replace(model.method.peaks, half_width=20.0)
    wanted = replace(model, method=replace(model.method, tiling=tiling, peaks=peaks)).pick(volume, LOW, PLAIN).picks
    changed = replace(PLAIN, overrides=changes)
    same(model.pick(volume, LOW, changed).picks, wanted)
    same(Ensemble.of([model, model]).pick(volume, LOW, changed).picks, wanted, 1e-4)
    assert len(model.pick(volume, LOW, PLAIN).picks) != len(wanted)
    prints = {Picker(model, replace(PLAIN, overrides=o)).fingerprint() for o in ((), changes, changes[:2])}
    assert len(prints) == 3 and "overrides" not in PLAIN.settings()
    for wrong, message in (
        ("loss.floor=0.2", "cannot be changed of a trained model; tiling and peaks can"),
        ("tiling.flt=true", "StepTiles has no field 'flt'; did you mean 'flat'"),
        ("peaks.half_width=wide", "cannot be 'wide'; expected a number"),
    ):
        with pytest.raises(RecipeError, match=message):
            model.pick(volume, LOW, replace(PLAIN, overrides=(wrong,)))
