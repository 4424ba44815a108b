import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_data import DATA
from tomopick.core.errors import SelectionError, TomopickError
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.types import PickableObject, Picks
from tomopick.scoring.figures import rankings
from tomopick.scoring.intervals import bootstrap, bootstrap_f1, paired_difference
from tomopick.scoring.scores import Counts, czii_score, match, matched_scores

BALL = PickableObject("ball", 60.0)


def along_x(run, xs, name="ball", scores=None):
    return Picks(run, [(0.0, 0.0, x) for x in xs], [name] * len(xs), scores)


def one(found, wanted):
    counts = czii_score({"a": along_x("a", found)}, {"a": along_x("a", wanted)}, [BALL]).objects["ball"]
    return counts.tp, counts.fp, counts.fn


def published():
    path = DATA / "metric_vectors.csv"
    if not path.exists():
        return {}
    blocks = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            blocks[row["block"]].append(row)
    return blocks


BLOCKS = published()


# --- the official metric ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([1, 2, 3], [0], (1, 2, 0)),
        ([10], [0, 20], (2, -1, 0)),
        ([30], [0], (1, 0, 0)),
        ([30.0001], [0], (0, 1, 1)),
        ([1, 2, 3, 4], [], (0, 4, 0)),
        ([], [1, 2, 3, 4], (0, 0, 4)),
    ],
)
def test_known_vectors(found, wanted, expected):
    assert one(found, wanted) == expected


def scenes():
    """scene -> (picks and truth by run, rows of what another implementation says)."""
    place = Path(__file__).parents[1] / "data" / "metric"
    with (place / "scenes.csv").open(newline="") as points, (place / "scores.csv").open(newline="") as scores:
        points, scores = list(csv.DictReader(points)), list(csv.DictReader(scores))
    for number in dict.fromkeys(row["scene"] for row in scores):
        sides = {"pick": {}, "truth": {}}
        for side, runs in sides.items():
            for run in ("A", "B"):
                rows = [r for r in points if (r["scene"], r["side"], r["run"]) == (number, side, run)]
                places = np.array([[float(r[k]) for k in "zyx"] for r in rows]).reshape(-1, 3)
                runs[run] = Picks(run, places, [r["object"] for r in rows])
        yield pytest.param(sides, [r for r in scores if r["scene"] == number], id=number)


@pytest.mark.parametrize(("sides", "wanted"), list(scenes()))
def test_another_implementation_of_the_official_metric(sides, wanted):
    """Its scenes and figures are in tests/data/metric, with the script that reckoned them in fractions and loops."""
    found = czii_score(sides["pick"], sides["truth"], CZII_OBJECTS)
    for row in wanted:
        c = found.objects[row["object"]]
        assert (c.tp, c.fp, c.fn) == tuple(int(row[k]) for k in ("tp", "fp", "fn"))
        assert c.fbeta == pytest.approx(float(row["fbeta4"]), abs=1e-14)
    assert len(wanted) == 6 and found.score == pytest.approx(float(wanted[0]["score"]), abs=1e-14)


@pytest.mark.skipif(not BLOCKS, reason=f"no metric_vectors.csv in {DATA}; set TOMOPICK_DATA")
@pytest.mark.parametrize("block", [str(b) for b in range(40)])
def test_published_tables(block):
    """Picks made to have the published P, T and hits give every published figure; lb_score is the weighted score."""
    far, found, wanted = 1e5, [], []
    for row in BLOCKS[block]:
        name, hits = row["particle_type"], int(row["hit"])
        hit = [1e3 * k for k in range(hits)]
        found.append(along_x("a", hit + [-far - 1e3 * k for k in range(int(row["P"]) - hits)], name))
        wanted.append(along_x("a", [x + 5 for x in hit] + [9 * far + 1e3 * k for k in range(int(row["miss"]))], name))
    score = czii_score({"a": Picks.join("a", found)}, {"a": Picks.join("a", wanted)}, CZII_OBJECTS)
    assert len(BLOCKS[block]) == 6
    for row in BLOCKS[block]:
        c = score.objects[row["particle_type"]]
        assert (c.candidates, c.references, c.tp, c.fn, c.fp) == tuple(
            int(row[k]) for k in ("P", "T", "hit", "miss", "fp")
        )
        for value, key in ((c.precision, "precision"), (c.recall, "recall"), (c.fbeta, "fbeta4")):
            assert value == pytest.approx(float(row[key]), abs=5.001e-7)  # six published decimals
        assert c.fbeta == pytest.approx(17 * c.tp / (16 * c.references + c.candidates), abs=1e-14)
    assert score.score == float(BLOCKS[block][0]["lb_score"])


