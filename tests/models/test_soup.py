"""The mean of several networks' weights as one model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from small import BALL, RING, memory, recipe, trained, untrained
from tomopick import FitOptions, Source, fit
from tomopick.core.errors import ModelError, OutputError, RecipeError, SelectionError
from tomopick.data.runs import Runs
from tomopick.models.soup import SoupOptions, check_alike, estimate_norms, make_soup, mean_state, top_candidates
from tomopick.picking.load import load_detector


@pytest.fixture(scope="module")
def model():
    return load_detector(trained())


@pytest.fixture(scope="module")
def runs():
    return Runs(memory(("D", "E")))


def noisy(model, scale, name, seed=1):
    """A copy whose weights are a little (or much) worse."""
    other = replace(model, name=name, network=model.method.network.build(len(model.objects)).eval())
    state = {k: v.clone() for k, v in model.network.state_dict().items()}
    rng = torch.Generator().manual_seed(seed)
    for value in (v for v in state.values() if v.is_floating_point() and v.ndim > 1):
        value += scale * value.std() * torch.randn(value.shape, generator=rng)
    other.network.load_state_dict(state)
    return other


def options(**more):
    return SoupOptions(device="cpu", **more)


def test_states_are_averaged_by_their_shares():
    one, two = nn.BatchNorm3d(2).state_dict(), nn.BatchNorm3d(2).state_dict()
    two = {k: v + 4 for k, v in two.items()}
    mean = mean_state([one, two], [0.25, 0.75])
    assert mean["weight"].tolist() == [4.0, 4.0] and mean["running_mean"].tolist() == [3.0, 3.0]
    assert mean["num_batches_tracked"] == 0 and mean["num_batches_tracked"].dtype == torch.int64
    assert mean_state([one, two], [0.0, 1.0])["num_batches_tracked"] == 4
    half = {"w": torch.tensor([1.0], dtype=torch.float16)}
    assert mean_state([half, half], [0.5, 0.5])["w"].dtype == torch.float16


def test_a_soup_is_a_model_like_any_other(model, runs, tmp_path):
    made = make_soup([model, noisy(model, 0.05, "other")], tmp_path / "soup", options(), runs)
    found = load_detector(tmp_path / "soup")
    assert found.checksum == made.checksum != model.checksum and found.thresholds == made.thresholds
    assert found.thresholds["f1"] != model.thresholds["f1"] and found.facts.scores["f1"]["ball"] > 0.8
    record = found.facts.provenance
    assert [part["share"] for part in record["soup"]] == [0.5, 0.5] and record["soup"][1]["model"] == "other"
    assert record["measured_on"]["runs"] == ["D", "E"] and len(found.facts.learned_from) == 1
    assert found.facts.spectrum == pytest.approx(model.facts.spectrum)
    mean = mean_state([model.network.state_dict(), noisy(model, 0.05, "").network.state_dict()], [0.5, 0.5])
    for key, value in found.network.state_dict().items():
        torch.testing.assert_close(value, mean[key])
    assert "F1" in (tmp_path / "soup" / "README.md").read_text()
    with pytest.raises(OutputError, match="exists already"):
        make_soup([model, model], tmp_path / "soup", options())


def test_the_best_shares_leave_a_broken_model_out(model, runs, tmp_path, told):
    broken = noisy(model, 3.0, "broken")
    greedy = make_soup([broken, model], tmp_path / "g", options(weights="greedy"), runs)
    assert [part["share"] for part in greedy.facts.provenance["soup"]] == [0.0, 1.0]
    assert told[-1].startswith("shares 0, 1: f1")
    best = make_soup([broken, model], tmp_path / "b", options(weights="grid", metric="czii"), runs)
    shares = [part["share"] for part in best.facts.provenance["soup"]]
    assert shares[1] > 0.6 and best.facts.scores["czii"]["ball"] >= greedy.facts.scores["czii"]["ball"] - 0.01


def test_statistics_are_estimated_anew(model, runs, tmp_path):
    network = nn.Sequential(nn.BatchNorm3d(1))
    rng = np.random.default_rng(0)
    batches = [torch.from_numpy(3 + 2 * rng.standard_normal((4, 1, 8, 8, 8)).astype(np.float32)) for _ in range(5)]
    assert estimate_norms(network, iter(batches), torch.device("cpu")) == 1
    assert network[0].running_mean.item() == pytest.approx(3, abs=0.1)
    assert network[0].running_var.item() == pytest.approx(4, abs=0.2)
    assert network[0].momentum == 0.1 and not network.training
    assert estimate_norms(nn.Sequential(nn.Conv3d(1, 1, 1)), iter(batches), torch.device("cpu")) == 0
    spoilt = []
    for name in ("one", "two"):
        spoilt.append(noisy(model, 0.0, name))
        for norm in (m for m in spoilt[-1].network.modules() if isinstance(m, nn.BatchNorm3d)):
            norm.running_var *= 30
    plain = make_soup(spoilt, tmp_path / "p", options(), runs)
    mended = make_soup(spoilt, tmp_path / "m", options(norm="estimate"), runs)
    assert mended.facts.scores["f1"]["ball"] > 0.8 > plain.facts.scores["f1"]["ball"]


def test_the_best_weights_of_one_training(model, tmp_path):
    more = ["train.steps=6", "train.validate_every=2", "train.keep_top=3"]
    fit(recipe(*more), [Source(memory())], tmp_path / "m", FitOptions("cpu"))
    found = top_candidates(load_detector(tmp_path / "m"))
    assert [c.name.rpartition("/")[2] for c in found] == ["2", "4", "6"]
    assert [c.name for c in top_candidates(load_detector(tmp_path / "m" / "top"))] == [c.name for c in found]
    soup = make_soup(found, tmp_path / "s", options())
    for metric, cuts in load_detector(tmp_path / "m").thresholds.items():
        assert soup.thresholds[metric] == pytest.approx(cuts)
    with pytest.raises(ModelError, match="/top: 0 files of weights, expected two or more"):
        top_candidates(load_detector(trained()))


def test_models_that_cannot_be_averaged(model):
    fine = replace(untrained(), name="fine")
    wide = recipe("network.widths=8,24")
    other = replace(fine, name="wide", method=wide, network=wide.network.build(1))
    with pytest.raises(ModelError, match=r"wide: its network .* is another than that of fine"):
        check_alike([fine, other])
    with pytest.raises(ModelError, match=r"both: finds ball, ring, but fine ball; .* same objects in the same order"):
        check_alike([fine, replace(untrained((BALL, RING)), name="both")])
    with pytest.raises(ModelError, match="learned with another activation"):
        check_alike([fine, replace(fine, name="o", method=recipe("loss=FocalTversky"))])
    with pytest.raises(ModelError, match="learned at 20 Å, but fine at 10 Å"):
        check_alike([fine, replace(fine, name="o", facts=replace(fine.facts, voxel_spacing=20.0))])
    with pytest.raises(ModelError, match="a soup needs two models or more"):
        check_alike([fine])


@pytest.mark.parametrize("wrong", [{"weights": "grid"}, {"weights": "greedy"}, {"norm": "estimate"}])
def test_without_runs_nothing_can_be_measured(model, tmp_path, wrong):
    with pytest.raises(SelectionError, match="measured on validation runs; give `runs`"):
        make_soup([model, model], tmp_path / "s", options(**wrong))
    assert not (tmp_path / "s").exists()


def test_unknown_ways():
    for wrong in ({"weights": "best"}, {"norm": "none"}, {"metric": "auc"}):
        with pytest.raises(RecipeError, match="is none of"):
            SoupOptions(**wrong)
