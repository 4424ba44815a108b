"""Thresholds for a metric, mapped scores, views of a volume, and writing into a model folder and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

import small
from tomopick import Detector, FitOptions, Source, fit
from tomopick.core.errors import ModelError, SelectionError
from tomopick.core.types import Picks
from tomopick.data import MemoryProject
from tomopick.data.runs import Runs
from tomopick.models.calibrate import (
    HISTORY,
    Believed,
    Calibrated,
    CalibrationOptions,
    candidates_of,
    measure,
    out_of_fold,
    undo,
    write_thresholds,
)
from tomopick.models.combine import CombineOptions, combine
from tomopick.picking.decoders import Components
from tomopick.picking.ensemble import Ensemble
from tomopick.picking.familiar import trained_on
from tomopick.picking.load import load_model
from tomopick.picking.picker import Picker, PickOptions
from tomopick.scoring.matching import scored_picks
from tomopick.scoring.metrics import DEFAULT_THRESHOLDS
from tomopick.scoring.score_maps import ScoreMap, mapped, reliability, rescaled
from tomopick.scoring.scores import matched_scores
from tomopick.scoring.thresholds import GRID, Calibration, choose_thresholds


def spaced(scores, right):
    """Picks far apart, of which those that are right have a true particle under them."""
    at = np.array([[0.0, 0.0, 500.0 * k] for k in range(len(scores))])
    found = Picks("a", at, np.full(len(at), "ball"), np.array(scores, dtype=float))
    wanted = at[np.array(right, dtype=bool)]
    return {"a": found}, {"a": Picks("a", wanted, np.full(len(wanted), "ball"))}


def test_precision_keeps_the_most_recall_at_that_precision():
    found, truth = spaced([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0])
    chosen = choose_thresholds({0.02: found}, truth, [small.BALL], "precision=0.75")["ball"]
    assert (chosen.threshold, chosen.value, chosen.calibrated) == (0.6, 1.0, True)
    strict = choose_thresholds({0.02: found}, truth, [small.BALL], "precision=1")["ball"]
    assert (strict.threshold, strict.value) == (0.9, pytest.approx(1 / 3))
    found, truth = spaced([0.9, 0.8], [0, 1])
    never = choose_thresholds({0.02: found}, truth, [small.BALL], "precision=0.9")["ball"]
    assert not never.calibrated


@pytest.mark.parametrize("metric", ["precision", "precision=", "precision=0", "precision=1.1", "recall=0.5", "f2"])
def test_unknown_metrics_are_named(metric):
    found, truth = spaced([0.9], [1])
    with pytest.raises(SelectionError, match="none of czii, f1, positives and precision=P"):
        choose_thresholds({0.02: found}, truth, [small.BALL], metric)


@pytest.mark.parametrize("views, number", [("none", 1), ("flips", 5), ("all", 7)])
def test_picks_of_every_view_come_back_to_where_the_particles_are(views, number):
    tomogram, truth = small.tomogram(seed=2)
    picker = Picker(Detector.load(small.trained()), PickOptions(device="cpu"))
    found = dict(candidates_of(picker, tomogram, views))
    assert len(found) == number
    for name, picks_at in found.items():
        (picks,) = picks_at.values()
        picks = picks.above(picker.thresholds)
        score = matched_scores({"A": picks}, {"A": truth}, [small.BALL])
        assert score.macro_f1[0] > 0.7, name
        assert np.abs(score.localisation["ball"].mean).max() < 6, name


def test_thresholds_are_written_used_and_undone(tmp_path, told):
    folder = small.copy_of(small.trained(), tmp_path / "m")
    before = (folder / "detector.json").read_text()
    options = CalibrationOptions("precision=0.90", device="cpu", smooth="flips")
    model = Detector.load(folder)
    result = measure([model], Runs(small.memory(), ["B", "C"]), options)
    assert any("has learned from it" in line for line in told)  # B is of its training
    assert result.runs == ("B", "C")
    write_thresholds(folder, result, options)
    after = Detector.load(folder)
    # In a place of its own, under one spelling; those for other metrics stay.
    assert after.thresholds["precision=0.9"]["ball"] == result.thresholds["ball"].threshold
    assert {m: after.thresholds[m] for m in ("f1", "czii")} == model.thresholds and after.checksum == model.checksum

    write_thresholds(
        folder, measure([after], Runs(small.memory(), ["A", "B"]), CalibrationOptions("czii", device="cpu")),
        CalibrationOptions("czii"),
    )  # fmt: skip
    assert Detector.load(folder).thresholds["czii"] != after.thresholds["czii"]
    undo(folder)
    assert Detector.load(folder).thresholds == after.thresholds
    assert undo(folder) == {k: dict(v) for k, v in model.thresholds.items()}
    assert json.loads((folder / "detector.json").read_text()) == json.loads(before)
    with pytest.raises(ModelError, match="no calibration to undo"):
        undo(folder)


def test_picking_with_a_precision_that_was_or_was_not_calibrated(tmp_path):
    folder = small.copy_of(small.trained(), tmp_path / "m")
    options = CalibrationOptions("precision=0.9", device="cpu")
    result = measure([Detector.load(folder)], Runs(small.memory(), ["C"]), options)
    write_thresholds(folder, result, options)
    picker = Picker(Detector.load(folder), PickOptions(metric="precision=0.90", device="cpu"))
    assert picker.thresholds == {"ball": result.thresholds["ball"].threshold}
    with pytest.raises(SelectionError, match=r"m: no thresholds for precision=0\.8; it has czii, f1, precision=0\.9"):
        Picker(Detector.load(folder), PickOptions(metric="precision=0.8", device="cpu"))
    with pytest.raises(SelectionError, match="metric 'recall' is none of"):
        Picker(Detector.load(folder), PickOptions(metric="recall", device="cpu"))


def test_what_a_precision_cannot_be_reached_for_keeps_the_thresholds_for_f1(tmp_path):
    folder = small.copy_of(small.trained(), tmp_path / "m")
    model = Detector.load(folder)
    options = CalibrationOptions("precision=1")
    nothing = reliability(np.zeros(0), np.zeros(0))
    never = Calibrated({"ball": Calibration(0.3, 0.0, 9, 9, False)}, {"ball": Believed(nothing, nothing)}, ("C",), {})
    write_thresholds(folder, never, options)
    assert Detector.load(folder).thresholds["precision=1"] == model.thresholds["f1"]


def test_mapped_scores_keep_the_same_picks_and_come_back(tmp_path):
    folder, project = small.copy_of(small.trained(), tmp_path / "m"), small.memory(("A", "B", "C", "D"), n=10)
    plain, text = Detector.load(folder), (folder / "detector.json").read_text()
    options = CalibrationOptions("precision=0.9", map_scores=True, smooth="all", device="cpu")
    result = measure([plain], project, options)
    write_thresholds(folder, result, options)
    model = Detector.load(folder)
    assert set(model.score_maps) == {"ball"}
    for metric in ("f1", "czii", "precision=0.9"):
        new = Picker(model, PickOptions(metric=metric, device="cpu"))
        # Thresholds moved along: f1 and czii keep exactly the picks they kept.
        cuts = plain.thresholds.get(metric, new.model.thresholds[metric])
        old = Picker(plain, PickOptions(thresholds=cuts, device="cpu")) if metric in plain.thresholds else None
        for run in project.runs():
            picks, _ = new.pick(project.tomogram(run))
            if old:
                before, _ = old.pick(project.tomogram(run))
                assert np.array_equal(picks.positions, before.positions)
                assert np.allclose(picks.scores, model.score_maps["ball"](before.scores), atol=1e-12)
            assert (picks.scores >= new.thresholds["ball"]).all()
            assert len(model.pick(project.tomogram(run), new.thresholds)) == len(picks)
    # All candidates are still written on demand, and the map is part of what decides them.
    every, _ = Picker(model, PickOptions(keep_below=True, device="cpu")).pick(project.tomogram("A"))
    bare, _ = Picker(plain, PickOptions(keep_below=True, device="cpu")).pick(project.tomogram("A"))
    assert np.array_equal(every.positions, bare.positions)
    prints = {Picker(m, PickOptions(thresholds={"ball": 0.5}, device="cpu")).fingerprint() for m in (plain, model)}
    assert len(prints) == 2
    # Calibrating again without mapping keeps the maps; a second map starts from the heights, not from scores.
    again = measure([model], project, replace(options, map_scores=False))
    assert again.score_maps == model.score_maps
    assert again.thresholds["ball"].threshold == pytest.approx(result.thresholds["ball"].threshold)
    assert measure([model], project, options).score_maps == model.score_maps
    undo(folder)
    assert (folder / "detector.json").read_text() == text


def test_several_bare_models_have_no_map_and_the_mean_height_as_threshold():
    plain = Detector.load(small.trained())
    rising = ScoreMap((0.0, 0.5, 1.0), (0.0, 0.1, 1.0))
    cuts = {m: rescaled(t, {}, {"ball": rising}) for m, t in plain.thresholds.items()}
    mapped = replace(plain, score_maps={"ball": rising}, thresholds=cuts)
    both = Picker(Ensemble.of([mapped, plain]), PickOptions(device="cpu"))
    assert both.score_maps == {} and both.thresholds == pytest.approx(dict(plain.thresholds["f1"]))


def test_mapped_scores_are_more_honest_on_runs_that_the_map_has_not_seen():
    model = Detector.load(small.trained())
    runs = small.memory(tuple("DEFGHI"), n=10)
    seen, unseen = (MemoryProject(runs.objects) for _ in range(2))
    for k, run in enumerate(runs.runs()):
        (seen if k % 2 else unseen).add(runs.tomogram(run), runs.picks(run))
    options = CalibrationOptions(map_scores=True, device="cpu", smooth="flips")
    result = measure([model], seen, options)
    assert result.believed["ball"].held_out.n.sum() == result.believed["ball"].now.n.sum()
    picker = Picker(model, PickOptions(keep_below=True, device="cpu"))
    found = {run: picker.pick(unseen.tomogram(run))[0] for run in unseen.runs()}
    truth = {run: unseen.picks(run) for run in unseen.runs()}
    before = reliability(*scored_picks(found, truth, small.BALL)[:2]).expected_error
    now = {run: mapped(p, result.score_maps) for run, p in found.items()}
    after = reliability(*scored_picks(now, truth, small.BALL)[:2]).expected_error
    assert after < before
    assert result.to_json()["objects"]["ball"]["expected_calibration_error_held_out"] == pytest.approx(after, abs=0.1)


def test_the_precision_asked_for_is_reached_on_those_runs():
    model, project = Detector.load(small.trained()), small.memory()
    result = measure([model], Runs(project, ["C"]), CalibrationOptions("precision=0.9", device="cpu"))
    cut = {"ball": result.thresholds["ball"].threshold}
    picker = Picker(model, PickOptions(thresholds=cut, device="cpu"))
    picks, _ = picker.pick(project.tomogram("C"))
    counts = matched_scores({"C": picks}, {"C": project.picks("C")}, [small.BALL]).objects["ball"][0]
    assert counts.precision >= 0.9
    assert counts.recall == pytest.approx(result.thresholds["ball"].value)


def test_folds_pick_only_what_they_have_not_learned():
    model, project = Detector.load(small.trained()), small.memory()
    assert trained_on(model, project) == {"A", "B"}
    other = small.untrained()
    assert out_of_fold([model, other], project, "A") is other
    assert out_of_fold([model, other], project, "C") is model
    with pytest.raises(SelectionError, match="every model given has learned from it"):
        out_of_fold([model, model], project, "B")


def test_what_cannot_be_measured_says_so():
    model, project = Detector.load(small.trained()), small.memory()
    cases = (
        (["D"], CalibrationOptions(), "no run 'D'"),
        (None, CalibrationOptions(metric="best"), "none of czii, f1"),
        (["A"], CalibrationOptions(smooth="turns"), "none of none, flips, all"),
    )
    for runs, options, message in cases:
        with pytest.raises(SelectionError, match=message):
            measure([model], Runs(project, runs), options)
    empty = small.MemoryProject([small.BALL])
    empty.add(small.tomogram()[0])
    with pytest.raises(SelectionError, match="no true picks of ball"):
        measure([model], empty, CalibrationOptions())


def blobs():
    """A model that finds connected components, whose centres move with the threshold."""
    plain = Detector.load(small.trained())
    return replace(plain, method=replace(plain.method, peaks=Components()))


def test_where_positions_depend_on_the_threshold_each_one_is_decoded_anew():
    model, project = blobs(), small.memory(n=10)
    picker = Picker(model, PickOptions(device="cpu"))
    ((_, found),) = candidates_of(picker, project.tomogram("C"))
    assert set(found) == set(GRID)
    for cut in (0.1, 0.5):
        alone, _ = Picker(model, PickOptions(thresholds={"ball": cut}, device="cpu")).pick(project.tomogram("C"))
        assert np.allclose(np.sort(found[cut].positions, axis=0), np.sort(alone.positions, axis=0))
    result = measure([model], Runs(project, ["C"]), CalibrationOptions(device="cpu"))
    cut = result.thresholds["ball"].threshold
    values = []
    for at in GRID:
        kept = {"C": found[at]}
        values.append(matched_scores(kept, {"C": project.picks("C")}, [small.BALL]).objects["ball"][0].fbeta)
    assert cut in GRID and result.thresholds["ball"].value == pytest.approx(values[GRID.index(cut)])
    assert result.thresholds["ball"].value >= 0.998 * max(values)
    # Nothing is kept below the threshold: a lower one would not give more picks but others.
    below, _ = Picker(model, PickOptions(keep_below=True, device="cpu")).pick(project.tomogram("C"))
    assert (below.scores >= model.thresholds["f1"]["ball"]).all()
    seen, fresh = Detector.load(small.trained()), replace(model, facts=replace(model.facts, learned_from=()))
    with pytest.raises(SelectionError, match="find peaks in different ways"):
        measure([seen, fresh], project, CalibrationOptions(device="cpu"))


def test_an_ensemble_is_calibrated_as_a_model_is(tmp_path):
    one, two = (Detector.load(small.trained()), Detector.load(small.trained()))
    combine([one, two], tmp_path / "both", CombineOptions(device="cpu"))
    text = (tmp_path / "both" / "ensemble.json").read_text()
    options = CalibrationOptions("precision=0.9", map_scores=True, smooth="flips", device="cpu")
    result = measure([load_model(tmp_path / "both")], small.memory(("D", "E", "F")), options)
    write_thresholds(tmp_path / "both", result, options)
    after = load_model(tmp_path / "both")
    assert after.thresholds["precision=0.9"]["ball"] == result.thresholds["ball"].threshold
    assert after.score_maps == result.score_maps and set(after.score_maps) == {"ball"}
    undo(tmp_path / "both")
    assert (tmp_path / "both" / "ensemble.json").read_text() == text


def test_a_tomogram_of_another_voxel_spacing_is_told(told):
    project = small.memory(("D",), shape=(30, 80, 60), n=8, spacing=8.0)
    options = CalibrationOptions(device="cpu")
    result = measure([Detector.load(small.trained())], project, options)
    assert any("voxel spacing 8 Å resampled to the model's 10 Å" in line for line in told)
    assert result.thresholds["ball"].value > 0.7


def test_training_measures_thresholds_of_components_on_the_grid(tmp_path):
    recipe = small.recipe("train.steps=40", "train.validate_every=40", "train.lr=5e-3", "train.ema_decay=0.9")
    recipe = replace(recipe, peaks=Components())
    made = fit(recipe, [Source(small.memory(), val_runs=["C"])], tmp_path / "m", FitOptions("cpu"))
    for metric in ("f1", "czii"):
        assert made.thresholds[metric]["ball"] in {*GRID, DEFAULT_THRESHOLDS[metric]}
    tried = {}
    project = small.memory()
    for cut in (*GRID, made.thresholds["f1"]["ball"]):
        picks = made.pick(project.tomogram("C"), {"ball": cut}).picks
        tried[cut] = matched_scores({"C": picks}, {"C": project.picks("C")}, [small.BALL]).objects["ball"][0].fbeta
    assert tried[made.thresholds["f1"]["ball"]] >= 0.99 * max(tried.values())


def test_a_calibration_that_was_cut_off_is_repeated(tmp_path):
    """Killed behind the history and before the thresholds: repeated, it stands there once."""
    folder = small.copy_of(small.trained(), tmp_path / "m")
    before = (folder / "detector.json").read_text()
    nothing = reliability(np.zeros(0), np.zeros(0))
    found = Calibrated({"ball": Calibration(0.7, 0.5, 9, 9, True)}, {"ball": Believed(nothing, nothing)}, ("C",), {})
    for _ in range(2):
        (folder / "detector.json").write_text(before)
        write_thresholds(folder, found, CalibrationOptions("precision=0.9"))
    assert len(json.loads((folder / "calibration.json").read_text())["history"]) == 1
    write_thresholds(folder, found, CalibrationOptions("precision=0.8"))
    assert len(json.loads((folder / "calibration.json").read_text())["history"]) == 2


@pytest.mark.parametrize(
    "history",
    [3, {}, [3], [{}], [{"before": 1.0}], [{"before": {"f1": 0.5}}], [{"before": {"f1": {"a": "x"}}}],
     [{"before": {}, "score_maps_before": 3}], [{"before": {}, "score_maps_before": {"a": {"heights": "x"}}}]],
)  # fmt: skip
def test_a_history_that_is_none_is_refused_and_changes_nothing(tmp_path, history):
    (tmp_path / "detector.json").write_text('{"thresholds": {}}')
    (tmp_path / HISTORY).write_text(json.dumps({"format_version": 1, "history": history}))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ModelError):
        undo(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
