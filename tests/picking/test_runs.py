import errno
import json
import os
import sys
import time
from dataclasses import replace
from threading import Event, get_native_id

import mrcfile
import numpy as np
import pytest

from small import BALL, RING, copick, folder, memory, tomogram, trained, untrained
from tomopick import Detector, Picks, open_project
from tomopick.core.errors import OutputError, SelectionError, TomopickError
from tomopick.core.records import ENDING as RECORDS
from tomopick.core.records import PICKED, STARTED, Records
from tomopick.data import MemoryProject, read_picks_csv, write_mrc, write_picks_csv
from tomopick.picking.ensemble import Ensemble
from tomopick.picking.load import joined
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.rows import join_rows
from tomopick.picking.runs import pick_run, pick_runs
from tomopick.scoring.scores import matched_scores


def picker(*models, **options):
    return Picker(joined([Detector.load(m) for m in models or (trained(),)]), PickOptions(device="cpu", **options))


def f1(picks, truth, *objects):
    return matched_scores({"A": picks}, {"A": truth}, objects or (BALL,), radii=(0.75,)).macro_f1[0]


def csv(place, run="A"):
    return read_picks_csv(place / f"{run}.csv")[""]


def test_one_volume(tmp_path):
    project = open_project(folder(tmp_path / "in", "A") / "A.mrc")
    result = pick_run(picker(), project, "A", tmp_path / "out")
    found, truth = csv(tmp_path / "out"), tomogram("A", 0)[1]
    assert result.status == "picked" and result.counts == {"ball": len(found)}
    assert f1(found, truth) > 0.7
    assert np.all(np.diff(found.scores) <= 0)
    api = Detector.load(trained()).pick(project.tomogram("A")).picks
    assert np.allclose(api.positions, found.positions, atol=1e-3) and np.allclose(api.scores, found.scores, atol=1e-6)
    names = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*"))
    assert names[:3] == ["A.csv", "objects.json", "records"] and len(names) == 4 and names[3].endswith(RECORDS)
    record = Records(tmp_path / "out" / "records").last("A")
    assert record["status"] == "picked" and record["counts"] == result.counts and record["models"] == [str(trained())]


def test_a_finished_run_is_skipped(tmp_path):
    project = open_project(folder(tmp_path / "in"))
    first = list(pick_runs(picker(), project, project.runs(), tmp_path / "out"))
    assert [r.status for r in first] == ["picked", "picked"]
    before = (tmp_path / "out" / "A.csv").stat().st_mtime_ns
    again = list(pick_runs(picker(), project, project.runs(), tmp_path / "out"))
    assert [r.status for r in again] == ["skipped", "skipped"] and again[0].counts == first[0].counts
    assert (tmp_path / "out" / "A.csv").stat().st_mtime_ns == before
    again = pick_run(picker(), project, "A", tmp_path / "out", overwrite=True)
    assert again.status == "picked" and (tmp_path / "out" / "A.csv").stat().st_mtime_ns > before


def test_lost_picks_are_made_again(tmp_path):
    project = open_project(folder(tmp_path / "in", "A"))
    pick_run(picker(), project, "A", tmp_path / "out")
    (tmp_path / "out" / "A.csv").unlink()
    assert pick_run(picker(), project, "A", tmp_path / "out").status == "picked"
    assert (tmp_path / "out" / "A.csv").is_file()


def test_our_picks_of_other_settings_are_replaced(tmp_path):
    project = open_project(folder(tmp_path / "in", "A"))
    few = pick_run(picker(thresholds={"ball": 0.9}), project, "A", tmp_path / "out")
    many = pick_run(picker(thresholds={"ball": 0.1}), project, "A", tmp_path / "out")
    assert many.counts["ball"] > few.counts["ball"]
    assert many.messages == ("picks made before with another model, input or settings are replaced",)
    offset = open_project(tmp_path / "in", coordinate_offset="czii")
    assert pick_run(picker(thresholds={"ball": 0.1}), offset, "A", tmp_path / "out").status == "picked"


