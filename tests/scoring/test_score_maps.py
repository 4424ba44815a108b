"""How far scores can be believed, and maps of scores: honest, always rising, and there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import small
from tomopick.core.errors import ModelError, SelectionError
from tomopick.core.types import PickableObject, Picks
from tomopick.scoring.fitted_maps import fit_maps, held_out_scores
from tomopick.scoring.matching import scored_picks
from tomopick.scoring.score_maps import ScoreMap, heights, mapped, reliability, rescaled


def spaced(run, scores, right, name="ball"):
    """Picks far apart, of which those that are right have a true particle under them."""
    at = np.array([[0.0, 0.0, 500.0 * k] for k in range(len(scores))]).reshape(-1, 3)
    found = Picks(run, at, np.full(len(at), name), np.array(scores, dtype=float))
    wanted = at[np.array(right, dtype=bool)]
    return found, Picks(run, wanted, np.full(len(wanted), name))


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
    honest_ones = ScoreMap.fit(scores[::2], boasting[::2])(scores[1::2])
    assert reliability(honest_ones, boasting[1::2]).expected_error < 0.03


def test_hits_are_one_to_one():
    found, truth = spaced("a", [0.4, 0.9], [1, 1])
    twice = Picks.join("a", [found, found.select(np.array([0]))])
    scores, hits, n_truth = scored_picks({"a": twice}, {"a": truth}, small.BALL)
    assert n_truth == len(truth)
    assert scores.tolist() == [0.4, 0.9, 0.4] and hits.tolist() == [True, True, False]


def test_a_map_by_hand():
    """Ten picks at 0.2 of which one is right, ten at 0.6 of which nine are."""
    fitted = ScoreMap.fit(np.repeat([0.2, 0.6], 10), np.r_[1, np.zeros(9), np.ones(9), 0].astype(bool))
    # One part in a hundred is the height itself, so that the ends rise too.
    assert fitted.heights == pytest.approx((0, 0.2, 0.6, 1))
    assert fitted.scores == pytest.approx((0.099, 0.099 + 0.002, 0.891 + 0.006, 0.891 + 0.01))
    assert fitted(np.array([0.4])) == pytest.approx([(0.101 + 0.897) / 2])


def test_what_falls_becomes_one_step():
    """Right more often at 0.3 than at 0.5: both count as half right."""
    scores = np.repeat([0.1, 0.3, 0.5, 0.9], 10)
    hits = np.concatenate([np.arange(10) < n for n in (1, 6, 4, 9)])
    fitted = ScoreMap.fit(scores, hits)
    assert fitted.heights == pytest.approx((0, 0.1, 0.3, 0.5, 0.9, 1))
    assert fitted(np.array([0.3, 0.4, 0.5])) == pytest.approx([0.498, 0.499, 0.5])


def test_what_is_never_right_has_no_share_in_what_always_is():
    """Nothing right up to 0.6, all from 0.9 on: the line between the two begins at 0.6, wherever most picks lie."""
    scores = np.r_[np.full(200, 0.05), 0.6, np.full(20, 0.9)]
    fitted = ScoreMap.fit(scores, scores > 0.8)
    assert fitted(np.array([0.5, 0.6])) == pytest.approx([0.005, 0.006])
    assert fitted(np.array([0.75, 0.9])) == pytest.approx([(0.006 + 0.999) / 2, 0.999])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.booleans())
def test_maps_rise_and_moved_thresholds_keep_the_same_picks(seed, coarse):
    """Whatever the picks were like, ties at the top among them, which is where clipped heights lie."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 9, 80) / 8 if coarse else np.minimum(rng.beta(1, 1, 80) * 1.2, 1)
    hits = rng.random(80) < scores
    hits[:6] = [0, 0, 0, 1, 1, 1]
    fitted = ScoreMap.fit(scores, hits)
    fine = np.round(rng.random(300), 6)
    assert np.array_equal(np.argsort(fine, kind="stable"), np.argsort(fitted(fine), kind="stable"))
    assert fitted.inverse(fitted(fine)) == pytest.approx(fine, abs=1e-9)
    assert (fitted(fine) >= 0).all() and (fitted(fine) <= 1).all()
    cuts = np.unique(scores)
    for cut in (cuts[1:] + cuts[:-1]) / 2:
        moved = rescaled({"ball": cut}, {}, {"ball": fitted})["ball"]
        assert np.array_equal(fitted(scores) >= moved, scores >= cut)
        assert heights({"ball": moved}, {"ball": fitted})["ball"] == pytest.approx(cut, abs=1e-9)


def test_too_little_to_fit_on():
    for scores, hits in ((np.zeros(0), np.zeros(0)), (np.linspace(0, 1, 40), np.zeros(40)), (np.ones(4), [0, 1, 0, 1])):
        with pytest.raises(SelectionError, match="too few to map scores by"):
            ScoreMap.fit(scores, hits)
    rng = np.random.default_rng(0)
    scores = rng.random(50)
    found, truth = spaced("a", scores, rng.random(50) < scores)
    other = PickableObject("other", 40.0, 2)
    maps, refused = fit_maps({"a": found}, {"a": truth}, [small.BALL, other])
    assert set(maps) == {"ball"} and "0 right and 0 false picks are too few" in refused["other"]


@pytest.mark.parametrize(
    "knots",
    [
        {"heights": [0, 1], "scores": [0.5, 0.5]},
        {"heights": [0, 0.5], "scores": [0, 1]},
        {"heights": [0, 1], "scores": [0, 0.5, 1]},
        {"heights": [0, 1], "scores": [0, float("nan")]},
        {"heights": [0, 1]},
        {"heights": ["a", "b"], "scores": [0, 1]},
        [0, 1],
    ],
)
def test_knots_that_make_no_map(knots):
    with pytest.raises(ModelError, match="calibrate again"):
        ScoreMap.from_json(knots)


def test_a_map_in_json():
    fitted = ScoreMap((0.0, 0.3, 1.0), (0.1, 0.2, 0.95))
    assert ScoreMap.from_json(fitted.to_json()) == fitted


def test_mapping_leaves_objects_without_a_map_and_the_order_alone():
    picks = Picks("a", np.arange(9.0).reshape(3, 3), ["ball", "ring", "ball"], [0.9, 0.8, 0.3])
    found = mapped(picks, {"ball": ScoreMap((0.0, 1.0), (0.0, 0.5))})
    assert found.scores == pytest.approx([0.45, 0.8, 0.15]) and np.array_equal(found.positions, picks.positions)


def test_held_out_scores_are_of_maps_that_have_not_seen_the_run():
    """In run b nothing is ever right, which only a map that has seen b can know."""
    rng = np.random.default_rng(0)
    found, truth = {}, {}
    for run, honest in (("a", True), ("b", False), ("c", True)):
        scores = np.round(rng.random(60), 4)
        found[run], truth[run] = spaced(run, scores, rng.random(60) < scores * honest)
    scores, hits = held_out_scores(found, truth, [["a"], ["b"], ["c"]], small.BALL)
    assert len(scores) == 180 and not hits[60:120].any()
    of_b = ScoreMap.fit(*scored_picks(found, {run: truth[run] for run in "ac"}, small.BALL)[:2])
    assert scores[60:120] == pytest.approx(of_b(found["b"].scores))
    alone, _ = held_out_scores(found, truth, [["a", "b", "c"]], small.BALL)
    assert not len(alone)
