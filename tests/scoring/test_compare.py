"""Scoring from what lies where to figures: every kind of side, read once, and whatever can be wrong with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import small
from telling import heard
from tomopick.cli import main
from tomopick.core.errors import SelectionError, TomopickError
from tomopick.core.types import Picks
from tomopick.data import open_project, write_picks_csv
from tomopick.data.open import open_taking
from tomopick.picking.load import load_model
from tomopick.picking.picker import Picker, PickOptions
from tomopick.scoring.compare import Scoring
from tomopick.scoring.curves import precision_recall
from tomopick.scoring.intervals import paired_difference
from tomopick.scoring.localisation import localisations
from tomopick.scoring.matching import scored_picks
from tomopick.scoring.score_maps import reliability
from tomopick.scoring.scores import matched_scores


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def refused(*arguments):
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    return line


def jittered(run_name, seed):
    """Most of the truth with noise, false picks, and scores that tell them apart in part."""
    _, truth = small.tomogram(run_name, seed)
    rng = np.random.default_rng(seed)
    at = np.concatenate([truth.positions[:-2] + rng.normal(0, 6, (len(truth) - 2, 3)), rng.uniform(80, 200, (6, 3))])
    scores = np.round(np.r_[rng.beta(4, 2, len(truth) - 2), rng.beta(2, 4, 6)], 3)
    return Picks(run_name, at, np.full(len(at), "ball"), scores), truth


def test_no_truth_that_counts_is_said_as_such(tmp_path):
    sides(tmp_path)
    picks, place = tmp_path / "picks", tmp_path / "tomograms"
    (place / "objects.json").write_text('[{"name": "ball", "radius": 40}, {"name": "ring", "radius": 40}]')
    with open(picks / "A.csv", "a") as file:
        file.write("ring,100,200,120,0.5\n")
    line = refused("evaluate", picks, place, "--objects", "ring")
    assert line == f"error: --objects ring: {place} has no truth of it; there is ball"
    part = ["--region", "A=0:1,0:1,0:1", "--region", "B=0:1,0:1,0:1"]
    assert "no true particle lies where its runs are labelled" in refused("evaluate", picks, place, *part)
    model = small.trained(small.BALL)
    assert "no true picks of ball where its runs are labelled" in refused("calibrate", model, place, *part)


def sides(place, runs=("A", "B")):
    """A folder of tomograms with truth, and one of picks."""
    small.folder(place / "tomograms", runs)
    (place / "picks").mkdir()
    found, truth = {}, {}
    for seed, name in enumerate(runs):
        found[name], truth[name] = jittered(name, seed)
        write_picks_csv(place / "picks" / f"{name}.csv", found[name])
    return found, truth


def told(place, names=None, **choices):
    """The lines that scoring says."""
    with heard() as lines:
        scoring = Scoring(**choices)
        result = scoring(str(place / "picks"), replace(scoring.opened(str(place / "tomograms")), names=names))
    return result, lines


def test_the_ranking_table_is_the_metrics(tmp_path):
    found, truth = sides(tmp_path)
    data = json.loads(run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--json").stdout)
    curve = precision_recall(found, truth, [small.BALL])["ball"]
    error = reliability(*scored_picks(found, truth, small.BALL)[:2]).expected_error
    assert data["rankings"]["ball"] == pytest.approx(
        {"average_precision": curve.average_precision, "expected_error": error}
    )
    place = localisations(found, truth, [small.BALL])["ball"]
    assert data["localisation"]["ball"]["p95"] == pytest.approx(place.p95, abs=1e-3)
    text = run("evaluate", tmp_path / "picks", tmp_path / "tomograms").stdout
    assert f"{curve.average_precision:.4f}" in text and f"{error:.4f}" in text


def test_picks_without_scores_have_no_ranking(tmp_path):
    found, _ = sides(tmp_path)
    for name, picks in found.items():
        write_picks_csv(tmp_path / "picks" / f"{name}.csv", replace(picks, scores=np.ones(len(picks))))
    data = json.loads(run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--json").stdout)
    assert data["rankings"]["ball"] == {"average_precision": None, "expected_error": None}
    lines = run("evaluate", tmp_path / "picks", tmp_path / "tomograms").stdout.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("AP: ")]
    row, note = lines[at - 1], lines[at + 1]
    assert row.split()[:3] == ["ball", "-", "-"] and "-" not in row.split()[3:5]
    assert note.startswith("-: AP and ECE need true particles and picks of different scores")


def test_many_scores_of_exactly_one_make_one_point_of_the_curve():
    """Heights beyond 1 are cut to 1: how those picks are ordered must not change the area under the curve."""
    at = np.array([[0.0, 0.0, 500.0 * k] for k in range(8)])
    truth = {"a": Picks("a", at[:5], np.full(5, "ball"))}
    areas = set()
    for order in (np.arange(8), np.arange(8)[::-1], np.array([5, 0, 6, 1, 7, 2, 3, 4])):
        scores = np.where(order < 7, 1.0, 0.5)
        curve = precision_recall({"a": Picks("a", at[order], ["ball"] * 8, scores)}, truth, [small.BALL])["ball"]
        assert curve.thresholds.tolist() == [1.0, 0.5] and curve.tp.tolist() == [5, 5] and curve.n.tolist() == [7, 8]
        areas.add(curve.average_precision)
    assert areas == {5 / 7}


def test_picks_of_one_score_stay_in_the_order_of_their_heights(tmp_path):
    """Where heights are cut to 1 the order is what is left of them: files keep it, and matching goes by it."""
    positions = np.array([[100.0, 100.0, 100.0 + 3 * k] for k in range(5)])
    picks = Picks("A", positions[::-1], ["ball"] * 5, np.ones(5))
    write_picks_csv(tmp_path / "A.csv", picks)
    done = Scoring(objects=("ball:40",)).sides(str(tmp_path / "A.csv"), str(tmp_path / "A.csv"))
    assert np.array_equal(done.picks[""].positions, positions[::-1])
    one = {"": Picks("", positions[:1], ["ball"])}
    matched = localisations(done.picks, one, [small.BALL])["ball"]
    assert matched.mean == (0.0, 0.0, 12.0)  # the first of the file took it, not the nearest


# ------------------------------------------------------------------------------------------------ what sides there are
def test_several_picks_name_the_option_that_chooses(tmp_path):
    config = small.copick(tmp_path / "project", "A")
    open_project(config).write_picks(jittered("A", 0)[0], "me", "1")
    model, which = small.trained(), "*:curator/0, *:me/1"
    both = ["evaluate", config, config]
    assert f"several picks of 'ball'; say which with --picks: {which}" in refused(*both)
    assert f"several picks of 'ball'; say which with --truth: {which}" in refused(*both, "--picks", "*:me/1")
    project = ["--project", config]
    for call in (
        ["calibrate", small.copy_of(model, tmp_path / "m"), config], ["report", model, config, "--out", tmp_path / "r"],
        ["soup", model, model, tmp_path / "s", *project], ["ensemble", model, model, tmp_path / "e", *project],
        ["show", config, "--truth", "*:*/*", "--out", tmp_path / "x.png"],
    ):  # fmt: skip
        assert "several picks of 'ball'; say which with --truth: " in refused(*call)


def test_the_truth_is_read_once_for_a_model_to_pick(tmp_path, monkeypatch):
    sides(tmp_path)
    opened = []
    monkeypatch.setattr(
        "tomopick.scoring.compare.open_taking",
        lambda place, **more: opened.append(place) or open_taking(place, **more),
    )
    done = run("evaluate", small.trained(), tmp_path / "tomograms", "--device", "cpu", "--runs", "B", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["czii"]["runs"] == ["B"]
    assert opened == [str(tmp_path / "tomograms")]
    write_picks_csv(tmp_path / "t.csv", small.tomogram("A", 0)[1])
    assert "t.csv: a table has no tomograms to pick" in refused("evaluate", small.trained(), tmp_path / "t.csv")


def test_a_file_of_another_program_beside_a_project(tmp_path):
    found, truth = sides(tmp_path, ("A",))
    rows = "".join(f"{x / 10} {y / 10} {z / 10}\n" for z, y, x in found["A"].positions.tolist())
    (tmp_path / "A.coords").write_text(rows)
    done = run("evaluate", tmp_path / "A.coords", tmp_path / "tomograms", "--as", "ball", "--json")
    table = run("evaluate", tmp_path / "picks" / "A.csv", tmp_path / "tomograms", "--json")
    assert json.loads(done.stdout)["czii"]["score"] == pytest.approx(json.loads(table.stdout)["czii"]["score"])
    write_picks_csv(tmp_path / "t.csv", truth["A"])
    line = refused("evaluate", tmp_path / "A.coords", tmp_path / "t.csv", "--as", "ball")
    assert "needs a project as TRUTH" in line


def test_a_relion_star_file_as_it_is(tmp_path):
    found, _ = sides(tmp_path)
    star = tmp_path / "all.star"
    run("export", tmp_path / "picks", star, "--to", "relion5", "--tomograms", tmp_path / "tomograms",
        "--tilt-series-pixel-size", "10")  # fmt: skip
    done = run("evaluate", star, tmp_path / "tomograms", "--as", "ball", "--json")
    data = json.loads(done.stdout)
    assert data["czii"]["objects"]["ball"]["candidates"] == sum(map(len, found.values()))
    table = json.loads(run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--json").stdout)
    assert data["czii"]["score"] == pytest.approx(table["czii"]["score"])
    small.folder(tmp_path / "others", "Z")
    line = refused("evaluate", star, tmp_path / "others", "--as", "ball")
    assert f"no picks of a run of {tmp_path / 'others'}; name the runs alike" in line


def test_a_model_and_an_ensemble_pick_first(tmp_path):
    from tomopick.models.combine import CombineOptions, combine

    sides(tmp_path)
    model = small.trained()
    combine([load_model(model), load_model(model)], tmp_path / "both", CombineOptions(device="cpu"))
    scores = {}
    for name, place in (("one", model), ("two", tmp_path / "both")):
        done = run("evaluate", place, tmp_path / "tomograms", "--device", "cpu", "--json", "--report",
                   tmp_path / f"{name}.html")  # fmt: skip
        assert done.exit_code == 0, done.output
        scores[name] = json.loads(done.stdout)
        assert (tmp_path / f"{name}.html").stat().st_size > 1e4
    picker = Picker(load_model(model), PickOptions(device="cpu"))
    project = open_project(tmp_path / "tomograms")
    n = sum(len(picker.pick(project.tomogram(name))[0]) for name in project.runs())
    assert scores["one"]["matched"]["objects"]["ball"]["at"]["0.5"]["candidates"] == n
    # Twice the same network is that network, up to rounding.
    assert scores["two"]["matched"]["macro_f1"]["0.5"] == pytest.approx(scores["one"]["matched"]["macro_f1"]["0.5"])
    write_picks_csv(tmp_path / "t.csv", project.picks("A"))
    assert "a table has no tomograms to pick" in refused("evaluate", model, tmp_path / "t.csv")


def test_two_pickers_on_the_same_runs(tmp_path):
    found, truth = sides(tmp_path, ("A", "B", "C"))
    (tmp_path / "worse").mkdir()
    worse = {name: p.select(np.arange(len(p)) % 3 > 0) for name, p in found.items()}
    for name, picks in worse.items():
        write_picks_csv(tmp_path / "worse" / f"{name}.csv", picks)
    arguments = ("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--against", tmp_path / "worse")
    data = json.loads(run(*arguments, "--json").stdout)["against"]["difference"]
    for metric in ("czii", "f1"):
        expected = paired_difference(worse, truth=truth, b=found, objects=[small.BALL],
                                     rng=np.random.default_rng(0), metric=metric)  # fmt: skip
        assert data[metric]["value"] == pytest.approx(expected.difference.value) and data[metric]["value"] > 0
        assert data[metric]["low"] == pytest.approx(expected.difference.low)
    assert "compared with" in run(*arguments).stdout
    (tmp_path / "worse" / "C.csv").unlink()
    assert "C: all their particles count as missed" in run(*arguments).stderr


# ---------------------------------------------------------------------------------------------------------- bad input
def test_a_run_without_truth_is_not_scored_and_said_so(tmp_path):
    sides(tmp_path, ("A", "B"))
    whole, _ = told(tmp_path, names=["A"])
    (tmp_path / "tomograms" / "B.csv").unlink()
    result, lines = told(tmp_path)
    assert "warning: B: no truth; the picks there are not scored" in lines
    assert result.czii.runs == ("A",) and result.czii.score == whole.czii.score


def test_a_run_without_picks_counts_as_missed(tmp_path):
    sides(tmp_path)
    (tmp_path / "picks" / "B.csv").unlink()
    result, lines = told(tmp_path)
    assert any("has no picks of B: all their particles count as missed" in line for line in lines)
    assert result.czii.runs == ("A", "B")


def test_objects_on_one_side_only(tmp_path):
    found, truth = sides(tmp_path, ("A",))
    (tmp_path / "tomograms" / "objects.json").write_text(
        json.dumps([{"name": n, "radius": 40} for n in ("ball", "ring", "disc")])
    )
    ring = Picks("A", truth["A"].positions[:3], ["ring"] * 3)
    disc = Picks("A", truth["A"].positions[:3], ["disc"] * 3)
    write_picks_csv(tmp_path / "tomograms" / "A.csv", Picks.join("A", [truth["A"], ring]))
    write_picks_csv(tmp_path / "picks" / "A.csv", Picks.join("A", [found["A"], disc]))
    result, lines = told(tmp_path)
    assert "warning: disc has no truth and is not scored" in lines
    assert "warning: ring has truth and no picks: all its particles count as missed" in lines
    assert set(result.czii.objects) == {"ball", "ring"} and result.czii.objects["ring"].fbeta == 0


def test_truth_written_down_twice(tmp_path):
    _, truth = sides(tmp_path, ("A",))
    again = Picks.join("A", [truth["A"], truth["A"].select(np.arange(2))])
    write_picks_csv(tmp_path / "tomograms" / "A.csv", again)
    assert (
        "warning: 2 true particles were written down twice; the second of each can only be missed"
        in (told(tmp_path)[1])
    )


def test_scores_and_positions_that_are_no_numbers(tmp_path):
    found, _ = sides(tmp_path, ("A",))
    both = [tmp_path / "picks", tmp_path / "tomograms"]
    for column in ("score", "x"):
        row = "1,2,nan,0.5" if column == "x" else "1,2,3,nan"
        (tmp_path / "picks" / "A.csv").write_text(f"object,z,y,x,score\nball,{row}\n")
        assert "A.csv: line 2" in refused("evaluate", *both)
    with pytest.raises(TomopickError, match=r"run A: pick 1 of \d+ has a score that is no finite number"):
        replace(found["A"], scores=np.full(len(found["A"]), np.nan))


def test_tables_without_objects_are_of_the_one_that_is_named(tmp_path):
    _, truth = sides(tmp_path, ("A",))
    lines = [f"{x},{y},{z}" for z, y, x in truth["A"].positions]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,z", *lines]) + "\n")
    done = run("evaluate", tmp_path / "t.csv", tmp_path / "t.csv", "--object", "ball:40", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["czii"]["score"] == 1.0
    assert "one object named: --object NAME:RADIUS" in refused("evaluate", tmp_path / "t.csv", tmp_path / "t.csv")


def test_picks_in_voxels(tmp_path):
    found, truth = sides(tmp_path, ("A",))
    write_picks_csv(tmp_path / "picks" / "A.csv", replace(found["A"], positions=found["A"].positions / small.SPACING))
    line = refused("evaluate", tmp_path / "picks", tmp_path / "tomograms")
    assert "run A: all 18 picks lie within" in line and "are they in voxels? expected Å" in line
    # Without a tomogram, by the other side's range, whichever side it is.
    write_picks_csv(tmp_path / "t.csv", truth["A"])
    table = tmp_path / "picks" / "A.csv"
    for pair, side in (((table, tmp_path / "t.csv"), "picks"), ((tmp_path / "t.csv", table), "true picks")):
        line = refused("evaluate", *pair, "--object", "ball:40")
        assert f"are the {side} in voxels? expected Å on both sides" in line
    with pytest.raises(SelectionError, match="are they in voxels"):
        Scoring()(str(tmp_path / "picks"), str(tmp_path / "tomograms"))


def test_few_picks_in_a_corner_are_not_taken_for_voxels(tmp_path):
    sides(tmp_path, ("A",))
    corner = Picks("A", np.full((9, 3), 20.0) + np.arange(9)[:, None] * 0.1, ["ball"] * 9)
    write_picks_csv(tmp_path / "picks" / "A.csv", corner)
    assert told(tmp_path)[0].czii.objects["ball"].candidates == 9


def test_both_sides_are_read_once_for_the_page_too(tmp_path, monkeypatch):
    sides(tmp_path)
    import tomopick.data.sources.folder as folder

    read = []
    original = folder.read_picks_csv
    monkeypatch.setattr(folder, "read_picks_csv", lambda path, *how: read.append(path) or original(path, *how))
    counts = []
    for more in ((), ("--report", tmp_path / "r.html")):
        read.clear()
        done = run("evaluate", tmp_path / "picks", tmp_path / "tomograms", *more)
        assert done.exit_code == 0, done.output
        counts.append(len(read))
    assert (tmp_path / "r.html").is_file() and counts[0] == counts[1] > 0


def test_every_run_has_its_own_figures(tmp_path):
    found, truth = sides(tmp_path)
    done = run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--json")
    data = json.loads(done.stdout)["runs"]
    assert data.keys() == {"A", "B"}
    for name in "AB":
        alone = matched_scores({name: found[name]}, {name: truth[name]}, [small.BALL])
        assert data[name]["f1"] == pytest.approx(alone.macro_f1[0], abs=1e-12)
        counts = alone.objects["ball"][0]
        assert {k: data[name]["all"][k] for k in ("tp", "fp", "fn")} == {
            "tp": counts.tp,
            "fp": counts.fp,
            "fn": counts.fn,
        }
    text = run("evaluate", tmp_path / "picks", tmp_path / "tomograms").stdout
    (row,) = [line.split() for line in text.splitlines() if line.startswith("A ")]
    assert row[1:3] == [str(len(truth["A"])), str(len(found["A"]))] and row[-1] == f"{data['A']['f1']:.4f}"
    assert "ECE: how far scores are from the fraction" in text and "intervals: where 95 %" in text
    alone = run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--runs", "A").stdout
    assert "one run: no interval" in alone and "95 % interval" not in alone and "intervals:" not in alone
    assert json.loads(run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--runs", "A", "--json").stdout)[
        "f1_interval"
    ] == [None, None]


def test_objects_that_are_asked_for(tmp_path):
    sides(tmp_path)
    (tmp_path / "tomograms" / "objects.json").write_text(
        '[{"name": "ball", "radius": 40}, {"name": "rod", "radius": 50}, {"name": "cube", "radius": 50}]'
    )
    done = run("evaluate", tmp_path / "picks", tmp_path / "tomograms")
    assert "rod, cube: neither picks nor truth; left out" in done.stderr
    assert "rod" not in done.stdout
    asked = run("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--objects", "ball")
    assert asked.stdout == done.stdout and "rod" not in asked.stderr
    line = refused("evaluate", tmp_path / "picks", tmp_path / "tomograms", "--objects", "bal")
    assert "--objects bal: neither side has this object; did you mean 'ball'" in line


def test_a_table_of_ones_own_is_scored_by_what_is_in_it(tmp_path):
    """The challenge's tables are scored over its six objects, whatever they hold; others are not."""
    rows = [f"TS_1,ribosome,{1000 * i},500,500" for i in range(4)]
    for header, score in (("run,object,x,y,z", 1.0), ("experiment,particle_type,x,y,z", 1 / 7)):
        (tmp_path / "t.csv").write_text("\n".join([header, *rows]) + "\n")
        data = json.loads(run("evaluate", tmp_path / "t.csv", tmp_path / "t.csv", "--json").stdout)
        assert data["czii"]["score"] == pytest.approx(score)


