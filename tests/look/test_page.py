"""The page: what it counts with, what is embedded, and in a real browser that it moves and agrees with `evaluate`."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import small
from browsing import until
from tomopick.cli import main
from tomopick.cli.scores import calibrate_command, report_command
from tomopick.core.errors import SelectionError, TomopickError
from tomopick.core.types import Grid, PickableObject, Picks, Tomogram
from tomopick.data import open_project, read_picks_csv, write_picks_csv
from tomopick.data.runs import Runs
from tomopick.look.page import Report, write_report
from tomopick.look.page.gather import ReportOptions, gather_report
from tomopick.look.page.pictures import Averages, boxes, stack
from tomopick.look.page.tables import safe_colors, tables
from tomopick.models.combine import CombineOptions, combine
from tomopick.picking.load import load_model
from tomopick.scoring.curves import precision_recall
from tomopick.scoring.intervals import bootstrap
from tomopick.scoring.scores import czii_score, matched_scores

OBJECTS = (small.BALL, replace(small.RING, score_weight=2.0))


def noisy(truth, seed, n_false=25):
    """Picks of most of the truth, displaced, some twice, and false ones; scores overlap and some are equal."""
    rng = np.random.default_rng(seed)
    kept = rng.random(len(truth)) < 0.9
    at = truth.positions[kept]
    twice = at[:2] + 5
    false = rng.uniform(0, [230, 630, 470], (n_false, 3))
    names = np.concatenate([truth.names[kept], truth.names[kept][:2], rng.choice(["ball", "ring"], n_false)])
    scores = np.concatenate([rng.beta(4, 2, len(at)), [0.3, 0.5], rng.beta(2, 4, n_false)])
    positions = np.concatenate([at + rng.normal(0, 8, at.shape), twice, false])
    return Picks(truth.run, positions, names, np.round(scores, 3))


def scene(runs=("A", "B", "C")):
    volumes, truth, found = {}, {}, {}
    for seed, run in enumerate(runs):
        volumes[run], truth[run] = small.tomogram(run, seed, objects=OBJECTS)
        found[run] = noisy(truth[run], seed)
        # Two so close that one pick hits both in the challenge's sense, and only one of them one to one.
        pair = truth[run].of("ring").select(np.arange(2)).shifted((0.0, 0.0, 9.0))
        truth[run] = Picks.join(run, [truth[run], pair])
    return volumes, truth, found


def report(**more):
    volumes, truth, found = scene()
    cuts = {"ball": 0.4, "ring": 0.35}
    return Report("Balls & <rings>", found, truth, OBJECTS, cuts, volumes.__getitem__, **more)


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def data_of(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


# ---------------------------------------------------------------------------------------------------------- counting
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.5, 0.81, 2.0])
def test_packed_hits_give_evaluates_counts_at_any_threshold(cut):
    _, truth, found = scene()
    data = tables(report())
    kept = {run: p.select(p.scores >= cut) for run, p in found.items()}
    matched, czii = matched_scores(kept, truth, OBJECTS), czii_score(kept, truth, OBJECTS)
    for o, name in enumerate(["ball", "ring"]):
        n = tp = near = 0
        for run in data["runs"]:
            packed = run["objects"][o]
            k = int((unpack(packed["scores"], "<f8") >= cut).sum())
            n, tp = n + k, tp + int((unpack(packed["hits"][1]["rank"], "<i4") < k).sum())
            near += int((unpack(packed["best"], "<f8") >= cut).sum())
        assert (n, tp) == (matched.objects[name][1].candidates, matched.objects[name][1].tp)
        assert near == czii.objects[name].tp


def test_an_unlabelled_run_is_shown_and_not_scored():
    _, truth, found = scene()
    data = tables(Report("", found, {"A": truth["A"]}, OBJECTS))
    assert [run["labelled"] for run in data["runs"]] == [True, False, False]
    assert "hits" not in data["runs"][1]["objects"][0]
    alone = tables(Report("", found, {}, OBJECTS))
    assert alone["confusion"] is None


def test_sliders_open_at_the_threshold_or_the_lowest_score():
    _, truth, found = scene()
    lowest = min(p.of("ring").scores.min() for p in found.values())
    assert Report("", found, truth, OBJECTS, {"ball": 0.7}).openings() == {"ball": 0.7, "ring": lowest}


def test_colours_that_readers_cannot_tell_apart_are_replaced():
    assert safe_colors(OBJECTS) == ["#e69f00", "#56b4e9"]
    green, grey = (
        replace(small.BALL, name=n, color=c) for n, c in (("a", (0, 158, 115, 255)), ("b", (153,) * 3 + (255,)))
    )
    assert safe_colors([green, grey]) == ["#e69f00", "#56b4e9"]
    own = replace(grey, color=(0, 0, 0, 255))
    assert safe_colors([green, own]) == ["#009e73", "#000000"]
    assert safe_colors([small.BALL, replace(small.BALL, name="b")]) == ["#e69f00", "#56b4e9"]


def test_what_cannot_be_scored_says_so(tmp_path):
    _, truth, found = scene()
    with pytest.raises(SelectionError, match="nothing to report"):
        write_report(Report("", {}, {}, OBJECTS), tmp_path / "r.html")
    with pytest.raises(SelectionError, match="no run 'Z' to embed"):
        write_report(replace(report(), embed=["Z"]), tmp_path / "r.html")
    with pytest.raises(TomopickError, match="'ball' has no radius"):
        write_report(Report("", found, truth, [PickableObject("ball", None), OBJECTS[1]]), tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


# ---------------------------------------------------------------------------------------------------------- pictures
def test_slabs_lie_where_the_volume_does():
    z, y, x = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in (200, 70, 90)], indexing="ij")
    grid = Grid((200, 70, 90), 8.0, (40.0, -8.0, 0.0))
    packed = stack(Tomogram("A", z + 0 * y + 0 * x, grid), 1e7)
    assert packed["shape"] == [67, 70, 90] and packed["step"] == [24.0, 8.0, 8.0]
    assert packed["origin"] == [48.0, -8.0, 0.0]
    grey = [np.asarray(Image.open(io.BytesIO(base64.b64decode(s)))).mean() for s in packed["slabs"]]
    # Values rise linearly with z between the quantiles, so slab k must hold the grey of its middle voxel.
    middle = 3 * np.arange(67) + 1.0
    low, high = np.percentile(z[:: 200 // 24], (0.5, 99.5))
    assert np.abs(np.clip((middle - low) / (high - low) * 255, 0, 255)[:66] - grey[:66]).max() < 3


@pytest.mark.parametrize("budget", [400e3, 150e3])
def test_a_stack_keeps_to_its_budget(budget):
    values = np.random.default_rng(0).standard_normal((96, 160, 160)).astype(np.float32)
    packed = stack(Tomogram("A", values, Grid(values.shape, 10.0)), budget)
    assert sum(map(len, packed["slabs"])) <= budget
    assert packed["shape"][0] == 96


def test_a_volume_with_holes_and_one_of_a_single_value():
    values = np.random.default_rng(0).standard_normal((8, 64, 64)).astype(np.float32)
    values[:, :9] = np.nan
    assert len(stack(Tomogram("A", values, Grid(values.shape, 10.0)), 1e6)["slabs"]) == 8
    flat = np.zeros((4, 64, 64), dtype=np.float32)
    assert len(stack(Tomogram("A", flat, Grid(flat.shape, 10.0)), 1e6)["slabs"]) == 4


def test_the_average_is_of_boxes_centred_on_particles():
    volumes, truth, _ = scene()
    found = Averages(OBJECTS, {"ball": 0.5})
    low = replace(truth["A"], scores=np.full(len(truth["A"]), 0.4))
    found.add(volumes["A"], low, truth["A"])
    data = found.to_json()
    assert "picks" not in data["ball"] and data["ball"]["truth"]["n"] > 0
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["ball"]["truth"]["sections"]["xy"])))).astype(
        float
    )
    middle = picture.shape[0] // 2
    assert np.unravel_index(picture.argmin(), picture.shape) == pytest.approx((middle, middle), abs=1)


def test_boxes_that_leave_the_volume_are_left_out():
    volume = Tomogram("A", np.arange(1000, dtype=np.float32).reshape(10, 10, 10), Grid((10, 10, 10), 2.0))
    (box,) = boxes(volume, np.array([[10.0, 10, 10], [0, 10, 10], [10, 10, 18]]), 2)
    assert box[2, 2, 2] == 555 and box.shape == (5, 5, 5)


# --------------------------------------------------------------------------------------------------------- the file
def test_the_page_is_one_file_that_asks_for_nothing(tmp_path):
    path = write_report(report(card="# card\n- of `x` </script><b>"), tmp_path / "r.html")
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=[\"'](?!#)[^\"'$]", text.split('<script type="application/json"')[0])
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
    assert text.count("</script>") == 2  # names and cards cannot end an element
    assert "<title>Balls &amp; &lt;rings&gt;</title>" in text
    assert data_of(path)["card"].endswith("</script><b>")
    assert [run["name"] for run in data_of(path)["runs"] if "volume" in run] == ["A", "B", "C"]


def test_the_size_is_kept_and_the_first_three_runs_are_embedded(tmp_path):
    volumes, truth, found = scene(tuple("ABCDE"))
    many = Report("", found, truth, OBJECTS, {}, volumes.__getitem__, megabytes=1.2)
    path = write_report(many, tmp_path / "r.html")
    assert [run["name"] for run in data_of(path)["runs"] if "volume" in run] == ["A", "B", "C"]
    assert path.stat().st_size < 1.2e6


def project_of(place, truth=True):
    """Tomograms with their truth, and a folder of picks, on disk."""
    volumes, wanted, found = scene()
    small.folder(place / "tomograms", runs=(), objects_json=False)
    (place / "picks").mkdir()
    objects = [{"name": o.name, "radius": o.radius, "score_weight": o.score_weight} for o in OBJECTS]
    for run, volume in volumes.items():
        small.write_mrc(place / "tomograms" / f"{run}.mrc", volume.values, volume.grid.voxel_spacing)
        if truth:
            write_picks_csv(place / "tomograms" / f"{run}.csv", wanted[run])
        write_picks_csv(place / "picks" / f"{run}.csv", found[run])
    for folder in ("tomograms", "picks"):
        (place / folder / "objects.json").write_text(json.dumps(objects))
    return place


def call(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_report_of_picks(tmp_path):
    place = project_of(tmp_path)
    done = call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "r.html", "--runs", "A,B")
    assert done.exit_code == 0 and "2 runs" in done.output
    data = data_of(tmp_path / "r.html")
    assert [run["name"] for run in data["runs"]] == ["A", "B"]
    assert all(run["labelled"] for run in data["runs"]) and data["title"] == "picks on tomograms"


def test_report_of_a_model(tmp_path):
    place = project_of(tmp_path)
    model = small.trained()
    done = call(report_command, model, place / "tomograms", "--out", tmp_path / "r.html", "--runs", "C",
                "--device", "cpu", "--threshold", "ball=0.45")  # fmt: skip
    assert done.exit_code == 0
    data = data_of(tmp_path / "r.html")
    assert data["objects"][0]["threshold"] == 0.45
    assert data["card"].startswith("#")
    assert len(data["log"]) == len((model / "log.jsonl").read_text().splitlines()) > 5
    assert len(unpack(data["runs"][0]["objects"][0]["scores"], "<f8")) > 0


def test_what_the_model_does_not_know_is_said(tmp_path):
    place = project_of(tmp_path)
    options, run = ReportOptions(device="cpu"), Runs(open_project(place / "tomograms"), ["C"])
    made = gather_report(str(small.trained()), run, {"objects": ()}, options)
    assert list(made.unknown) == ["ring"]
    assert [o["unknown"] for o in tables(made)["objects"]] == [False, True]
    picks = gather_report(str(place / "picks"), run, {"objects": ()}, options)
    assert list(picks.unknown) == []
    done = call(main, "evaluate", small.trained(), place / "tomograms", "--runs", "C", "--device", "cpu", "--report",
                tmp_path / "r.html")  # fmt: skip
    assert done.exit_code == 0 and [o["unknown"] for o in data_of(tmp_path / "r.html")["objects"]] == [False, True]


def test_report_of_an_ensemble_with_mapped_scores_and_its_precision(tmp_path):
    place, one = project_of(tmp_path), load_model(small.trained())
    combine([one, one], tmp_path / "both", CombineOptions(device="cpu"))
    arguments = (calibrate_command, tmp_path / "both", place / "tomograms", "--device", "cpu", "--object", "ball:40")
    done = call(*arguments, "--metric", "precision=0.90", "--map-scores", "--smooth", "flips")
    assert done.exit_code == 0 and "ECE mapped" in done.stdout
    assert "pick with these thresholds by --metric precision=0.9" in done.stderr
    with Image.open(tmp_path / "both" / "reliability.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
    model = load_model(tmp_path / "both")
    options, run = ReportOptions(metric="precision=0.9", device="cpu"), Runs(open_project(place / "tomograms"), ["C"])
    made = gather_report(str(tmp_path / "both"), run, {"objects": ()}, options)
    assert made.thresholds == model.thresholds["precision=0.9"]
    plain = gather_report(str(small.trained()), run, {"objects": ()}, replace(options, metric="f1"))
    expected = model.score_maps["ball"](plain.picks["C"].scores)
    assert made.picks["C"].scores == pytest.approx(expected, abs=1e-3)
    data = tables(made)
    assert unpack(data["runs"][0]["objects"][0]["scores"], "<f8") == pytest.approx(made.picks["C"].scores)


def test_what_was_picked_with_keep_below_opens_at_its_thresholds(tmp_path):
    place, model = project_of(tmp_path), small.trained()
    cut = load_model(model).thresholds["f1"]["ball"]
    done = call(main, "pick", model, place / "tomograms", "--out", tmp_path / "low", "--keep-below", "--device", "cpu")
    assert done.exit_code == 0
    made = gather_report(str(tmp_path / "low"), open_project(place / "tomograms"), {"objects": ()}, ReportOptions())
    assert made.thresholds == pytest.approx({"ball": cut}, abs=1e-6)
    assert min(p.scores.min() for p in made.picks.values()) < cut
    (tmp_path / "low" / "records").rename(tmp_path / "gone")  # the picks tell it by themselves
    again = gather_report(str(tmp_path / "low"), open_project(place / "tomograms"), {"objects": ()}, ReportOptions())
    assert again.thresholds == pytest.approx(made.thresholds, abs=2e-6)
    # What counts is what was kept: the same as of the picks above alone.
    done = call(main, "pick", model, place / "tomograms", "--out", tmp_path / "high", "--device", "cpu")
    assert done.exit_code == 0
    high = gather_report(str(tmp_path / "high"), open_project(place / "tomograms"), {"objects": ()}, ReportOptions())
    assert high.thresholds == made.thresholds  # of the records
    low, high = (
        json.loads(call(main, "evaluate", tmp_path / n, place / "tomograms", "--json").stdout) for n in ("low", "high")
    )
    assert low["czii"] == high["czii"] and low["runs"] == high["runs"]


def test_the_pages_score_is_evaluates_where_objects_have_no_truth(browser, tmp_path):
    """An object with picks and without truth has no weight, and one with neither is left out, in both."""
    place = project_of(tmp_path)
    for path in (place / "tomograms").glob("*.csv"):
        write_picks_csv(path, read_picks_csv(path)[""].of("ball"))
    objects = json.loads((place / "tomograms" / "objects.json").read_text())
    (place / "tomograms" / "objects.json").write_text(json.dumps([*objects, {"name": "rod", "radius": 50}]))
    done = call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "r.html")
    assert done.exit_code == 0
    assert [o["name"] for o in data_of(tmp_path / "r.html")["objects"]] == ["ball", "ring"]
    assert any("rod: neither picks nor truth; left out" in note for note in data_of(tmp_path / "r.html")["notes"])
    data = json.loads(call(main, "evaluate", place / "picks", place / "tomograms", "--json").stdout)
    assert data["czii"]["objects"].keys() == {"ball"}
    opened(browser, tmp_path / "r.html")
    assert figure(browser, "czii") == pytest.approx(data["czii"]["score"], abs=5.1e-5)
    assert figure(browser, "f1") == pytest.approx(data["matched"]["macro_f1"]["0.5"], abs=5.1e-5)
    done = call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "o.html", "--objects", "ring")
    assert done.exit_code == 0 and [o["name"] for o in data_of(tmp_path / "o.html")["objects"]] == ["ring"]


def test_what_has_no_truth_is_nobodys_fault(browser, tmp_path):
    """Runs and confusion are as in `evaluate`: picks of what nobody labelled are neither right nor wrong."""
    place = project_of(tmp_path)
    for path in (place / "tomograms").glob("*.csv"):
        write_picks_csv(path, read_picks_csv(path)[""].of("ball"))
    write_picks_csv(place / "tomograms" / "B.csv", Picks.empty("B"))  # labelled, and known to be empty
    call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "r.html")
    assert data_of(tmp_path / "r.html")["confusion"] is None  # of a single object that is scored
    runs = json.loads(call(main, "evaluate", place / "picks", place / "tomograms", "--json").stdout)["runs"]
    opened(browser, tmp_path / "r.html")
    cells = browser.execute_script(
        "return [...document.querySelectorAll('#runs tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    rows = {cell[0][0]: cell[-5:] for cell in cells}
    assert rows.keys() == runs.keys()
    for name, (n, truths, precision, recall, f1) in rows.items():
        counts = runs[name]["objects"]["ball"]
        assert (int(n), int(truths)) == (counts["tp"] + counts["fp"], counts["tp"] + counts["fn"])
        assert precision == (f"{counts['precision']:.3f}" if int(n) else "–")
        assert recall == (f"{counts['recall']:.3f}" if int(truths) else "–")
        assert f1 == ("–" if runs[name]["f1"] is None else f"{runs[name]['f1']:.3f}")
    assert rows["B"][1:] == ["0", "0.000", "–", "–"]
    row = browser.execute_script(
        "return [...document.querySelectorAll(`#objects tr[data-object='ring'] td[data-label]`)]"
        ".map(c => c.textContent)"
    )
    assert int(row[0]) > 0 and row[1:] == ["0", *["–"] * 6]
    call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "o.html", "--objects", "ring")
    opened(browser, tmp_path / "o.html")
    assert browser.execute_script("return [...document.querySelectorAll('#summary .figure')].map(f => f.id)") == [
        "truths", "kept"
    ]  # fmt: skip
    assert browser.get_log("browser") == []


def test_objects_of_which_there_is_nothing_are_refused(tmp_path):
    place = project_of(tmp_path)
    objects = json.loads((place / "tomograms" / "objects.json").read_text())
    (place / "tomograms" / "objects.json").write_text(json.dumps([*objects, {"name": "rod", "radius": 50}]))
    done = call(main, "report", place / "picks", place / "tomograms", "--out", tmp_path / "r.html", "--objects", "rod")
    assert done.exit_code == 2 and not (tmp_path / "r.html").exists()
    assert "--objects rod: neither picks nor truth of it in" in done.stderr and "; there is ball, ring" in done.stderr


def test_report_without_truth_or_with_picks_in_voxels(tmp_path, told):
    place = project_of(tmp_path, truth=False)
    opening = {"objects": ()}
    made = gather_report(str(place / "picks"), open_project(place / "tomograms"), opening, ReportOptions())
    assert made.truth == {} and any("nothing is scored" in line for line in told)
    for path in (place / "picks").glob("*.csv"):
        path.unlink()
    _, _, found = scene()
    write_picks_csv(place / "picks" / "A.csv", replace(found["A"], positions=found["A"].positions / small.SPACING))
    with pytest.raises(SelectionError, match="are they in voxels"):
        gather_report(str(place / "picks"), open_project(place / "tomograms"), opening, ReportOptions())


def test_a_run_without_truth_is_shown_and_said_so(tmp_path, told):
    place = project_of(tmp_path)
    (place / "tomograms" / "B.csv").unlink()
    options = ReportOptions()
    made = gather_report(str(place / "picks"), open_project(place / "tomograms"), {"objects": ()}, options)
    assert "B: no truth; shown and not scored" in told
    assert set(made.truth) == {"A", "C"} and "B" in made.picks


def test_report_of_another_programs_file(tmp_path):
    place = project_of(tmp_path)
    _, _, found = scene()
    rows = "".join(f"{x / 10} {y / 10} {z / 10}\n" for z, y, x in found["A"].of("ball").positions.tolist())
    (tmp_path / "A.coords").write_text(rows)
    run = Runs(open_project(place / "tomograms"), ["A"])
    made = gather_report(str(tmp_path / "A.coords"), run, {"objects": ()}, ReportOptions(name="ball"))
    assert made.picks["A"].positions == pytest.approx(found["A"].of("ball").positions, abs=1e-6)
    assert set(made.truth) == {"A"}


def test_truth_written_down_twice_is_told(tmp_path):
    place = project_of(tmp_path)
    _, truth, _ = scene()
    write_picks_csv(place / "tomograms" / "A.csv", Picks.join("A", [truth["A"], truth["A"].select(np.arange(3))]))
    made = gather_report(str(place / "picks"), open_project(place / "tomograms"), {"objects": ()}, ReportOptions())
    assert any(line.startswith("3 true particles were written down twice") for line in made.notes)


def test_picks_and_truth_of_one_copick_project(tmp_path):
    config = small.copick(tmp_path / "project")
    options = ReportOptions(picks="*:curator/0")
    assert gather_report(str(config), open_project(config), {"objects": ()}, options).truth == {}
    runs = Runs(open_project(config), picks="*:curator/0")
    assert set(gather_report(str(config), runs, {"objects": ()}, options).truth) == {"A", "B"}


def test_calibrate_verb(tmp_path):
    place, model = project_of(tmp_path), small.copy_of(small.trained(), tmp_path / "m")
    before = json.loads((model / "detector.json").read_text())
    arguments = (model, place / "tomograms", "--runs", "C", "--device", "cpu", "--metric", "czii")
    dry = call(calibrate_command, *arguments, "--dry-run", "--json")
    assert dry.exit_code == 0 and json.loads((model / "detector.json").read_text()) == before
    measured = json.loads(dry.stdout)["objects"]["ball"]
    assert measured["n_truth"] > 0 and measured["before"] == before["thresholds"]["czii"]["ball"]
    assert call(calibrate_command, *arguments).exit_code == 0
    after = json.loads((model / "detector.json").read_text())
    assert after["thresholds"]["czii"]["ball"] == measured["threshold"]
    assert call(calibrate_command, model, "--undo").exit_code == 0
    assert json.loads((model / "detector.json").read_text()) == before


def test_folds_measure_the_models_thresholds_out_of_fold(tmp_path):
    place, model = project_of(tmp_path), small.copy_of(small.trained(), tmp_path / "m")
    (tmp_path / "other").mkdir()
    small.untrained().save(tmp_path / "other")
    folds = f"{model},{tmp_path / 'other'}"
    done = call(calibrate_command, model, place / "tomograms", "--folds", folds, "--device", "cpu", "--json")
    assert done.exit_code == 0 and "has learned from it" not in done.output
    result = json.loads(done.stdout)
    assert result["runs"] == ["A", "B", "C"]
    assert (
        result["objects"]["ball"]["before"]
        == json.loads((small.trained() / "detector.json").read_text())["thresholds"]["f1"]["ball"]
    )
    refused = call(main_with(calibrate_command), "calibrate", model, place / "tomograms", "--runs", "A", "--folds",
                   f"{model},{model}", "--device", "cpu")  # fmt: skip
    assert refused.exit_code == 2 and refused.stderr.startswith("error: run A: every model given has learned from it")


def main_with(command):
    """The verb in a group like tomopick's own, which turns what a user can cause into one line."""
    return type(main)(commands={command.name: command})


