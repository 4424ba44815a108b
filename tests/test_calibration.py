"""Reliability, isotonic maps, thresholds for a metric, views of a volume, and writing into a model folder and back."""

import json

import numpy as np
import pytest

import small
from tomopick import Detector
from tomopick.calibration import (
    CalibrationOptions,
    IsotonicMap,
    candidates_of,
    choose_thresholds,
    hits_of,
    measure,
    out_of_fold,
    reliability,
    trained_on,
    undo,
    write_thresholds,
)
from tomopick.errors import ModelError, SelectionError
from tomopick.evaluate import matched_scores
from tomopick.pick import Picker, PickOptions
from tomopick.types import Picks


def spaced(scores, right):
    """Picks far apart, of which those that are right have a true particle under them."""
    at = np.array([[0.0, 0.0, 500.0 * k] for k in range(len(scores))])
    found = Picks("a", at, np.full(len(at), "ball"), np.array(scores, dtype=float))
    wanted = at[np.array(right, dtype=bool)]
    return {"a": found}, {"a": Picks("a", wanted, np.full(len(wanted), "ball"))}


def test_reliability_by_hand():
    scores, hits = np.array([0.1, 0.15, 0.85, 0.95, 1.0]), np.array([0, 1, 1, 1, 0], dtype=bool)
    result = reliability(scores, hits, 2)
    assert result.n.tolist() == [2, 3]
    assert result.score == pytest.approx([0.125, 2.8 / 3])
    assert result.fraction == pytest.approx([0.5, 2 / 3])
    assert result.expected_error == pytest.approx(2 / 5 * 0.375 + 3 / 5 * (2.8 / 3 - 2 / 3))
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, dtype=bool)).expected_error)


def test_scores_that_tell_the_truth_have_no_error_and_overconfident_ones_do():
    rng = np.random.default_rng(0)
    scores = rng.random(20000)
    honest = rng.random(20000) < scores
    boasting = rng.random(20000) < scores**3
    assert reliability(scores, honest).expected_error < 0.02
    assert reliability(scores, boasting).expected_error > 0.2
    mapped = IsotonicMap.fit(scores[::2], boasting[::2])(scores[1::2])
    assert reliability(mapped, boasting[1::2]).expected_error < 0.03


def test_isotonic_map_by_hand():
    fitted = IsotonicMap.fit(np.array([0.1, 0.2, 0.3, 0.4, 0.4]), np.array([0, 1, 0, 1, 1], dtype=bool))
    assert fitted(np.array([0.1, 0.2, 0.25, 0.3, 0.4, 0.9])) == pytest.approx([0, 0.5, 0.5, 0.5, 1, 1])
    assert (np.diff(fitted(np.linspace(0, 1, 50))) >= 0).all()
    with pytest.raises(SelectionError, match="no picks"):
        IsotonicMap.fit(np.zeros(0), np.zeros(0, dtype=bool))


def test_precision_keeps_the_most_recall_at_that_precision():
    found, truth = spaced([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0])
    chosen = choose_thresholds(found, truth, [small.BALL], "precision=0.75")["ball"]
    assert (chosen.threshold, chosen.value, chosen.calibrated) == (0.6, 1.0, True)
    strict = choose_thresholds(found, truth, [small.BALL], "precision=1")["ball"]
    assert (strict.threshold, strict.value) == (0.9, pytest.approx(1 / 3))
    never = choose_thresholds(*spaced([0.9, 0.8], [0, 1]), [small.BALL], "precision=0.9")["ball"]
    assert not never.calibrated


@pytest.mark.parametrize("metric", ["precision", "precision=", "precision=0", "precision=1.1", "recall=0.5", "f2"])
def test_unknown_metrics_are_named(metric):
    found, truth = spaced([0.9], [1])
    with pytest.raises(SelectionError, match="none of czii, f1 and precision=P"):
        choose_thresholds(found, truth, [small.BALL], metric)


def test_hits_are_one_to_one():
    found, truth = spaced([0.4, 0.9], [1, 1])
    found["a"] = Picks.join("a", [found["a"], found["a"].select(np.array([0]))])
    scores, hits = hits_of(found, truth, small.BALL)
    assert scores.tolist() == [0.4, 0.9, 0.4] and hits.tolist() == [True, True, False]


@pytest.mark.parametrize("views, number", [("none", 1), ("flips", 5), ("all", 7)])
def test_picks_of_every_view_come_back_to_where_the_particles_are(views, number):
    tomogram, truth = small.tomogram(seed=2)
    picker = Picker([Detector.load(small.trained())], PickOptions(device="cpu"))
    found = dict(candidates_of(picker, tomogram, views))
    assert len(found) == number
    for name, picks in found.items():
        score = matched_scores({"A": picks}, {"A": truth}, [small.BALL])
        assert score.macro_f1[0] > 0.7, name
        assert np.abs(score.localisation["ball"].mean).max() < 6, name


def test_thresholds_are_written_used_and_undone(tmp_path):
    folder = small.copy_of(small.trained(), tmp_path / "m")
    before = (folder / "detector.json").read_text()
    options = CalibrationOptions("precision=0.9", runs=["B", "C"], device="cpu", smooth="flips")
    lines = []
    model = Detector.load(folder)
    result = measure([model], small.memory(), CalibrationOptions(**{**vars(options), "say": lines.append}))
    assert any("has learned from it" in line for line in lines)  # B is of its training
    assert result.runs == ("B", "C")
    write_thresholds(folder, result, options)
    after = Detector.load(folder)
    assert after.thresholds["f1"]["ball"] == result.thresholds["ball"].threshold != model.thresholds["f1"]["ball"]
    assert after.thresholds["czii"] == model.thresholds["czii"] and after.checksum == model.checksum

    write_thresholds(folder, measure([after], small.memory(), CalibrationOptions("czii", ["C"], device="cpu")), options)
    undo(folder)
    assert Detector.load(folder).thresholds == after.thresholds
    assert undo(folder) == {k: dict(v) for k, v in model.thresholds.items()}
    assert json.loads((folder / "detector.json").read_text()) == json.loads(before)
    with pytest.raises(ModelError, match="no calibration to undo"):
        undo(folder)


def test_the_precision_asked_for_is_reached_on_those_runs():
    model, project = Detector.load(small.trained()), small.memory()
    result = measure([model], project, CalibrationOptions("precision=0.9", ["C"], device="cpu"))
    cut = {"ball": result.thresholds["ball"].threshold}
    picker = Picker([model], PickOptions(thresholds=cut, device="cpu"))
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
        (CalibrationOptions(runs=["D"]), "no run 'D'"),
        (CalibrationOptions(metric="best"), "none of czii, f1"),
        (CalibrationOptions(runs=["A"], smooth="turns"), "none of none, flips, all"),
    )
    for options, message in cases:
        with pytest.raises(SelectionError, match=message):
            measure([model], project, options)
    empty = small.MemoryProject([small.BALL])
    empty.add(small.tomogram()[0])
    with pytest.raises(SelectionError, match="no true picks of ball"):
        measure([model], empty, CalibrationOptions())