def test_runs_of_one_name_in_several_places(tmp_path):
    one, two = (open_project(folder(tmp_path / name, "A")) for name in "xy")
    out = tmp_path / "out"
    pick_run(picker(), one, "A", out)
    before = (out / "A.csv").read_bytes()
    for made in (picker(), picker(thresholds={"ball": 0.9})):
        with pytest.raises(
            OutputError, match=r"run A: .*out/records knows it of .*x/A\.mrc, but the input is .*y/A\.mrc"
        ):
            pick_run(made, two, "A", out)
    assert (out / "A.csv").read_bytes() == before
    assert pick_run(picker(), one, "A", out).status == "skipped"
    assert pick_run(picker(), open_project(tmp_path / "x" / "A.mrc"), "A", out).status == "skipped"  # the same file
    assert pick_run(picker(), two, "A", out, overwrite=True).status == "picked"
    with pytest.raises(OutputError, match=r"knows it of .*y/A\.mrc"):
        pick_run(picker(), one, "A", out)


def test_copick_projects_do_not_share_records(tmp_path):
    one, two = (open_project(copick(tmp_path / name, ("A",))) for name in "xy")
    pick_run(picker(), one, "A", tmp_path / "out")
    with pytest.raises(OutputError, match=r"knows it of .*x/copick\.json"):
        pick_run(picker(), two, "A", tmp_path / "out")
    assert not two.has_picks("A", "tomopick", "0")
    assert pick_run(picker(), one, "A", tmp_path / "out").status == "skipped"


def test_a_replaced_volume_is_picked_again(tmp_path):
    place = folder(tmp_path / "in", "A")
    pick_run(picker(), open_project(place), "A", tmp_path / "out")
    write_mrc(place / "A.mrc", tomogram("A", 7)[0].values, 10.0)
    result = pick_run(picker(), open_project(place), "A", tmp_path / "out")
    assert result.status == "picked" and "input" in result.messages[0]
    assert f1(csv(tmp_path / "out"), tomogram("A", 7)[1]) > 0.7


def test_what_we_did_not_make_is_refused(tmp_path):
    project = open_project(folder(tmp_path / "in", "A"))
    truth = tomogram("A", 0)[1]
    out = tmp_path / "out"
    write_picks_csv(out / "A.csv", truth)
    before = (out / "A.csv").read_bytes()
    with pytest.raises(OutputError, match=r"run A: .*A.csv: there are picks that are not known to"):
        pick_run(picker(), project, "A", out)
    assert (out / "A.csv").read_bytes() == before
    assert pick_run(picker(), project, "A", out, overwrite=True).status == "picked"
    # Somebody looked at ours and mended them.
    write_picks_csv(out / "A.csv", csv(out).select(np.arange(3)))
    for changed in (picker(), picker(thresholds={"ball": 0.9})):
        with pytest.raises(OutputError, match="were edited since tomopick made them"):
            pick_run(changed, project, "A", out)
    assert len(csv(out)) == 3


def test_a_cut_off_run_is_done_again(tmp_path):
    project = open_project(folder(tmp_path / "in", "A"))
    out = tmp_path / "out"
    pick_run(picker(), project, "A", out)
    with Records(out / "records") as records:
        records.write("A", STARTED, {})
    assert pick_run(picker(), project, "A", out).status == "picked"


def test_a_copick_project(tmp_path):
    config = copick(tmp_path / "project", ("A",))
    project = open_project(config)
    result = pick_run(picker(user_id="me", session_id="1"), project, "A", tmp_path / "out")
    found = open_project(config).picks("A", "*:me/1")
    assert len(found) == result.counts["ball"] > 5
    assert f1(found, project.picks("A", "*:curator/0")) > 0.7
    assert 0 < found.scores.min() < 1
    (file,) = (tmp_path / "project" / "ExperimentRuns" / "A" / "Picks").glob("me_1_*.json")
    assert json.loads(file.read_text())["trust_orientation"] is False
    assert [p.name.endswith(RECORDS) for p in (tmp_path / "out").iterdir()] == [True]
    same = picker(user_id="me", session_id="1")
    assert pick_run(same, open_project(config), "A", tmp_path / "out").status == "skipped"
    with pytest.raises(OutputError, match=r"picks of curator/0 in .*copick.json: there are picks that are not known"):
        pick_run(picker(user_id="curator"), open_project(config), "A", tmp_path / "out2")


def test_picks_of_an_object_that_is_gone(tmp_path):
    config = copick(tmp_path / "project", ("A",))
    place = tmp_path / "project" / "ExperimentRuns" / "A" / "Picks"
    text = (place / "curator_0_ball.json").read_text().replace('"ball"', '"gone"').replace("curator", "tomopick")
    (place / "tomopick_0_gone.json").write_text(text)
    assert pick_run(picker(), open_project(config), "A", tmp_path / "out").status == "picked"
    assert pick_run(picker(), open_project(config), "A", tmp_path / "out").status == "skipped"
    assert (place / "tomopick_0_gone.json").read_text() == text