# --------------------------------------------------------------------------------------------------------- a browser
def opened(driver, path):
    driver.get(path.as_uri())
    until(driver, "document.body.dataset.ready")


def shown(driver, name):
    """The row of an object, by its labels."""
    cells = driver.execute_script(
        "return [...document.querySelectorAll(`#objects tr[data-object='${arguments[0]}'] td[data-label]`)]"
        ".map(c => [c.dataset.label, c.textContent])",
        name,
    )
    return {label: float(text) for label, text in cells}


def slide(driver, name, value):
    driver.execute_script(
        "const s = document.querySelector(`input[type=range][data-object='${arguments[0]}']`);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def figure(driver, which):
    return float(driver.execute_script(f"return document.querySelector('#{which} b').textContent"))


def test_sliders_move_and_agree_with_evaluate(browser, tmp_path):
    from selenium.webdriver.common.by import By

    place = project_of(tmp_path)
    call(report_command, place / "picks", place / "tomograms", "--out", tmp_path / "r.html")
    opened(browser, tmp_path / "r.html")
    before = shown(browser, "ball")
    for cuts in ({"ball": 0.5, "ring": 0.25}, {"ball": 0.301, "ring": 0.62}):
        for name, cut in cuts.items():
            slide(browser, name, cut)
        kept = {run: p.above(cuts) for run, p in scene()[2].items()}
        (tmp_path / "kept").mkdir(exist_ok=True)
        (tmp_path / "kept" / "objects.json").write_text((place / "picks" / "objects.json").read_text())
        for run, picks in kept.items():
            write_picks_csv(tmp_path / "kept" / f"{run}.csv", picks)
        done = call(main, "evaluate", tmp_path / "kept", place / "tomograms", "--json")
        expected = json.loads(done.stdout)
        for name in cuts:
            row, at = shown(browser, name), expected["matched"]["objects"][name]["at"]["0.5"]
            assert (row["picks"], row["truths"], row["hits"]) == (at["candidates"], at["references"], at["tp"])
            assert (row["precision"], row["recall"]) == (round(at["precision"], 3), round(at["recall"], 3))
            assert row["F1"] == pytest.approx(at["f1"], abs=5.1e-4)
            assert row["F4"] == pytest.approx(expected["czii"]["objects"][name]["fbeta"], abs=5.1e-4)
        assert figure(browser, "czii") == pytest.approx(expected["czii"]["score"], abs=5.1e-5)
        assert figure(browser, "f1") == pytest.approx(expected["matched"]["macro_f1"]["0.5"], abs=5.1e-5)
        browser.find_element(By.CSS_SELECTOR, "#reach option[value='1']").click()
        row, at = shown(browser, "ball"), expected["matched"]["objects"]["ball"]["at"]["0.75"]
        assert (row["hits"], row["F1"]) == (at["tp"], pytest.approx(at["f1"], abs=5.1e-4))
        browser.find_element(By.CSS_SELECTOR, "#reach option[value='0']").click()
    assert shown(browser, "ball") != before
    browser.find_element(By.ID, "reset").click()
    assert shown(browser, "ball") == before
    assert browser.get_log("browser") == []


def test_average_precision_and_best_thresholds(browser, tmp_path):
    from selenium.webdriver.common.by import By

    _, truth, found = scene()
    opened(browser, write_report(report(), tmp_path / "r.html"))
    curves = precision_recall(found, truth, OBJECTS)
    for name, curve in curves.items():
        assert shown(browser, name)["AP"] == pytest.approx(curve.average_precision, abs=5.1e-4)
    kept = {run: p.above({"ball": 0.4, "ring": 0.35}) for run, p in found.items()}
    for which in ("czii", "f1"):
        interval = bootstrap(kept, truth, OBJECTS, rng=np.random.default_rng(0), metric=which)
        text = browser.execute_script(f"return document.querySelector('#{which} small').textContent")
        assert [float(v) for v in re.findall(r"0\.\d+", text)] == pytest.approx([interval.low, interval.high], abs=0.02)
    browser.find_element(By.ID, "best-f1").click()
    for name, curve in curves.items():
        f1 = 2 * curve.tp / (curve.n + curve.n_truth)
        assert shown(browser, name)["F1"] == pytest.approx(f1.max(), abs=5.1e-4)
    browser.find_element(By.ID, "best-f4").click()
    assert shown(browser, "ball")["picks"] >= 14
    assert browser.get_log("browser") == []


def test_keyboard_sections_and_run(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, write_report(report(), tmp_path / "r.html"))
    canvas = browser.find_element(By.ID, "sections")
    picture = "return document.getElementById('sections').toDataURL()"
    before, z = browser.execute_script(picture), browser.execute_script("return document.getElementById('z').value")
    canvas.send_keys(Keys.ARROW_UP)
    assert int(browser.execute_script("return document.getElementById('z').value")) == int(z) + 1
    assert browser.execute_script(picture) != before
    canvas.send_keys("n")  # to the best pick of the chosen object
    best = scene()[2]["A"].of("ball")
    cursor = browser.execute_script("return cursor.at")
    assert cursor == pytest.approx(best.positions[np.argsort(-best.scores, kind="stable")[0]].tolist(), abs=1e-2)
    canvas.send_keys("r")
    until(browser, "document.body.dataset.ready === 'B'")
    assert browser.execute_script("return document.getElementById('run').value") == "1"
    canvas.send_keys("o")
    assert browser.execute_script("return document.querySelector('#tabs [aria-selected=true]').textContent") == "ring"
    canvas.send_keys("t")
    until(browser, "document.documentElement.className === 'dark'")
    assert browser.get_log("browser") == []


def test_circles_have_the_true_radius_and_stand_on_the_particles(browser, tmp_path):
    """Only the best ball, drawn in the section through its centre: its pixels lie on a circle of 40 Å about it."""
    opened(browser, write_report(report(), tmp_path / "r.html"))
    browser.execute_script(
        "state.shown = [true, false]; state.misses = false; setCut(0, D.runs[0].objects[0].scores[0]);"
        "goTo(point(D.runs[0].objects[0].at, 0))"
    )
    scale = browser.execute_script("return scale * Math.min(devicePixelRatio, 2)")
    url = browser.execute_script("return document.getElementById('sections').toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")).astype(int)
    _, y, x = browser.execute_script("return cursor.at")
    rows, columns = np.nonzero((pixels[..., 0] - pixels[..., 2]) > 150)  # orange on grey
    inside = (rows < 640 * scale) & (columns < 480 * scale)
    down = (rows[inside] + 0.5) / scale - 5 - y  # the centre of voxel 0 lies half a voxel from the edge
    right = (columns[inside] + 0.5) / scale - 5 - x
    assert inside.sum() > 100
    assert np.hypot(down, right).mean() == pytest.approx(40, abs=1.0)
    # The middle of its extent, for the brightness of pixels differs around it.
    assert [down.min() + down.max(), right.min() + right.max()] == pytest.approx([0, 0], abs=2.0)