def brute_force(found, wanted, reach):
    """The definition of docs/conventions.md, section 3, case by case."""
    if not len(wanted):
        return 0, len(found), 0
    if not len(found):
        return 0, 0, len(wanted)
    hit = {j for c in found for j, t in enumerate(wanted) if np.sum((np.asarray(c) - t) ** 2) <= reach**2}
    return len(hit), len(found) - len(hit), len(wanted) - len(hit)


# A coarse lattice makes duplicates and distances of exactly one reach (25 = |(15, 20, 0)|) common.
points = st.lists(st.tuples(*[st.integers(0, 8).map(lambda i: 5.0 * i)] * 3), max_size=12)


@settings(max_examples=150)
@given(st.lists(st.tuples(points, points), min_size=1, max_size=3))
def test_is_the_definition(runs):
    ball = replace(BALL, radius=50.0)
    found = {str(k): Picks(str(k), np.reshape(c, (-1, 3)), ["ball"] * len(c)) for k, (c, _) in enumerate(runs)}
    wanted = {str(k): Picks(str(k), np.reshape(t, (-1, 3)), ["ball"] * len(t)) for k, (_, t) in enumerate(runs)}
    tp, fp, fn = np.sum([brute_force(c, t, 25.0) for c, t in runs], axis=0)
    score = czii_score(found, wanted, [ball])
    counts = score.objects["ball"]
    assert (counts.tp, counts.fp, counts.fn) == (tp, fp, fn)
    expected = 17 * tp / (16 * (tp + fn) + tp + fp) if tp else 0.0
    assert score.score == pytest.approx(expected, abs=1e-12)


def test_sums_over_runs_before_dividing():
    truth = {"a": along_x("a", [0]), "b": along_x("b", [0, 1000, 2000])}
    score = czii_score({"a": along_x("a", [0]), "b": along_x("b", [500])}, truth, [BALL])
    counts = score.objects["ball"]
    assert (counts.tp, counts.fp, counts.fn) == (1, 1, 3)
    assert score.score == pytest.approx(17 / (16 * 4 + 2))


def test_weights():
    objects = [replace(BALL, name=n, score_weight=w) for n, w in (("p", 2.0), ("q", 1.0), ("r", 0.0))]
    truth = {"a": Picks.join("a", [along_x("a", [0], n) for n in "pqr"])}
    score = czii_score({"a": along_x("a", [0], "p")}, truth, objects)
    assert score.score == pytest.approx(2 / 3)
    assert score.objects["r"].fn == 1  # reported, although it does not count
    with pytest.raises(TomopickError, match="score_weight 0"):
        czii_score({}, truth, [replace(o, score_weight=0.0) for o in objects])


def test_weighted_object_without_truth_counts_as_zero():
    objects = [replace(BALL, name=n) for n in "pq"]
    score = czii_score({"a": along_x("a", [0], "p")}, {"a": along_x("a", [0], "p")}, objects)
    assert score.score == 0.5


def test_runs_outside_the_truth():
    truth = {"a": along_x("a", [0]), "b": along_x("b", [0])}
    score = czii_score({"a": along_x("a", [0]), "z": along_x("z", [0, 500], "whatever")}, truth, [BALL])
    assert score.ignored_runs == ("z",) and score.runs == ("a", "b")
    assert (score.objects["ball"].tp, score.objects["ball"].fp, score.objects["ball"].fn) == (1, 0, 1)


