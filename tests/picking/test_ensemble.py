"""Several models as one: averaged heatmaps, aligned scores, weights and thresholds of its own, and the folder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from small import BALL, RING, copy_of, memory, recipe, tomogram, trained, untrained
from tomopick import Detector, Grid, Heatmap
from tomopick.core.errors import ModelError, OutputError, RecipeError, SelectionError
from tomopick.data.runs import Runs
from tomopick.models.combine import CombineOptions, combine, put_together, rank_maps
from tomopick.models.kept_heatmaps import keep_heatmaps
from tomopick.picking.decoders import Components
from tomopick.picking.ensemble import Alignment, Ensemble, Member, _digest, equal_members, member_names
from tomopick.picking.folder import LearnedFrom, TrainingFacts, model_file
from tomopick.picking.load import joined, load_detector, load_model
from tomopick.picking.picker import Picker, PickOptions
from tomopick.scoring.thresholds import choose_thresholds

BOTH = (BALL, RING)


@pytest.fixture(scope="module")
def models():
    return load_model(trained()), load_model(trained(*BOTH))


@pytest.fixture(scope="module")
def project():
    return memory(("C", "D"), BOTH)


def combined(models, out, project=None, **options):
    runs = None if project is None else Runs(project)
    return combine(models, out, CombineOptions(device="cpu", engine="torch", **options), runs)


def picker(*models, **options):
    return Picker(joined(models), PickOptions(device="cpu", engine="torch", **options))


def strip(values, objects=("ball",)):
    values = np.asarray(values, np.float32).reshape(len(objects), 1, -1, 1)
    return Heatmap("A", values, Grid(values.shape[1:], 10.0), tuple(objects))


def mixture(*weights, mean="probabilities", alignments=None, objects=None):
    members = tuple(
        Member(untrained(objects[i] if objects else (BALL,)), w, alignments[i] if alignments else {})
        for i, w in enumerate(weights)
    )
    return Ensemble(members, {}, TrainingFacts(10.0), mean)


# -- averaging -----------------------------------------------------------------------------------------------


def test_probabilities_are_averaged_with_relative_weights():
    made = mixture({"ball": 1.0}, {"ball": 3.0})
    mean = made.join([strip([0.2, 0.8, 1.2]), strip([0.6, 0.0, 1.0])])
    np.testing.assert_allclose(mean.values.ravel(), [0.5, 0.2, 1.05], rtol=1e-6)


def test_logits_are_averaged_as_log_odds_and_certainty_is_bounded():
    made = mixture({"ball": 1.0}, {"ball": 1.0}, mean="logits")
    mean = made.join([strip([0.2, 0.9, 0.0]), strip([0.2, 0.5, 0.5])]).values.ravel()
    odds = np.sqrt(9.0)  # the geometric mean of 9 and 1
    bounded = np.sqrt(0.001 / 0.999)
    np.testing.assert_allclose(mean, [0.2, odds / (1 + odds), bounded / (1 + bounded)], rtol=1e-5)


def test_an_object_is_averaged_over_those_that_know_it_each_with_its_own_weights():
    made = mixture({"ball": 1.0}, {"ring": 2.0, "ball": 3.0}, objects=[(BALL,), (RING, BALL)])
    mean = made.join([strip([0.8]), strip([0.5, 0.4], ("ring", "ball"))])
    assert [o.name for o in made.objects] == list(mean.objects) == ["ball", "ring"]
    np.testing.assert_allclose(mean.values.ravel(), [0.5, 0.5])


def test_alignments_map_heights_before_they_are_averaged():
    double = {"ball": Alignment((0.0, 0.1, 0.4), (0.0, 0.2, 0.8))}
    np.testing.assert_allclose(double["ball"](np.array([0.0, 0.05, 0.4, 0.5])), [0, 0.1, 0.8, 1.0], rtol=1e-6)
    made = mixture({"ball": 1.0}, {"ball": 1.0}, alignments=[{}, double])
    np.testing.assert_allclose(made.join([strip([0.8]), strip([0.4])]).values.ravel(), [0.8], rtol=1e-6)
    alone = mixture({"ball": 5.0}, alignments=[double])
    (rows,) = alone.blend([[strip([0.4])]])
    np.testing.assert_allclose(rows.values.ravel(), [0.8], rtol=1e-6)


@pytest.mark.parametrize("given, wanted", [((0.0,), (0.0,)), ((0.0, 1.0), (0.0, 0.0)), ((0.1, 1.0), (0.0, 1.0))])
def test_alignments_that_do_not_rise_are_refused(given, wanted):
    with pytest.raises(ModelError, match="knots that rise from 0"):
        Alignment(given, wanted)


@pytest.mark.parametrize("weights", [({"ball": 0.0},), ({"ball": -1.0}, {"ball": 2.0}), ({},), ({"ball": np.nan},)])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ModelError, match="weights of ball are"):
        mixture(*weights)
    with pytest.raises(RecipeError, match="none of probabilities, logits"):
        mixture({"ball": 1.0}, mean="votes")


# -- several bare models --------------------------------------------------------------------------------------


def test_bare_models_count_alike_and_ensembles_among_them_too(models):
    one, two = (replace(m, thresholds={k: dict.fromkeys(v, t) for k, v in m.thresholds.items()})
                for m, t in zip(models, (0.2, 0.6)))  # fmt: skip
    pair = Ensemble.of([one, two])
    assert pair.thresholds["f1"] == pytest.approx({"ball": 0.4, "ring": 0.6})
    three = Ensemble.of([pair, one])
    balls = [m.weights["ball"] for m in three.members]
    assert balls == [0.5, 0.5, 1.0] and three.members[1].weights["ring"] == 1.0
    assert three.thresholds["f1"] == pytest.approx({"ball": 0.3, "ring": 0.6})
    assert Ensemble.of([pair]) is pair
    logits = replace(pair, mean="logits", name="other")
    assert Ensemble.of([logits, one]).mean == "logits"
    with pytest.raises(ModelError, match="some average probabilities and some logits"):
        Ensemble.of([pair, logits])


def test_an_ensemble_of_one_picks_as_its_member(models):
    volume = memory(("D",), BOTH).tomogram("D")
    alone, _ = picker(models[1]).pick(volume)
    again, _ = picker(replace(Ensemble.of([models[1]]), members=equal_members([models[1]]))).pick(volume)
    np.testing.assert_array_equal(alone.positions, again.positions)
    assert len(models[1].pick(volume)) and len(Ensemble.of([models[1]]).pick(volume))


# -- what is measured -----------------------------------------------------------------------------------------


def test_thresholds_are_those_of_the_ensemble_itself(models, project, tmp_path):
    made = combined(models, tmp_path / "e", project)
    wanted = {run: project.picks(run) for run in ("C", "D")}
    found = {0.02: {run: picker(made, keep_below=True).pick(project.tomogram(run))[0] for run in wanted}}
    for metric in ("f1", "czii"):
        again = choose_thresholds(found, wanted, made.objects, metric)
        for name, best in again.items():  # heatmaps are kept in half precision
            assert made.thresholds[metric][name] == pytest.approx(best.threshold, abs=5e-3)
            assert made.facts.scores[metric][name] == pytest.approx(best.value, abs=0.05)
    assert made.thresholds["f1"] != Ensemble.of(models).thresholds["f1"]
    assert max(map(abs, made.facts.displacement)) < 5 and made.facts.displacement_matches > 10
    assert made.facts.provenance["measured_on"] == {"project": project.uri, "runs": ["C", "D"]}
    assert {run for part in made.facts.learned_from for run in part.train} == {"A", "B"}


def swapped(model):
    """The model with its objects mixed up: what it calls a ball is a ring."""
    other = replace(model, name="swapped", network=model.method.network.build(2))
    other.network.load_state_dict(model.network.state_dict())
    for weight in (other.network.head.weight, other.network.head.bias):
        weight.data = weight.data.flip(0)
    return other


def test_a_grid_finds_the_member_that_is_right(models, project, tmp_path, told):
    pair = [swapped(models[1]), models[1]]
    equal = combined(pair, tmp_path / "u", project)
    made = combined(pair, tmp_path / "e", project, weights="grid")
    assert sum(made.facts.scores["f1"].values()) > sum(equal.facts.scores["f1"].values()) + 0.2
    assert all(w > 0.6 for w in made.members[-1].weights.values())
    assert any("equal weights" in line for line in told)
    each = combined(pair, tmp_path / "o", project, weights="grid", per_object=True, metric="czii")
    assert each.members[-1].weights["ball"] > 0.5 and each.facts.scores["czii"]["ball"] > 0.9


def test_a_member_without_weight_is_left_out(project, models, tmp_path, told):
    blind = replace(untrained((BALL, RING)), name="blind")
    for weight in blind.network.parameters():
        weight.data.zero_()
    blind.network.head.bias.data.fill_(0.9)  # everything is a particle
    made = combined([blind, models[1]], tmp_path / "e", project, weights="grid")
    assert sum(w > 0 for m in made.members for w in m.weights.values()) == 2 * len(made.members)
    if len(made.members) == 1:
        assert "blind: has no weight and is left out" in told


def test_the_first_that_stays_says_how_peaks_are_found(project, models, monkeypatch):
    monkeypatch.setattr("tomopick.models.combine.search", lambda n, value: ((0.0, 1.0), value((0.0, 1.0))))
    other = replace(models[0], method=replace(models[0].method, peaks=Components()))
    options = CombineOptions(weights="grid", device="cpu", engine="torch")
    made = put_together([other, models[1]], options, Runs(project))
    alone = put_together([models[1]], CombineOptions(device="cpu", engine="torch"), Runs(project))
    assert [m.detector.name for m in made.members] == [models[1].name] and made.peaks == models[1].method.peaks
    assert made.thresholds == alone.thresholds and made.facts.scores == alone.facts.scores


def test_runs_that_only_idle_members_predicted_do_not_count(models, tmp_path):
    other = replace(models[1], facts=replace(models[1].facts, learned_from=(LearnedFrom(train=("C",)),)))
    pair, runs = Ensemble.of([models[0], other]), memory(("C", "D"), BOTH)
    kept = [keep_heatmaps(picker(pair), Runs(runs), run, tmp_path) for run in ("C", "D")]
    left = [k.among([1]) for k in kept]
    assert [k.members for k in kept] == [(0,), (0, 1)] and [k.members for k in left] == [(), (0,)]
    (mine,), (_, same) = next(left[1].heatmaps()), next(kept[1].heatmaps())
    np.testing.assert_array_equal(mine.values, same.values)


def test_members_have_folders_of_their_own():
    assert member_names(["x/a", "y/b"]) == ["a", "b"]
    assert member_names(["x/a", "y/a", "z/a-0"]) == ["a-1", "a-2", "a-0"]


def test_a_run_is_predicted_by_those_that_have_not_learned_from_it(models, tmp_path, told):
    other = replace(models[1], facts=replace(models[1].facts, learned_from=(LearnedFrom(train=("C",)),)))
    runs = Runs(memory(("A", "C"), BOTH))
    pair = Ensemble.of([models[0], other])
    kept = [keep_heatmaps(picker(pair), runs, run, tmp_path) for run in ("A", "C")]
    assert [k.members for k in kept] == [(1,), (0,)]
    assert [line.split(":")[0] for line in told] == ["run A", "run C"] and "1 of 2 members" in told[0]
    # Of run C nothing is known about rings, so none of its rings counts as missed.
    made = put_together([models[0], other], CombineOptions(device="cpu", engine="torch"), runs)
    assert made.facts.scores["f1"]["ring"] > 0.6
    with pytest.raises(SelectionError, match="weights cannot be told apart"):
        put_together([models[0], other], CombineOptions(weights="grid", device="cpu", engine="torch"), runs)


def test_where_all_have_learned_from_a_run_it_must_be_named(models, told):
    project = memory(("A",))
    with pytest.raises(SelectionError, match=r"no run with true picks of ball .*; name some with `Runs.names`"):
        put_together([models[0]], CombineOptions(device="cpu"), Runs(project))
    put_together([models[0]], CombineOptions(device="cpu", engine="torch"), Runs(project, ["A"]))
    assert "every member has learned from it" in told[0]


def test_heatmaps_of_unlike_scale_agree_once_aligned(models, project):
    """A regression with sigma 30 Å and a copy of it whose heights are a fifth: aligned, both have one scale."""
    flat = replace(models[1], name="flat", network=models[1].method.network.build(2))
    flat.network.load_state_dict(models[1].network.state_dict())
    flat.network.head.weight.data /= 5
    flat.network.head.bias.data /= 5
    options = CombineOptions(align=True, device="cpu", engine="torch")
    made = put_together([models[1], flat], options, Runs(project))
    for height in (0.3, 0.5, 1.0):  # the last beyond every candidate
        one, two = (float(m.alignment["ball"](np.array(h))) for m, h in zip(made.members, (height, height / 5)))
        assert one == pytest.approx(two, rel=0.05) and one == pytest.approx(0.6 * height, rel=0.05)


def test_rank_maps_give_one_score_to_one_rank():
    scores = np.linspace(1, 0.1, 40)
    one, two = rank_maps([(scores, 2), (scores**2, 2)])
    np.testing.assert_allclose(one(scores[5:35]), two(scores[5:35] ** 2), atol=5e-3)
    np.testing.assert_allclose(one(scores[5:35]), (scores + scores**2)[5:35] / 2, atol=5e-3)
    # A member with twice the runs has as many candidates a run.
    often, again = rank_maps([(scores, 1), (np.repeat(scores, 2), 2)])
    np.testing.assert_allclose(often(scores[5:35]), again(scores[5:35]), atol=5e-3)
    assert rank_maps([(scores, 1)]) is None and rank_maps([(scores, 1), (scores[:7], 1)]) is None


# -- the folder -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(models, project, tmp_path_factory):
    out = tmp_path_factory.mktemp("e") / "ensemble"
    both = copy_of(trained(*BOTH), out.parent / "both")
    (both / "last").mkdir()  # what a training leaves for itself
    (both / "last" / "state.json").write_text("{}")
    combined([models[0], models[0], load_model(both)], out, project, mean="logits", align=True)
    return out


def test_what_is_written_is_what_is_read(folder, project):
    found = load_model(folder)
    assert isinstance(found, Ensemble) and len(found.members) == 3 and found.mean == "logits"
    assert {p.name for p in (folder / "members").iterdir()} == {"ball-0", "ball-1", "both"}
    assert not list(folder.rglob("last")) and (folder / "members" / "both" / "README.md").is_file()
    assert found.members[2].alignment["ball"].given[0] == 0
    assert "| ball-0 |" in (folder / "README.md").read_text() and model_file(folder).name == "ensemble.json"
    picks, unlike = picker(found).pick(project.tomogram("D"))
    assert 10 < len(picks) < 20 and unlike == []
    moved = copy_of(folder, folder.with_name("moved"))
    assert load_model(moved).checksum == found.checksum
    assert picker(load_model(moved)).fingerprint() == picker(found).fingerprint()
    assert picker(replace(found, checksum="another")).fingerprint() != picker(found).fingerprint()


def altered(about):
    about["members"][0]["weights"]["ball"] = 7.0


@pytest.mark.parametrize(
    "change, message",
    [
        (altered, "was altered since it was written"),
        (lambda about: about.update(format_version=99), "format_version 99, expected 1 to 2: update tomopick"),
        (lambda about: about.update(colour="red"), "unknown entry 'colour': update tomopick"),
        (lambda about: about.pop("thresholds"), "not a complete ensemble"),
        (lambda about: about.update(members=[]), "was altered since it was written"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(folder, tmp_path, change, message):
    copy = copy_of(folder, tmp_path / "copy")
    about = json.loads((copy / "ensemble.json").read_text())
    change(about)
    (copy / "ensemble.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=message):
        load_model(copy)


@pytest.mark.parametrize("name", ["../../both", "/elsewhere", "..", ".", "", "a\\b"])
def test_members_lie_below_the_ensemble(folder, tmp_path, name):
    copy = copy_of(folder, tmp_path / "copy")
    about = json.loads((copy / "ensemble.json").read_text())
    about["members"][0]["name"] = name
    about["checksum"] = _digest({"members": about["members"], "mean": about["mean"]})  # as one who means it would
    (copy / "ensemble.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"ensemble\.json: member .*: cannot be the name of a file .*write the ens"):
        load_model(copy)


def test_another_member_is_refused(folder, tmp_path):
    copy = copy_of(folder, tmp_path / "copy")
    shutil.rmtree(copy / "members" / "both")
    with pytest.raises(ModelError, match="no model folder"):
        load_model(copy)
    copy_of(trained(), copy / "members" / "both")
    with pytest.raises(ModelError, match="is another model than when the ensemble was written"):
        load_model(copy)


def test_where_a_single_network_is_asked_for_an_ensemble_says_what_to_take(folder):
    with pytest.raises(ModelError, match="is an ensemble of 3; expected a single model: take one of its members"):
        load_detector(folder)


def test_without_runs_thresholds_are_the_mean_and_nothing_can_be_measured(models, tmp_path, told):
    made = combined(models, tmp_path / "e")
    assert made.thresholds == Ensemble.of(models).thresholds and "the mean of the models'" in told[0]
    for wrong in ({"weights": "grid"}, {"align": True}):
        with pytest.raises(SelectionError, match="measured on validation runs; give `runs`"):
            combined(models, tmp_path / "f", **wrong)
    with pytest.raises(OutputError, match="exists already"):
        combined(models, tmp_path / "e")
    for wrong in ({"weights": "best"}, {"mean": "votes"}, {"per_object": True}):
        with pytest.raises(RecipeError):
            CombineOptions(**wrong)
    with pytest.raises(SelectionError, match="metric 'auc' is none of"):
        CombineOptions(metric="auc")
    assert not (tmp_path / "f").exists()


def test_members_of_other_strides_and_spacings_agree_on_the_place(models, tmp_path):
    """The coarser member knows where the particles are, too: nothing is shifted between their grids."""
    coarse = recipe("network.stride=2")
    network = coarse.network.build(1)
    other = Detector(
        coarse.method, (BALL,), network, models[0].thresholds, replace(models[0].facts, voxel_spacing=12.0)
    )
    made = replace(Ensemble.of([models[0], other]), members=(
        Member(models[0], {"ball": 1.0}), Member(other, {"ball": 0.0}),
    ))  # fmt: skip
    volume, truth = tomogram("D", 3)
    picks, unlike = picker(made).pick(volume)
    alone, _ = picker(models[0]).pick(volume)
    np.testing.assert_allclose(picks.positions, alone.positions, atol=1e-3)
    assert any("resampled to the model's 12" in line for line in unlike) and len(truth) == 14
