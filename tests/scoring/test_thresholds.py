import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopick.core.errors import SelectionError, TomopickError
from tomopick.core.types import PickableObject, Picks
from tomopick.scoring.localisation import median_shift
from tomopick.scoring.metrics import DEFAULT_THRESHOLDS, METRICS, metric_name, thresholds_for
from tomopick.scoring.scores import czii_score, matched_scores
from tomopick.scoring.thresholds import GRID, calibrate, calibrate_grid, choose_thresholds, found_uphill, picks_for

BALL = PickableObject("ball", 60.0)


def along_x(run, xs, scores=None, name="ball"):
    return Picks(run, [(0.0, 0.0, x) for x in xs], [name] * len(xs), scores)


def value_at(found, truth, metric, threshold):
    """F after really throwing away what is below the threshold."""
    kept = {run: p.select(p.scores >= threshold) for run, p in found.items()}
    if metric == "czii":
        return czii_score(kept, truth, [BALL]).objects["ball"].fbeta
    return matched_scores(kept, truth, [BALL], radii=(0.5,)).objects["ball"][0].fbeta


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.sampled_from(["f1", "czii"]), st.booleans())
def test_no_threshold_is_better(seed, metric, coarse):
    """Against every cut there is, with ties in the scores when they are coarse, and crowds around the truth."""
    rng = np.random.default_rng(seed)
    found, truth = {}, {}
    for run in ("a", "b"):
        n, m = rng.integers(1, 15, 2)
        scores = rng.integers(0, 5, n) / 4 if coarse else rng.random(n)
        found[run] = Picks(run, rng.uniform(0, 60, (n, 3)), ["ball"] * n, scores)
        truth[run] = Picks(run, rng.uniform(0, 60, (m, 3)), ["ball"] * m)
    result = calibrate(found, truth, [BALL], metric)["ball"]
    every = [value_at(found, truth, metric, s) for s in np.unique(np.r_[found["a"].scores, found["b"].scores])]
    assert result.value == pytest.approx(max(every), abs=1e-12)
    if result.calibrated:
        assert value_at(found, truth, metric, result.threshold) == pytest.approx(result.value, abs=1e-12)
    else:
        assert max(every) == 0
    smooth = calibrate(found, truth, [BALL], metric, tolerance=0.05)["ball"]
    assert smooth.value >= result.value * 0.95 - 1e-12
    if smooth.calibrated:
        assert value_at(found, truth, metric, smooth.threshold) == pytest.approx(smooth.value, abs=1e-12)


def test_threshold_lies_halfway():
    truth = {"a": along_x("a", [0, 500])}
    found = {"a": along_x("a", [0, 500, 5000, 6000], [0.9, 0.8, 0.4, 0.1])}
    result = calibrate(found, truth, [BALL], "f1")["ball"]
    assert result.threshold == pytest.approx(0.6) and result.value == 1.0
    assert (result.n_truth, result.n_candidates, result.calibrated) == (2, 4, True)


def test_the_lowest_score_is_its_own_threshold():
    """Below it nobody has looked."""
    result = calibrate({"a": along_x("a", [0, 500], [0.9, 0.2])}, {"a": along_x("a", [0, 500])}, [BALL], "f1")
    assert result["ball"].threshold == 0.2


def test_neighbouring_floats():
    top = np.nextafter(0.5, 1)
    found, truth = {"a": along_x("a", [0, 5000], [top, 0.5])}, {"a": along_x("a", [0])}
    result = calibrate(found, truth, [BALL], "f1")["ball"]
    assert result.threshold == top and value_at(found, truth, "f1", result.threshold) == result.value == 1


def test_czii_cuts_lower_than_f1():
    """One hit among ten picks is worth keeping for F-beta 4 and not for F1."""
    hits = 1000.0 * np.arange(20)
    false = -1e5 - 1000.0 * np.arange(45)
    scores = np.r_[np.full(10, 0.9), np.linspace(0.1, 0.5, 10), np.linspace(0.099, 0.499, 45)]
    found, truth = {"a": along_x("a", np.r_[hits, false], scores)}, {"a": along_x("a", hits)}
    f1, czii = (calibrate(found, truth, [BALL], m)["ball"] for m in ("f1", "czii"))
    assert f1.threshold > 0.49 and czii.threshold == pytest.approx(0.1, abs=1e-3)