def test_objects_that_the_project_does_not_define(tmp_path):
    both = trained(BALL, RING)
    config = copick(tmp_path / "project", ("A",))
    result = pick_run(picker(both), open_project(config), "A", tmp_path / "out")
    assert "not written, for the project does not define it: ring" in result.messages
    other = copick(tmp_path / "other", ("A",), objects=(RING,))
    with pytest.raises(SelectionError, match=r"defines ring, but the model finds ball"):
        pick_run(picker(), open_project(other), "A", tmp_path / "out2")


def test_thresholds():
    volume, _ = tomogram("A", 0)
    made = picker()
    default, _ = made.pick(volume)
    cut = made.thresholds["ball"]
    assert default.scores.min() >= cut
    high = float(np.quantile(default.scores, 0.4))
    strict, _ = picker(thresholds={"ball": high}).pick(volume)
    assert 0 < len(strict) == (default.scores >= high).sum() < len(default)
    below, _ = picker(thresholds={"ball": high}, keep_below=True).pick(volume)
    assert below.scores.min() < 0.1 and len(below) > len(default)
    assert picker(thresholds={"ball": high}, keep_below=True).counts(below) == {"ball": len(strict)}
    with pytest.raises(SelectionError, match=r"`thresholds=bal=0.5`: no model knows 'bal'; did you mean 'ball'"):
        picker(thresholds={"bal": 0.5})
    with pytest.raises(SelectionError, match=r"`thresholds=ball=7`: scores lie between 0 and 1"):
        picker(thresholds={"ball": 7.0})


def test_the_metric_chooses_the_thresholds():
    detector = replace(Detector.load(trained()), thresholds={"f1": {"ball": 0.6}, "czii": {"ball": 0.05}})
    assert Picker(detector, PickOptions(device="cpu")).thresholds == {"ball": 0.6}
    assert Picker(detector, PickOptions(device="cpu", metric="czii")).thresholds == {"ball": 0.05}


def test_inverted_volumes():
    volume, truth = tomogram("A", 0)
    light = replace(volume, values=-volume.values)
    picks, found = picker().pick(light)
    assert any("looks inverted" in line for line in found) and f1(picks, truth) < 0.3
    picks, found = picker(invert=True).pick(light)
    assert not found and f1(picks, truth) > 0.7


def test_flips_are_averaged():
    volume, _ = tomogram("A", 0)
    detector = Detector.load(trained())
    plain = detector.heatmap(volume).values
    flips = join_rows(picker(views="flips").rows(volume, lambda done, total: None)[0]).values
    views = [plain]
    for axis in range(3):
        mirrored = replace(volume, values=np.ascontiguousarray(np.flip(volume.values, axis)))
        views.append(np.flip(detector.heatmap(mirrored).values, axis + 1))
    assert not np.allclose(flips, plain, atol=1e-3)
    inner = np.s_[:, 4:-4, 12:-12, 8:-8]
    assert np.abs(flips - np.mean(views, axis=0))[inner].mean() < 0.02  # tiles lie elsewhere in mirrored volumes


def test_two_models_are_averaged():
    volume, _ = tomogram("A", 0, objects=(BALL, RING))
    one, two = trained(), trained(BALL, RING)
    both = picker(one, two)
    assert [o.name for o in both.objects] == ["ball", "ring"]
    heat = join_rows(both.rows(volume, lambda done, total: None)[0])
    first, second = (Detector.load(m).heatmap(volume).values for m in (one, two))
    assert np.allclose(heat.values[0], (first[0] + second[0]) / 2, atol=1e-6)
    assert np.allclose(heat.values[1], second[1], atol=1e-6)  # over the members that know the object
    cuts = [Detector.load(m).thresholds["f1"]["ball"] for m in (one, two)]
    assert both.thresholds["ball"] == pytest.approx(np.mean(cuts))
    assert both.fingerprint() != picker(one).fingerprint()


def test_members_that_disagree():
    one, two = untrained((BALL,)), untrained((replace(BALL, radius=55.0), RING))
    made = Picker(Ensemble.of([one, two]), PickOptions(device="cpu"))
    assert [(o.name, o.radius) for o in made.objects] == [("ball", 40.0), ("ring", 60.0)]
    (line,) = made.differences()
    assert line.endswith("used are those of the first that knows one: ball 40 Å")
    wider = replace(two, method=replace(two.method, peaks=replace(two.method.peaks, window=0.9)))
    first, second = Picker(Ensemble.of([one, wider]), PickOptions(device="cpu")).differences()
    assert first.startswith("the models find peaks in different ways; used is that of") and second == line
    assert Picker(Ensemble.of([one, one]), PickOptions(device="cpu")).differences() == []