def test_distance_and_beta():
    found, wanted = {"a": along_x("a", [40, 900])}, {"a": along_x("a", [0])}
    assert czii_score(found, wanted, [BALL]).score == 0
    score = czii_score(found, wanted, [BALL], distance_multiplier=0.75, beta=1.0)
    assert score.score == pytest.approx(2 / 3) and score.objects["ball"].beta == 1.0


def test_bad_input():
    good = {"a": along_x("a", [0])}
    with pytest.raises(SelectionError, match=r"'bal' in the picks of run a; did you mean 'ball'"):
        czii_score({"a": along_x("a", [0], "bal")}, good, [BALL])
    with pytest.raises(SelectionError, match=r"in the truth of run a; there is ball"):
        matched_scores(good, {"a": along_x("a", [0], "xyz")}, [BALL])
    with pytest.raises(TomopickError, match=r"run a: pick 2 of 2 has a position that is no finite number"):
        czii_score({"a": along_x("a", [0, np.nan])}, good, [BALL])
    with pytest.raises(TomopickError, match="pick 1 of 1 has a score"):
        matched_scores({"a": along_x("a", [0], scores=[np.nan])}, good, [BALL])
    with pytest.raises(TomopickError, match="no run with truth"):
        czii_score(good, {}, [BALL])
    with pytest.raises(TomopickError, match="no radius"):
        czii_score(good, good, [replace(BALL, radius=None)])
    with pytest.raises(SelectionError, match="asked for"):
        matched_scores(good, good, [BALL], exclude=["bal"])


def test_what_is_not_a_particle_is_left_alone():
    membrane = PickableObject("membrane", None, 2, is_particle=False)
    score = czii_score({"a": along_x("a", [0])}, {"a": along_x("a", [0])}, [BALL, membrane])
    assert list(score.objects) == ["ball"] and score.score == 1


def test_json_and_table():
    truth = {"a": along_x("a", [0, 500, 1000])}
    score = czii_score({"a": along_x("a", [0, 100])}, truth, [BALL])
    back = json.loads(json.dumps(score.to_json()))
    assert back["score"] == score.score == back["objects"]["ball"]["fbeta"]
    assert back["objects"]["ball"]["recall"] == 1 / 3
    assert "0.3400" in score.table() and "F4" in score.table()
    matched = matched_scores({"a": along_x("a", [0, 40, 600])}, truth, [BALL])
    back = json.loads(json.dumps(matched.to_json()))
    assert back["objects"]["ball"]["at"]["0.75"]["f1"] == 1 / 3 == back["macro_f1"]["0.75"]
    assert back["objects"]["ball"]["localisation"]["n"] == 1
    assert "0.3333" in matched.table() and "F1@0.75" in matched.table()


# --- one-to-one matching ---------------------------------------------------------------------------------------------


def test_higher_scores_choose_first():
    truth = np.array([(0, 0, 0), (0, 0, 20.0)])
    found = np.array([(0, 0, 2), (0, 0, 8), (0, 0, 4.0)])
    m = match(found, np.array([0.5, 0.9, 0.7]), truth, 30)
    # 1 takes its nearest (0); 2 would like it too and has to take the other; nothing is left for pick 0.
    assert m.candidates.tolist() == [1, 2] and m.truths.tolist() == [0, 1]
    assert m.distances.tolist() == [8, 16]
    assert m.counts == Counts(2, 1, 0)


def test_matching_is_inclusive_and_duplicates_are_false():
    assert match(np.array([(0, 0, 30.0)]), np.ones(1), np.zeros((1, 3)), 30).counts == Counts(1, 0, 0)
    assert match(np.array([(0, 0, 30.001)]), np.ones(1), np.zeros((1, 3)), 30).counts == Counts(0, 1, 1)
    assert match(np.zeros((3, 3)), np.ones(3), np.zeros((1, 3)), 30).counts == Counts(1, 2, 0)
    assert match(np.zeros((0, 3)), np.ones(0), np.zeros((2, 3)), 30).counts == Counts(0, 0, 2)