def test_czii_counts_one_pick_on_two_references():
    found, truth = {"a": along_x("a", [10], [0.7])}, {"a": along_x("a", [0, 20])}
    assert calibrate(found, truth, [BALL], "czii")["ball"].value == pytest.approx(17 * 2 / (16 * 2 + 1))
    assert calibrate(found, truth, [BALL], "f1")["ball"].value == pytest.approx(2 / 3)


def test_runs_are_pooled():
    found = {"a": along_x("a", [0, 900], [0.9, 0.3]), "b": along_x("b", [0, 900], [0.8, 0.6]), "z": along_x("z", [7])}
    truth = {"a": along_x("a", [0]), "b": along_x("b", [0, 900]), "c": along_x("c", [0])}
    result = calibrate(found, truth, [BALL], "f1")["ball"]
    assert result.threshold == pytest.approx(0.45) and result.value == pytest.approx(6 / 7)
    assert (result.n_truth, result.n_candidates) == (4, 4)


def test_smoothing_takes_the_middle_of_a_plateau():
    """A thousand hits, then false picks one by one: the first cuts beyond the best are as good as the best."""
    hits, false = 1000.0 * np.arange(1000), -1e6 - 1000.0 * np.arange(30)
    scores = np.r_[np.full(1000, 0.9), 0.5 - 0.01 * np.arange(30)]
    found, truth = {"a": along_x("a", np.r_[hits, false], scores)}, {"a": along_x("a", hits)}
    exact = calibrate(found, truth, [BALL], "f1")["ball"]
    smooth = calibrate(found, truth, [BALL], "f1", tolerance=0.002)["ball"]
    assert exact.threshold == pytest.approx(0.7) and exact.value == 1
    # F1 = 2000 / (2000 + k) stays above 0.998 up to k = 4, so the cuts are k = 0..4 and the median is k = 2.
    assert smooth.threshold == pytest.approx(0.485) and smooth.value == pytest.approx(2000 / 2002)


@pytest.mark.parametrize("metric", ["f1", "czii"])
@pytest.mark.parametrize(("found", "truth"), [([], [0]), ([0], []), ([], []), ([5000], [0])])
def test_nothing_to_measure(metric, found, truth):
    result = calibrate({"a": along_x("a", found)}, {"a": along_x("a", truth)}, [BALL], metric)["ball"]
    assert result.threshold == DEFAULT_THRESHOLDS[metric] and not result.calibrated and result.value == 0
    assert (result.n_truth, result.n_candidates) == (len(truth), len(found))


def test_bad_input():
    good = {"a": along_x("a", [0])}
    with pytest.raises(TomopickError, match=r"metric 'f2' is none of czii, f1, positives and precision=P"):
        calibrate(good, good, [BALL], "f2")
    with pytest.raises(TomopickError, match="unknown object 'other'"):
        calibrate(good, {"a": along_x("a", [0], name="other")}, [BALL], "f1")


def test_median_shift():
    rng = np.random.default_rng(0)
    objects = [BALL, PickableObject("big", 150.0, 2)]
    names = np.repeat(["ball", "big"], 40)
    truth = Picks("a", rng.uniform(0, 9000, (80, 3)), names)
    good = Picks("a", truth.positions + np.array([4.0, -5.0, 6.0]), names, np.full(80, 0.8))
    lower = Picks("a", truth.positions + 0.5, names, np.full(80, 0.3))  # nearer, but under the threshold
    found = {"a": Picks.join("a", [good, lower, along_x("a", [-1e5], [0.9])])}
    moved, n = median_shift(found, {"a": truth}, objects, {"ball": 0.5, "big": 0.5})
    assert moved == pytest.approx((4, -5, 6)) and n == 80
    assert median_shift({}, {"a": truth}, objects, {}) == ((0.0, 0.0, 0.0), 0)
    assert median_shift({"a": lower}, {"a": truth}, objects, {})[0] == pytest.approx((0.5, 0.5, 0.5))