def test_the_fingerprint_holds_whatever_decides_the_picks(monkeypatch):
    detector = untrained()
    moved = replace(detector, facts=replace(detector.facts, displacement=(1.0, -2.0, 3.0)))

    def marks(**options):
        return [Picker(d, PickOptions(device="cpu", **options)).fingerprint() for d in (detector, moved)]

    plain, fitted = marks(), marks(offset="fitted")
    assert plain[0] == plain[1] and len({*plain, *fitted}) == 3
    monkeypatch.setattr("tomopick.picking.picker.__version__", "99")
    assert marks()[0] != plain[0]


def test_the_fitted_displacement_is_taken_out_when_asked():
    detector = Detector.load(trained())
    moved = replace(detector, facts=replace(detector.facts, displacement=(1.0, -2.0, 3.0)))
    volume, _ = tomogram("A", 0)
    plain, _ = Picker(moved, PickOptions(device="cpu")).pick(volume)
    fitted, _ = Picker(moved, PickOptions(device="cpu", offset="fitted")).pick(volume)
    assert np.allclose(fitted.positions, plain.positions - (1.0, -2.0, 3.0))


def test_heatmaps_on_disk(tmp_path):
    project = open_project(folder(tmp_path / "in", "A"))
    both = trained(BALL, RING)
    pick_run(picker(both, save_heatmaps=True), project, "A", tmp_path / "out")
    heat = Detector.load(both).heatmap(project.tomogram("A"))
    for channel, name in enumerate(("ball", "ring")):
        with mrcfile.open(tmp_path / "out" / "heatmaps" / f"A_{name}_heatmap.mrc") as mrc:
            assert np.array_equal(mrc.data, heat.values[channel])
            assert mrc.voxel_size.x == pytest.approx(20)
            assert mrc.header.origin.item() == pytest.approx(heat.grid.origin[::-1]) == (5, 5, 5)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"A.csv", "heatmaps", "objects.json", "records"}
    # The folder is still one of tables.
    opened = open_project(tmp_path / "out")
    assert opened.runs() == ["A"] and len(opened.picks("A")) == len(csv(tmp_path / "out"))


def test_a_run_that_was_cut_off_under_one_user_tells_nothing_of_another_s_picks(tmp_path):
    project = open_project(copick(tmp_path / "in", ("A",)))  # with picks of curator/0
    mine = project.picks("A", "*:curator/0")
    pick_run(picker(user_id="me", session_id="1"), project, "A", tmp_path / "out")
    finished = Records(tmp_path / "out").last("A")
    for record in (finished, {k: finished[k] for k in ("place", "fingerprint", "input", "settings")}):
        status = PICKED if record is finished else STARTED
        with Records(tmp_path / "out") as records:
            records.write("A", status, {k: v for k, v in record.items() if k not in ("run", "status", "time")})
        with pytest.raises(OutputError, match=r"picks of curator/0 in .*are not known to"):
            pick_run(picker(user_id="curator", session_id="0"), project, "A", tmp_path / "out")
        kept = open_project(tmp_path / "in").picks("A", "*:curator/0")
        np.testing.assert_array_equal(kept.positions, mine.positions)
    assert pick_run(picker(user_id="me", session_id="1"), project, "A", tmp_path / "out").status == "picked"


def test_heatmaps_of_other_picks_do_not_stay(tmp_path):
    """Neither of a model that was there before, nor what a process left that was killed before it wrote its picks."""
    project = open_project(folder(tmp_path / "in", ("A", "A_ball")))
    pick_run(picker(save_heatmaps=True), project, "A_ball", tmp_path / "out")
    heatmaps = tmp_path / "out" / "heatmaps"
    (heatmaps / "A_ball_heatmap.mrc").write_bytes(b"of a process that was killed")
    pick_run(picker(), project, "A", tmp_path / "out")
    assert [p.name for p in heatmaps.iterdir()] == ["A_ball_ball_heatmap.mrc"]