@settings(max_examples=150)
@given(st.lists(st.tuples(*[st.floats(0, 60)] * 3), max_size=15), points, st.integers(0, 99))
def test_matching_is_the_definition(found, wanted, seed):
    scores = np.random.default_rng(seed).integers(0, 6, len(found)) / 5
    found, wanted = np.reshape(found, (-1, 3)), np.reshape(wanted, (-1, 3))
    free, expected = set(range(len(wanted))), []
    for i in sorted(range(len(found)), key=lambda i: (-scores[i], i)):
        near = [(d, j) for j in free if (d := np.linalg.norm(found[i] - wanted[j])) <= 25]
        if near:
            free.remove(min(near)[1])
            expected.append((i, min(near)[0]))
    m = match(found, scores, wanted, 25.0)
    assert m.candidates.tolist() == [i for i, _ in expected]
    assert np.allclose(m.distances, [d for _, d in expected])
    assert len(set(m.truths.tolist())) == len(m.truths)


def test_crowds_are_matched_in_batches(monkeypatch):
    rng = np.random.default_rng(0)
    found, wanted, scores = rng.uniform(0, 100, (400, 3)), rng.uniform(0, 100, (60, 3)), rng.random(400)
    whole = match(found, scores, wanted, 25)
    monkeypatch.setattr("tomopick.scoring.matching._PAIRS_AT_ONCE", 50)
    parts = match(found, scores, wanted, 25)
    assert np.array_equal(whole.candidates, parts.candidates) and np.array_equal(whole.truths, parts.truths)