def test_a_grid_takes_the_best_of_what_was_found_at_each_threshold():
    """Two blobs that flow together at a low threshold: one pick between them, which hits neither."""
    truth = {"a": along_x("a", [0, 100])}
    found = {
        0.1: {"a": along_x("a", [50], [0.9])},
        0.5: {"a": along_x("a", [0, 100], [0.9, 0.6])},
        0.7: {"a": along_x("a", [0], [0.9])},
    }
    for metric in ("f1", "czii", "precision=0.9"):
        best = calibrate_grid(found, truth, [BALL], metric)["ball"]
        assert (best.threshold, best.value, best.n_truth, best.n_candidates, best.calibrated) == (0.5, 1.0, 2, 2, True)
    assert choose_thresholds(found, truth, [BALL], "f1", 0.0) == calibrate_grid(found, truth, [BALL], "f1")
    nothing = calibrate_grid({0.1: found[0.1]}, truth, [BALL], "f1")["ball"]
    assert not nothing.calibrated and nothing.threshold == DEFAULT_THRESHOLDS["f1"]
    assert picks_for(found, {"ball": 0.52})["a"].positions.tolist() == found[0.5]["a"].positions.tolist()
    assert picks_for({0.1: found[0.1]}, {"ball": 0.52})["a"] is found[0.1]["a"]
    with pytest.raises(TomopickError, match="no thresholds to choose from"):
        calibrate_grid({}, truth, [BALL], "f1")


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["f1", "czii", "precision=0.6"]))
def test_for_positions_that_do_not_move_the_grid_is_a_coarse_optimum(seed, metric):
    rng = np.random.default_rng(seed)
    truth = {"a": along_x("a", 1000.0 * np.arange(12))}
    right = rng.random(30) < 0.5
    xs = np.where(right, 1000.0 * rng.integers(0, 12, 30), -1e6 - 1000.0 * np.arange(30))
    picks = along_x("a", xs, rng.random(30))
    cuts = np.unique(picks.scores)
    found = {float(cut): {"a": picks.select(picks.scores >= cut)} for cut in cuts}
    exact, grid = calibrate({"a": picks}, truth, [BALL], metric)["ball"], calibrate_grid(found, truth, [BALL], metric)
    assert grid["ball"].value == pytest.approx(exact.value)
    assert grid["ball"].calibrated == exact.calibrated


def test_precision_needs_the_fraction_and_not_more():
    """11 of 20 are exactly 0.55, which 0.55 * 20 in floating point is not."""
    truth = {"a": along_x("a", 1000.0 * np.arange(11))}
    found = {"a": along_x("a", np.r_[1000.0 * np.arange(11), -1000.0 * np.arange(1, 10)], np.full(20, 0.5))}
    best = calibrate(found, truth, [BALL], "precision=0.55")["ball"]
    assert best.calibrated and (best.threshold, best.value) == (0.5, 1.0)
    assert not calibrate(found, truth, [BALL], "precision=0.56")["ball"].calibrated


def test_metrics_have_one_spelling():
    assert metric_name("precision=0.90") == metric_name("precision=.9") == "precision=0.9"
    assert metric_name("f1") == "f1"
    for text in ("precision", "precision=", "precision=0", "precision=1.1", "precision=nan", "recall=0.5", "f2", ""):
        with pytest.raises(SelectionError, match="none of czii, f1, positives and precision=P"):
            metric_name(text)
    known = {"f1": {"ball": 0.4}, "czii": {"ball": 0.1}, "precision=0.9": {"ball": 0.8}}
    assert thresholds_for(known, "precision=.90", "m") == {"ball": 0.8}
    with pytest.raises(SelectionError, match=r"m: no thresholds for precision=0\.8; it has czii, f1, precision=0\.9"):
        thresholds_for(known, "precision=0.8", "m")


@given(st.floats(0.0, 0.98), st.floats(0.0, 0.3), st.integers(0, 1000))
def test_few_thresholds_are_tried_and_the_best_of_all_is_found(summit, lowest, seed):
    # Hits fall and false picks grow with the distance from a summit.
    truth = {"A": along_x("A", range(0, 6000, 300))}
    tried = []

    def pick_at(cuts):
        tried.append(cuts["ball"])
        far = int(40 * abs(cuts["ball"] - summit))
        return {"A": along_x("A", [*range(0, 300 * max(0, 20 - far), 300), *range(10_000, 10_000 + 300 * far, 300)])}

    found = found_uphill(pick_at, truth, [BALL], METRICS, {"ball": lowest})
    assert len(tried) == len(set(tried)) <= 14 and min(tried) >= min(lowest, GRID[-1])
    everywhere = {cut: pick_at({"ball": cut}) for cut in GRID if cut >= lowest or cut == GRID[-1]}
    for metric in METRICS:
        best, most = (choose_thresholds(f, truth, [BALL], metric, tolerance=0.0)["ball"] for f in (found, everywhere))
        assert best.value == most.value
        if best.calibrated:
            assert picks_for(found, {"ball": best.threshold})["A"].positions.tolist() == pick_at(
                {"ball": best.threshold})["A"].positions.tolist()  # fmt: skip