def test_a_batch_goes_on_behind_a_broken_file(tmp_path):
    place = folder(tmp_path / "in", "ABC")
    data = (place / "B.mrc").read_bytes()
    (place / "B.mrc").write_bytes(data[: len(data) // 2])
    project = open_project(place)
    results = {r.run: r for r in pick_runs(picker(), project, project.runs(), tmp_path / "out")}
    assert [r.status for r in results.values()] == ["picked", "failed", "picked"]
    assert "B.mrc: truncated" in results["B"].messages[0]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.csv")) == ["A.csv", "C.csv"]
    (place / "B.mrc").write_bytes(data)
    results = [r.status for r in pick_runs(picker(), open_project(place), project.runs(), tmp_path / "out")]
    assert results == ["skipped", "picked", "skipped"]


def test_what_nobody_foresaw_fails_one_run(tmp_path):
    class Odd(type(memory())):
        def tomogram(self, run, tomo_type=None):
            if run == "A":
                raise ZeroDivisionError("of a library")
            return super().tomogram(run, tomo_type)

    project = Odd([BALL])
    for i, run in enumerate("AB"):
        project.add(*tomogram(run, i))
    results = list(pick_runs(picker(), project, ["A", "B"], tmp_path / "out"))
    assert [r.status for r in results] == ["failed", "picked"]
    assert results[0].messages[0].startswith("run A: ZeroDivisionError: of a library (see ")
    assert "Traceback" in (tmp_path / "out" / "records" / "A.error.txt").read_text()


@pytest.mark.parametrize("heatmaps", [False, True])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, heatmaps):
    project = open_project(folder(tmp_path / "in"))
    out = tmp_path / "out"
    pick_run(picker(), project, "A", out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TomopickError, match="cannot be written \\(No space left on device\\); check space"):
            pick_run(picker(save_heatmaps=heatmaps), project, "A", out, overwrite=True)
        results = list(pick_runs(picker(), project, ["B", "A"], out))
        assert [r.status for r in results] == ["failed", "skipped"]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_picks_of_memory_projects_and_none_found(tmp_path):
    project = memory(("A",))
    flat = tomogram("A", 0)[0]
    noise = np.random.default_rng(0).standard_normal(flat.values.shape).astype(np.float32)
    project.write_tomogram(replace(flat, values=noise))
    result = pick_run(picker(thresholds={"ball": 1.0}), project, "A", tmp_path / "out")
    assert result.counts == {"ball": 0}
    assert len(csv(tmp_path / "out")) == 0
    assert pick_run(picker(thresholds={"ball": 1.0}), project, "A", tmp_path / "out").status == "skipped"
    assert isinstance(csv(tmp_path / "out"), Picks)


def test_picks_know_their_objects_when_they_are_opened_again(tmp_path):
    place, out = folder(tmp_path / "in", ("A",), picks=False, objects_json=False), tmp_path / "out"
    pick_run(picker(), open_project(place), "A", out)
    (again,) = open_project(out).objects
    assert (again.name, again.radius, again.color) == (BALL.name, BALL.radius, BALL.color)
    pick_run(picker(trained(BALL, RING)), open_project(place), "A", out, overwrite=True)
    assert [o.name for o in open_project(out / "A.csv").objects] == ["ball", "ring"]


class Watched(MemoryProject):
    """Notes when volumes are read and picks are made of them; some runs cannot be written."""

    keeps_picks = True

    def __init__(self, *args, refuse=()):
        super().__init__(*args)
        self.read, self.refuse = [], refuse

    def tomogram(self, run, tomo_type=None):
        if run not in self.read:
            self.read.append(run)
        return super().tomogram(run, tomo_type)

    def write_picks(self, picks, user_id, session_id):
        if picks.run in self.refuse:
            raise OutputError(f"run {picks.run}: the disk is full")
        super().write_picks(picks, user_id, session_id)


def watched(runs="ABCD", **more):
    project = Watched((BALL,), **more)
    for seed, run in enumerate(runs):
        volume, _ = tomogram(run, seed)
        project.add(volume)
    return project


def test_the_next_volume_is_read_while_one_is_predicted_and_no_more(tmp_path, monkeypatch):
    project, made = watched(), picker()
    ahead = []

    def slow(run, parts):
        for part in parts:  # until the reader has had its turn, or would have read on
            deadline = time.monotonic() + 5
            while len(project.read) < min(4, "ABCD".index(run) + 2) and time.monotonic() < deadline:
                time.sleep(0.001)
            ahead.append(len(project.read) - "ABCD".index(run) - 1)
            yield part

    real = made._rows
    monkeypatch.setattr(made, "_rows", lambda seen, progress: (slow(seen.run, real(seen, progress)[0]), []))
    results = list(pick_runs(made, project, project.runs(), tmp_path))
    assert [(r.run, r.status) for r in results] == [(run, "picked") for run in "ABCD"]
    assert project.read == list("ABCD") and set(ahead) == {0, 1} and ahead[-1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_reading_ahead_leaves_the_processor_to_the_network(tmp_path, monkeypatch):
    project, usual = watched("ABC"), os.getpriority(os.PRIO_PROCESS, 0)
    read, seen = project.tomogram, {}

    def tomogram_of(run, tomo_type=None):
        seen[run] = os.getpriority(os.PRIO_PROCESS, get_native_id())
        return read(run, tomo_type)

    monkeypatch.setattr(project, "tomogram", tomogram_of)
    assert len(list(pick_runs(picker(), project, project.runs(), tmp_path))) == 3
    # The first is waited for; and the process itself is what it was.
    assert seen == {"A": usual, "B": 19, "C": 19} and os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_a_volume_that_comes_slowly_keeps_nobody_waiting(tmp_path, monkeypatch):
    project, coming = watched("AB"), Event()
    read, write = project.tomogram, Records.write

    def tomogram_of(run, tomo_type=None):
        if run == "B":
            coming.set()
        return read(run, tomo_type)

    def begin(records, run, status, facts):
        # B's volume, which takes its time, must not be what A waits for, nor the other way round.
        assert run == "B" or status != STARTED or coming.wait(5)
        write(records, run, status, facts)

    monkeypatch.setattr(project, "tomogram", tomogram_of)
    monkeypatch.setattr(Records, "write", begin)
    assert [r.status for r in pick_runs(picker(), project, ["A", "B"], tmp_path)] == ["picked", "picked"]


def test_a_batch_gives_the_picks_of_runs_alone(tmp_path):
    many, alone = watched(), watched()
    batch = list(pick_runs(picker(), many, many.runs(), tmp_path / "batch"))
    for result in batch:
        single = pick_run(picker(), alone, result.run, tmp_path / "alone")
        assert single.counts == result.counts and single.messages == result.messages
        found, wanted = (p.picks(result.run, "*:tomopick/0") for p in (many, alone))
        np.testing.assert_array_equal(found.positions, wanted.positions)


def test_a_run_that_cannot_be_written_is_that_runs_failure(tmp_path):
    project = watched(refuse=("B", "D"))
    results = list(pick_runs(picker(), project, project.runs(), tmp_path))
    assert [r.status for r in results] == ["picked", "failed", "picked", "failed"]
    assert results[3].messages == ("run D: the disk is full",)
    records = Records(tmp_path)
    assert records.last("D")["status"] == STARTED and records.failure("D")["message"] == "run D: the disk is full"
    project.refuse = ()
    again = list(pick_runs(picker(), project, project.runs(), tmp_path))
    assert [r.status for r in again] == ["skipped", "picked", "skipped", "picked"]


def test_whoever_stops_early_finds_finished_runs_whole(tmp_path):
    project = watched()
    results = pick_runs(picker(), project, project.runs(), tmp_path)
    assert next(results).run == "A"
    results.close()
    assert {run: record["status"] for run, record in Records(tmp_path).runs().items()} == {"A": PICKED}


def test_an_interruption_ends_the_batch(tmp_path, monkeypatch):
    project, made = watched(), picker()
    real = made._rows

    def rows(seen, progress):
        if seen.run == "B":
            raise KeyboardInterrupt
        return real(seen, progress)

    monkeypatch.setattr(made, "_rows", rows)
    done = []
    with pytest.raises(KeyboardInterrupt):
        done.extend(pick_runs(made, project, project.runs(), tmp_path))
    monkeypatch.undo()
    again = list(pick_runs(picker(), project, project.runs(), tmp_path))
    assert [r.status for r in again] == ["skipped", "picked", "picked", "picked"]


def test_views_are_those_of_the_method_unless_others_are_asked_for():
    detector = Detector.load(trained())
    both = replace(detector, method=replace(detector.method, views="opposite"))
    for options, n in ({}, 2), ({"views": "none"}, 1), ({"views": "flips"}, 4):
        picker = Picker(joined([both]), PickOptions(device="cpu", **options))
        assert [len(p.views) for p in picker.predictors] == [n]
    assert [len(p.views) for p in Picker(detector, PickOptions(device="cpu")).predictors] == [1]