def test_a_hundred_thousand_picks():
    """A matrix of all pairs would need 80 GB."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 30000, (100_000, 3))
    found = truth + rng.uniform(-1, 1, truth.shape)
    assert match(found, rng.random(len(found)), truth, 30).counts.tp > 99_900


# --- matched scores --------------------------------------------------------------------------------------------------


def test_matched_scores_at_two_radii():
    objects = [replace(BALL, name="p"), replace(BALL, name="q"), replace(BALL, name="r")]
    found = {"a": Picks.join("a", [along_x("a", [40, 1000], "p"), along_x("a", [0], "q")])}
    truth = {"a": Picks.join("a", [along_x("a", [0, 1000], "p"), along_x("a", [0], "q")])}
    result = matched_scores(found, truth, objects)
    assert [c.fbeta for c in result.objects["p"]] == [0.5, 1.0]
    assert result.macro_f1 == (0.75, 1.0)  # r has no truth: reported, but not in the mean
    assert result.objects["r"] == (Counts(0, 0, 0), Counts(0, 0, 0))
    assert matched_scores(found, truth, objects, exclude=["q"]).macro_f1 == (0.5, 1.0)
    assert matched_scores(found, truth, objects, exclude=["p", "q", "r"]).macro_f1 == (0.0, 0.0)


def test_localisation_is_pick_minus_truth():
    rng = np.random.default_rng(2)
    truth = Picks("a", rng.uniform(0, 5000, (50, 3)), ["ball"] * 50)
    result = matched_scores({"a": truth.shifted((3, -4, 12))}, {"a": truth}, [BALL])
    place = result.localisation["ball"]
    assert place.n == 50 and place.mean == pytest.approx((3, -4, 12)) and place.median == pytest.approx(13)
    nothing = matched_scores({}, {"a": truth}, [BALL]).localisation["ball"]
    assert nothing.n == 0 and np.isnan([nothing.median, *nothing.mean]).all()


def test_one_run_tells_nothing_of_how_runs_differ():
    wanted, found = along_x("a", 1000.0 * np.arange(180)), along_x("a", 1000.0 * np.arange(150))
    interval = bootstrap_f1({"a": found}, {"a": wanted}, [BALL], rng=np.random.default_rng(0))
    assert np.isnan(interval).all()


def test_bootstrap_over_runs():
    good = {str(k): along_x(str(k), [0, 1000, 2000]) for k in range(6)}
    same = {k: along_x(k, [0, 1000, 9000]) for k in good}
    rng = np.random.default_rng(0)
    low, high = bootstrap_f1(same, good, [BALL], rng=rng)  # runs that do not differ have no spread
    assert low == high == pytest.approx(2 / 3)
    mixed = {k: good[k] if int(k) % 2 else along_x(k, [9000]) for k in good}
    low, high = bootstrap_f1(mixed, good, [BALL], rng=rng)
    assert low < 0.35 and high > 0.8


@pytest.mark.parametrize("metric", ["czii", "f1"])
def test_a_sample_tells_nothing_of_objects_that_its_runs_lack(metric):
    """A perfect picker is perfect in every sample, also of runs of which one alone has an object, and one has none."""
    truth = {k: along_x(k, [0, 1000]) for k in "abc"} | {"d": Picks.empty("d")}
    truth["a"] = Picks.join("a", [truth["a"], along_x("a", [5000, 6000], "rod")])
    objects = [BALL, PickableObject("rod", 50.0)]
    drawn = bootstrap(truth, truth, objects, rng=np.random.default_rng(0), metric=metric)
    assert (drawn.value, drawn.low, drawn.high) == (1.0, 1.0, 1.0)
    assert bootstrap_f1(truth, truth, objects, rng=np.random.default_rng(0)) == (1.0, 1.0)
    paired = paired_difference(truth, truth, truth, objects, rng=np.random.default_rng(0), metric=metric)
    assert (paired.difference.low, paired.difference.high) == (0.0, 0.0)
    # What no run has is 0 in the challenge's mean, in the score and in every sample of it.
    never = bootstrap(
        truth, truth, [*objects, PickableObject("cube", 50.0)], rng=np.random.default_rng(0), metric=metric
    )
    assert never.value == pytest.approx(2 / 3 if metric == "czii" else 1.0)
    assert never.low == pytest.approx(1 / 2 if metric == "czii" else 1.0) and never.high == pytest.approx(never.value)


def test_bootstrap_without_truth():
    empty = {"a": Picks.empty("a")}
    assert np.isnan(bootstrap_f1({"a": along_x("a", [0])}, empty, [BALL], rng=np.random.default_rng(0))).all()


def test_tables_are_bounded_where_the_challenge_s_formula_is_not():
    """One pick finds several true particles that lie dense: the formula's own figures are said, and under JSON."""
    tube = PickableObject("mt", 125.0)
    truth = Picks("A", np.array([[240.0, 320.0, 80 + 82 * i] for i in range(18)]), np.full(18, "mt"))
    picks = Picks("A", np.array([[245.0, 322, x] for x in (1127, 211, 866, 1363, 662, 35, 508)]), np.full(7, "mt"))
    score = czii_score({"A": picks}, {"A": truth}, [tube])
    assert score.to_json()["objects"]["mt"]["fp"] == -3 and score.objects["mt"].precision == pytest.approx(10 / 7)
    row = next(line.split() for line in score.table().splitlines() if line.startswith("mt*"))
    assert row[5] == "0" and row[7] == "1.0000" and float(row[9]) <= 1
    assert f"precision {10 / 7:.4f} and fp -3" in score.table() and "in the JSON" in score.table()
    assert score.bounded < score.score


def test_what_there_is_nothing_of_is_a_dash():
    tube = PickableObject("mt", 125.0)
    table = matched_scores({"A": Picks.empty("A")}, {"A": Picks.empty("A")}, [tube]).table()
    assert "0.0000" not in table and "-" in next(line for line in table.splitlines() if line.startswith("mt"))


def test_scores_that_are_no_fractions_have_no_expected_error():
    """Correlations and figures of merit go beyond 0 to 1: how far they are from a fraction says nothing."""
    truth = {"A": Picks("A", np.array([[0.0, 0, 0], [500.0, 0, 0]]), np.array(["ball"] * 2))}
    found = {"A": Picks("A", np.array([[0.0, 0, 0], [300.0, 0, 0]]), np.array(["ball"] * 2), np.array([7.0, -0.9]))}
    (ranking,) = rankings(found, truth, [PickableObject("ball", 60.0)]).values()
    assert np.isnan(ranking.expected_error) and 0 <= ranking.average_precision <= 1