def test_galleries_and_charts_follow_the_threshold(browser, tmp_path):
    opened(browser, write_report(report(), tmp_path / "r.html"))
    count = "[...document.querySelectorAll('#galleries .gallery')].map(g => g.querySelectorAll('canvas').length).join()"
    titles = "[...document.querySelectorAll('#galleries h3')].map(h => h.textContent.split(' · ')[0]).join()"
    slide(browser, "ball", 2.0)  # nothing is kept, so that there is no best either
    until(browser, f"{titles} === 'Borderline: just rejected,Rejected, down to the lowest score'")
    slide(browser, "ball", 0.0)
    until(browser, f"{titles}.startsWith('Best,Borderline: kept') && {count}.startsWith('12,')")
    assert browser.execute_script("return document.querySelectorAll('#charts svg').length") == 5
    assert browser.execute_script("return document.querySelectorAll('#averages img').length") == 12
    browser.execute_script("document.querySelector('#galleries .thumb').click()")
    assert browser.get_log("browser") == []


def test_a_narrow_page_does_not_scroll_sideways(browser, tmp_path):
    path = write_report(
        report(card="| a | b |\n|---|---|\n| 1 | 2 |", log=[{"step": 1, "loss": 0.5}]), tmp_path / "r.html"
    )
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        assert browser.execute_script("return document.querySelector('#card td').textContent") == "1"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_without_truth_or_tomograms(browser, tmp_path):
    _, _, found = scene()
    flat = {run: replace(p, scores=np.ones(len(p))) for run, p in found.items()}
    path = write_report(Report("bare", flat, {}, OBJECTS), tmp_path / "r.html")
    browser.get(path.as_uri())
    assert shown(browser, "ball").keys() == {"picks"}
    row = "document.querySelector('#objects tr[data-object=ball]')"
    assert browser.execute_script(f"return {row}.querySelectorAll('input').length") == 0
    assert browser.execute_script(f"return {row}.querySelector('.slide').textContent") == "all scores are equal"
    assert browser.execute_script("return document.getElementById('viewer-part').hidden")
    assert browser.get_log("browser") == []


