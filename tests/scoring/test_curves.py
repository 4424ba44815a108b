"""Curves, localisation, confusion, duplicates, intervals: arrays of known answer, and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopick.core.errors import TomopickError
from tomopick.core.types import PickableObject, Picks
from tomopick.scoring.curves import confusion, duplicates, precision_recall
from tomopick.scoring.intervals import bootstrap, paired_difference
from tomopick.scoring.localisation import localisations
from tomopick.scoring.matching import Counts, fbeta
from tomopick.scoring.scores import czii_score, matched_scores

BALL = PickableObject("ball", 100.0, 1)
ROD = PickableObject("rod", 60.0, 2, score_weight=2.0)


def line(run, *xs, name="ball", scores=None, y=0.0):
    positions = np.array([[0.0, y, x] for x in xs]).reshape(-1, 3)
    return Picks(run, positions, np.array([name] * len(xs)), np.ones(len(xs)) if scores is None else np.array(scores))


def scene(rng, runs=4, n=60):
    """Truth of two objects in several runs, and picks of it that are displaced, partly false and of varied score."""
    truth, found = {}, {}
    for k in range(runs):
        run = f"r{k}"
        at = rng.uniform(0, 3000, (n, 3))
        names = np.where(np.arange(n) % 2, "ball", "rod")
        truth[run] = Picks(run, at, names)
        kept = rng.random(n) < 0.5 + 0.1 * k
        noise = rng.uniform(0, 3000, (n // 2, 3))
        positions = np.concatenate([at[kept] + rng.normal(0, 12, (kept.sum(), 3)), noise])
        labels = np.concatenate([names[kept], np.where(rng.random(n // 2) < 0.5, "ball", "rod")])
        scores = np.round(np.concatenate([rng.beta(4, 2, kept.sum()), rng.beta(2, 4, n // 2)]), 2)
        found[run] = Picks(run, positions, labels, scores)
    return found, truth


def test_curve_of_four_picks_by_hand():
    truth = {"a": line("a", 0, 1000, 2000)}
    found = {"a": line("a", 0, 500, 1010, 1020, scores=[0.9, 0.8, 0.7, 0.6])}
    curve = precision_recall(found, truth, [BALL])["ball"]
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert curve.tp.tolist() == [1, 1, 2, 2]  # the last is a duplicate, hence false
    assert curve.precision == pytest.approx([1, 0.5, 2 / 3, 0.5])
    assert curve.recall == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.average_precision == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert (curve.at(0.75).tp, curve.at(0.75).fp, curve.at(0.75).fn) == (1, 1, 2)
    assert curve.at(0.7).tp == 2  # a pick at the threshold is kept
    assert curve.at(0.95).candidates == 0


def test_equal_scores_are_one_point():
    truth = {"a": line("a", 0, 1000)}
    curve = precision_recall({"a": line("a", 0, 500, 1000, scores=[0.5, 0.5, 0.5])}, truth, [BALL])["ball"]
    assert (curve.tp.tolist(), curve.n.tolist()) == ([2], [3])
    assert curve.average_precision == pytest.approx(2 / 3)


def test_average_precision_without_truth_or_picks():
    curves = precision_recall({"a": line("a", 0)}, {"a": Picks.empty("a")}, [BALL])
    assert np.isnan(curves["ball"].average_precision)
    nothing = precision_recall({}, {"a": line("a", 0)}, [BALL])["ball"]
    assert nothing.average_precision == 0 and nothing.at(0.0).fn == 1


def test_every_point_of_the_curve_is_what_evaluate_finds_there():
    found, truth = scene(np.random.default_rng(1))
    curves = precision_recall(found, truth, [BALL, ROD])
    for cut in (0.05, 0.31, 0.5, 0.77):
        kept = {run: p.select(p.scores >= cut) for run, p in found.items()}
        scores = matched_scores(kept, truth, [BALL, ROD])
        for name, counts in scores.objects.items():
            assert curves[name].at(cut) == counts[0]


def test_localisation_tells_a_coordinate_offset():
    truth = {"a": line("a", *range(0, 5000, 500))}
    moved = truth["a"].shifted((0.0, 5.0, -3.0))
    error = localisations({"a": moved}, truth, [BALL, ROD])
    assert error["ball"].n == 10
    assert error["ball"].mean == pytest.approx((0, 5, -3))
    assert error["ball"].median == error["ball"].p95 == pytest.approx(np.hypot(5, 3))
    assert error["ball"].error == pytest.approx((0, 0, 0), abs=1e-9)
    assert error["rod"].n == 0 and np.isnan(error["rod"].median)


def test_localisation_median_and_95_percent():
    truth = {"a": line("a", *range(0, 21000, 1000))}
    picks = line("a", *(1000 * k + k for k in range(21)))
    error = localisations({"a": picks}, truth, [BALL])["ball"]
    assert (error.median, error.p95) == pytest.approx((10.0, 19.0))


def test_confusion_puts_each_pick_and_each_particle_in_one_place():
    truth = {"a": Picks.join("a", [line("a", 0, 1000), line("a", 2000, 3000, name="rod")])}
    found = {"a": Picks.join("a", [line("a", 5, 2005, 9000), line("a", 1005, 3005, name="rod")])}
    table = confusion(found, truth, [BALL, ROD])
    assert table.names == ("ball", "rod")
    #                           ball rod missed
    assert table.counts.tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_confusion_reach_is_the_true_particles():
    truth = {"a": line("a", 0, name="rod")}  # 30 Å are within reach of the ball, not of the rod
    assert confusion({"a": line("a", 31)}, truth, [BALL, ROD]).counts[1].tolist() == [0, 0, 1]
    assert confusion({"a": line("a", 29)}, truth, [BALL, ROD]).counts[1].tolist() == [1, 0, 0]


def test_confusion_margins_are_the_numbers_of_picks_and_particles():
    found, truth = scene(np.random.default_rng(4))
    table = confusion(found, truth, [BALL, ROD])
    for k, name in enumerate(table.names):
        assert table.counts[k].sum() == sum(len(p.of(name)) for p in truth.values())
        assert table.counts[:, k].sum() == sum(len(p.of(name)) for p in found.values())


def test_duplicates_count_the_worse_of_a_pair():
    picks = line("a", 0, 30, 60, 500, scores=[0.5, 0.9, 0.4, 0.8])
    assert duplicates({"a": picks}, [BALL, ROD]) == {"ball": 2, "rod": 0}
    assert duplicates({"a": line("a", 0, 0, 400)}, [BALL]) == {"ball": 1}


@given(*[st.integers(0, 50)] * 3, st.sampled_from([0.5, 1.0, 4.0]))
def test_f_beta_is_one_figure_however_it_is_reckoned(tp, false, missed, beta):
    wanted = Counts(tp, false, missed, beta).fbeta
    assert fbeta(np.array([tp]), np.array([tp + false]), tp + missed, beta)[0] == pytest.approx(wanted, abs=1e-12)


def test_a_million_picks():
    rng = np.random.default_rng(0)
    at = rng.uniform(0, 60000, (300_000, 3))
    picks = np.concatenate([at + rng.normal(0, 15, at.shape), rng.uniform(0, 60000, (700_000, 3))])
    found = {"a": Picks("a", picks, np.full(len(picks), "ball"), rng.random(len(picks)))}
    truth = {"a": Picks("a", at, np.full(len(at), "ball"))}
    curve = precision_recall(found, truth, [BALL])["ball"]
    assert curve.at(0.0).candidates == 1_000_000
    assert curve.at(0.0).recall > 0.9
    assert duplicates(found, [BALL])["ball"] > 0


@pytest.mark.parametrize("metric", ["czii", "f1"])
def test_bootstrap_contains_the_figure_of_evaluate(metric):
    found, truth = scene(np.random.default_rng(5), runs=8)
    interval = bootstrap(found, truth, [BALL, ROD], rng=np.random.default_rng(0), metric=metric)
    if metric == "czii":
        expected = czii_score(found, truth, [BALL, ROD]).score
    else:
        expected = matched_scores(found, truth, [BALL, ROD]).macro_f1[0]
    assert interval.value == pytest.approx(expected, abs=1e-12)
    assert interval.low < interval.value < interval.high


def test_bootstrap_of_like_runs_has_no_width_and_of_one_run_says_so():
    truth = {run: line(run, 0, 1000) for run in "abc"}
    found = {run: line(run, 0) for run in "abc"}
    same = bootstrap(found, truth, [BALL], rng=np.random.default_rng(0))
    assert same.low == same.value == same.high == pytest.approx(17 * 1 / (16 * 2 + 1))
    one = bootstrap({"a": found["a"]}, {"a": truth["a"]}, [BALL], rng=np.random.default_rng(0))
    assert np.isnan(one.low) and one.to_json()["high"] is None


def test_paired_difference_is_narrower_than_the_runs_differ():
    rng = np.random.default_rng(6)
    worse, truth = scene(rng, runs=10)
    # The better picker finds two more of the true balls in every run.
    better = {}
    for run, picks in worse.items():
        missed = truth[run].of("ball").select(np.arange(2))
        better[run] = Picks.join(run, [picks, missed])
    both = paired_difference(worse, better, truth, [BALL, ROD], rng=np.random.default_rng(0))
    alone = bootstrap(worse, truth, [BALL, ROD], rng=np.random.default_rng(0))
    width = both.difference.high - both.difference.low
    assert both.difference.value == pytest.approx(both.b - both.a)
    assert width < (alone.high - alone.low) / 2
    none = paired_difference(worse, worse, truth, [BALL, ROD], rng=np.random.default_rng(0)).difference
    assert none.low == none.value == none.high == 0


def test_errors_are_one_line():
    truth = {"a": line("a", 0)}
    with pytest.raises(TomopickError, match="unknown metric 'auc'"):
        bootstrap(truth, truth, [BALL], rng=np.random.default_rng(0), metric="auc")
    with pytest.raises(TomopickError, match="no run with truth"):
        precision_recall({}, {}, [BALL])
    with pytest.raises(TomopickError, match="no finite number"):
        confusion({"a": line("a", 0, scores=[np.nan])}, truth, [BALL])
    with pytest.raises(TomopickError, match="there is no score"):
        bootstrap({}, {"a": Picks.empty("a")}, [BALL], rng=np.random.default_rng(0), metric="f1")