def test_a_truth_without_particles_is_said(tmp_path):
    (tmp_path / "truth.csv").write_text("run,object,x,y,z\n")
    (tmp_path / "picks.csv").write_text("run,object,x,y,z\nA,ball,1,2,3\n")
    with pytest.raises(SelectionError, match="the truth holds no particle; there is nothing to score"):
        Scoring().sides(str(tmp_path / "picks.csv"), str(tmp_path / "truth.csv"))


def test_picks_count_by_their_own_thresholds(tmp_path):
    """Runs that were picked with different thresholds, and candidates that are given for truth."""
    head, place = "object,x,y,z,score,threshold\n", tmp_path / "picks"
    place.mkdir()
    (place / "A.csv").write_text(f"{head}ball,100,100,100,0.4,0.3\nball,900,100,100,0.2,0.3\n")
    (place / "B.csv").write_text(f"{head}ball,100,100,100,0.9,0.5\nball,900,100,100,0.4,0.5\n")
    (tmp_path / "truth.csv").write_text("run,object,x,y,z\nA,ball,100,100,100\nB,ball,100,100,100\n")
    with heard() as lines:
        scores = Scoring(objects=("ball:50",))(str(place), str(tmp_path / "truth.csv"))
    counts = scores.matched.objects["ball"][0]
    assert (counts.tp, counts.fp, counts.fn) == (2, 0, 0)
    assert "warning: ball: runs were picked with different thresholds; each pick counts by its own" in lines
    assert "warning: 2 picks below the thresholds that they were picked with do not count" in lines
    # The other way round: what no model kept is not true.
    with heard() as lines:
        scores = Scoring(objects=("ball:50",))(str(tmp_path / "truth.csv"), str(place))
    assert scores.matched.objects["ball"][0].references == 2
    assert any(
        "run A: left out: 1 candidate below the threshold of the model that found them" in line for line in lines
    )


def test_one_set_against_itself_is_said(tmp_path):
    sides(tmp_path)
    place = tmp_path / "tomograms"
    assert f"warning: {place}: picks and truth are the same; choose others" in run("evaluate", place, place).stderr
    assert "are the same" not in run("evaluate", tmp_path / "picks", place).stderr