def test_objects_without_slider_and_dashes_are_explained(browser, tmp_path):
    volumes, truth, found = scene()
    objects = [*OBJECTS, replace(small.BALL, name="rod"), replace(small.BALL, name="cube")]
    truth = {run: p.select(p.names == "ball") for run, p in truth.items()}
    made = Report("four", found, truth, objects, {"ball": 0.4}, volumes.__getitem__, unknown=["rod"])
    opened(browser, write_report(made, tmp_path / "r.html"))
    cells = "[...document.querySelectorAll('#objects tbody tr')].map(r => r.querySelector('.slide').textContent)"
    assert browser.execute_script(f"return {cells}") == ["", "", "not known to this model", "no picks"]
    assert browser.execute_script("return document.querySelectorAll('#objects input[type=range]').length") == 2
    ap = "[...document.querySelectorAll('#objects td[data-label=AP]')].map(c => c.textContent)"
    assert browser.execute_script(f"return {ap}.slice(1)") == ["–"] * 3
    assert "no true particle" in browser.execute_script("return document.getElementById('dashes').textContent")
    for button in ("best-f1", "reset"):
        browser.execute_script(f"document.getElementById('{button}').click()")
    browser.execute_script("document.querySelectorAll('#tabs button')[2].click()")
    until(browser, "document.querySelectorAll('#charts svg').length === 0")  # rather than five empty frames
    folded = browser.execute_script("return document.getElementById('folded').textContent")
    assert folded == (
        "rod: nothing to draw for scores, precision and recall, distance of hits, reliability, nearest neighbours, "
        "for there are no picks of it here"
    )
    assert browser.execute_script("return document.querySelectorAll('#galleries .gallery').length") == 0
    assert browser.get_log("browser") == []
    opened(browser, write_report(report(), tmp_path / "r.html"))
    assert browser.execute_script("return document.getElementById('dashes')") is None


def test_the_page_opens_at_the_first_object_with_picks(browser, tmp_path):
    volumes, truth, found = scene()
    objects = [replace(small.BALL, name="rod"), *OBJECTS]
    opened(browser, write_report(Report("", found, truth, objects, {}, volumes.__getitem__), tmp_path / "r.html"))
    assert browser.execute_script("return document.querySelector('#tabs [aria-selected=true]').textContent") == "ball"
    assert browser.execute_script("return document.querySelectorAll('#charts svg').length") == 5
    assert "AP: average precision" in browser.execute_script("return document.getElementById('words').textContent")


# ----------------------------------------------------------------------------------------------------- copick's verbs
def test_copick_evaluation_is_tomopicks(tmp_path):
    from tomopick.cli import copick_plugin

    config = small.copick(tmp_path / "project")
    both = ("--picks", "*:curator/0", "--truth", "*:curator/0", "--json")
    ours = call(main, "evaluate", config, config, *both)
    theirs = call(copick_plugin.evaluation, "-c", config, *both)
    assert theirs.exit_code == 0
    assert json.loads(theirs.stdout) == json.loads(ours.stdout)
    missing = call(copick_plugin.evaluation, "-c", config, "--picks", "*:curator/0")
    assert missing.exit_code == 2 and "--picks and --truth are both needed" in missing.output


def test_copick_training_and_inference(tmp_path):
    from tomopick.cli import copick_plugin
    from tomopick.data import open_project

    config = small.copick(tmp_path / "project")
    made = call(copick_plugin.training, "-c", config, "light", tmp_path / "m", *small.TINY, "--device", "cpu",
                "tiling.shape=32,32,32", "tiling.overlap=8", "--val-runs", "B")  # fmt: skip
    assert made.exit_code == 0, made.output
    picked = call(copick_plugin.inference, "-c", config, small.trained(), "--device", "cpu", "--out", tmp_path / "r")
    assert picked.exit_code == 0, picked.output
    assert len(open_project(config).picks("A", "*:tomopick/1")) > 0


def test_the_plugin_is_light_and_copick_takes_it():
    import subprocess
    import sys

    code = (
        "import sys, click; from tomopick.cli import copick_plugin as p; "
        "assert all(isinstance(c, click.Command) and c.name == 'tomopick' for c in "
        "(p.evaluation, p.inference, p.training)); "
        "sys.exit(bool({'torch', 'numpy', 'scipy', 'copick', 'zarr'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
