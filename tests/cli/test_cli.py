"""The command line on real files: what it prints, writes and refuses, and with which exit code."""

import gzip
import inspect
import json
import signal
import subprocess
import sys
from importlib import import_module

import mrcfile
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from small import BALL, RING, TINY, copick, copy_of, folder, tomogram, trained
from tomopick import Picks, open_project
from tomopick.cli import main
from tomopick.cli.demo import _simulate
from tomopick.data import create_copick_project, read_picks_csv, write_mrc, write_picks_csv, write_run
from tomopick.models.calibrate import SMOOTHING_VIEWS
from tomopick.picking.folder import shipped
from tomopick.picking.load import load_detector
from tomopick.picking.picker import PickOptions
from tomopick.picking.predict import VIEWS
from tomopick.recipes import names
from tomopick.recipes.catalogue import ENTRIES
from tomopick.scoring.compare import Scoring
from tomopick.scoring.intervals import bootstrap_f1
from tomopick.scoring.scores import czii_score, matched_scores
from tomopick.simulation.projects import PRESETS, simulate_project
from tomopick.training.fit import FitOptions

SMALL = ["tiling.shape=32,32,32", "tiling.overlap=8", *TINY]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """The one line of an error, after what was decided before it."""
    result = run(*arguments, code=2)
    *notes, line = result.stderr.splitlines()
    assert line.startswith("error: ") and result.stdout == ""
    assert not any(text.startswith(("error", "Traceback")) for text in notes)
    return line


def pick(source, out, *more, code=0):
    return run("pick", trained(), source, "--out", out, "--device", "cpu", *more, code=code)


def no_pick(source, out, *more):
    before = sorted(out.rglob("*")) if out.exists() else []
    line = refused("pick", trained(), source, "--out", out, "--device", "cpu", *more)
    written = [p for p in (sorted(out.rglob("*")) if out.exists() else []) if p not in before]
    assert not [p for p in written if p.suffix in (".csv", ".mrc", ".part")]
    return line


# --- as a program -----------------------------------------------------------------------------------------------------


def program(*arguments):
    command = [sys.executable, "-m", "tomopick", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_program(tmp_path):
    done = program("--help")
    assert done.returncode == 0 and "tomopick demo" in done.stdout
    done = program("recipes", "bdp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no recipe 'bdp'; did you mean 'bpd'?\n"
    place = folder(tmp_path / "in", "A")
    (place / "B.mrc").write_bytes(b"no volume")
    done = program("pick", trained(), place, "--out", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.startswith("A: ")
    assert done.stderr.splitlines()[-2:] == [
        "1 of 2 runs failed:",
        f"  B: {place / 'B.mrc'}: not an MRC file; expected a tomogram in MRC or OME-Zarr",
    ]
    assert program("nonsense").returncode == 2


def test_recipes():
    text = run("recipes").output
    assert all(name in text for name in names()) and set(ENTRIES) == set(names())
    first = text.splitlines()[2]
    assert first.split()[:7] == ["light", "922,886", "9.54", "2", "64x64x64", "1", "-"]
    assert text.splitlines()[0].split("  ")[0] == "recipe" and "Start with light: tomopick train light" in text
    assert "y284/biological-particle-detector" in text and "tomopick convert FILE OUT --as RECIPE" in text
    assert json.loads(run("recipes", "bpd").output)["network"]["widths"] == [28, 32, 36]


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("train", ["--workers", "-1"]), ("train", ["--seed", "-1"]), ("simulate", ["--seed", "-1"]),
        ("simulate", ["--workers", "0"]), ("demo", ["--seed", "-1"]), ("evaluate", ["--beta", "nan"]),
        ("evaluate", ["--beta", "-1"]), ("evaluate", ["--distance-multiplier", "inf"]),
        ("evaluate", ["--distance-multiplier", "0"]), ("show", ["--thickness", "nan"]), ("show", ["--at", "1,nan,2"]),
    ],
)  # fmt: skip
def test_numbers_out_of_range(tmp_path, verb, flags):
    more = {"show": ["--out", tmp_path / "a.png"], "demo": ["--out", tmp_path / "new"]}.get(verb, [])
    places = [] if verb == "demo" else ["x"] if verb in ("simulate", "show") else ["x", "y"]
    done = run(verb, *places, *flags, *more, code=2)
    assert "invalid value for" in done.stderr and flags[0] in done.stderr and not list(tmp_path.iterdir())


def test_defaults_are_those_of_the_code():
    """Reading them from there would import torch to show the help."""
    parameters = inspect.signature(simulate_project).parameters.values()
    simulated = {p.name: p.default for p in parameters if p.default is not p.empty}
    simulated["tomo_type"] = ",".join(simulated["tomo_types"])
    fitted = {k: v for k, v in vars(FitOptions()).items() if k != "objects"}  # --object is another thing
    picked = {k: v for k, v in vars(PickOptions()).items() if k != "session_id"}  # the command takes the next free one
    code = {"pick": picked, "evaluate": vars(Scoring()), "train": fitted, "simulate": simulated}
    for verb, known in code.items():
        options = {p.name: p.to_info_dict()["default"] for p in main.commands[verb].params if not p.multiple}
        shared = set(options) & set(known)
        assert len(shared) > 4
        for name in shared:
            assert (options[name] or None) == (known[name] or None), (verb, name)
    # Choices stand in the commands once more, for --help must not wait for torch.
    choices = (("simulate", "preset", PRESETS), ("pick", "views", VIEWS), ("calibrate", "smooth", SMOOTHING_VIEWS))
    for verb, name, known in choices:
        option = next(p for p in main.commands[verb].params if p.name == name)
        assert list(option.type.choices) == list(known), (verb, name)


def test_out_of_memory_is_one_line(tmp_path, monkeypatch):
    place = folder(tmp_path / "in", "A")
    errors = (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB.\nmore"), MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried"),
    )  # fmt: skip
    for error in errors:

        def full(*_, error=error, **__):
            raise error

        monkeypatch.setattr("tomopick.picking.picker.Picker.pick", full)
        monkeypatch.setattr("tomopick.training.fit.fit", full)
        for line in (no_pick(place, tmp_path / "out"), refused("train", "light", place, tmp_path / "m", *SMALL)):
            assert line.startswith("error: not enough memory") and "patch.shape" in line and "tiling.shape" in line
    errors = (RuntimeError("another"),)
    monkeypatch.setattr("tomopick.picking.picker.Picker.pick", lambda *_: (_ for _ in ()).throw(errors[0]))
    with pytest.raises(RuntimeError, match="another"):
        pick(place, tmp_path / "out")


# --- pick -------------------------------------------------------------------------------------------------------------


def test_pick_a_volume_a_folder_and_again(tmp_path):
    place, out = folder(tmp_path / "in"), tmp_path / "out"
    assert pick(place / "A.mrc", out).stdout.startswith("A: ")
    assert (out / "A.csv").read_text().startswith("object,x,y,z,score\nball,")
    lines = pick(place, out).stdout.splitlines()
    assert "finished before" not in lines[-1] and lines[-1].startswith("B: ")
    lines = pick(place, out).stdout.splitlines()
    assert len(lines) == 2 and all(line.endswith("(finished before)") for line in lines)
    lines = pick(place, out, "--overwrite", "--runs", "B,B").stdout.splitlines()
    assert len(lines) == 1 and "finished" not in lines[0]


def test_pick_a_compressed_volume_of_bytes(tmp_path):
    volume, _ = tomogram("A", 0)
    values = np.clip(volume.values * 12, -127, 127).astype(np.int8)
    with mrcfile.new(tmp_path / "A.mrc") as mrc:
        mrc.set_data(values)
        mrc.voxel_size = 10.0
        mrc.set_volume()
    (tmp_path / "B.mrc.gz").write_bytes(gzip.compress((tmp_path / "A.mrc").read_bytes()))
    pick(tmp_path, tmp_path / "out")
    one, two = (read_picks_csv(tmp_path / "out" / f"{r}.csv")[""] for r in "AB")
    assert len(one) > 5 and np.array_equal(one.positions, two.positions)


def test_pick_a_copick_project(tmp_path):
    config = copick(tmp_path / "project", tomo_types=("denoised", "wbp"))
    said = "several tomograms; say which with --tomo-type: denoised@10.000, wbp@10.000"
    line = f"error: none of 2 runs can be picked: {config}: run A: {said}"
    assert no_pick(config, tmp_path / "out") == line and not (tmp_path / "out").exists()
    more = ["--tomo-type", "wbp", "--user-id", "me", "--session-id", "3"]
    pick(config, tmp_path / "out", *more)
    project = open_project(config)
    assert len(project.picks("A", "*:me/3")) > 5 and len(project.picks("B", "*:me/3")) > 5
    assert pick(config, tmp_path / "out", *more).output.count("finished before") == 2
    line = no_pick(config, tmp_path / "other", *more, "--runs", "A")
    assert "picks of me/3" in line and "--overwrite" in line
    line = no_pick(config, tmp_path / "other", "--tomo-type", "wbp", "--runs", "A", "--user-id", "a_b")
    assert "user 'a_b' would be renamed by copick" in line


def test_a_tomogram_type_that_some_runs_lack_is_theirs_to_fail(tmp_path):
    project = create_copick_project(tmp_path / "project", [BALL])
    for seed, (name, kind) in enumerate([("A", "wbp"), ("B", "denoised")]):
        write_run(project, [tomogram(name, seed, tomo_type=kind)[0]])
    config, more = tmp_path / "project" / "copick.json", ["--tomo-type", "denoised"]
    done = pick(config, tmp_path / "out", *more, code=1)
    assert done.stdout.startswith("B: ") and "1 of 2 runs failed:" in done.stderr
    assert "run A: no tomogram type 'denoised'; there is wbp" in done.stderr.splitlines()[-1]
    line = no_pick(config, tmp_path / "none", "--tomo-type", "raw")
    assert line.startswith("error: none of 2 runs can be picked:") and "run A: no tomogram type 'raw'" in line
    assert "none of" not in no_pick(config, tmp_path / "none", *more, "--runs", "A")


def test_weights_of_a_2d_network_are_not_to_be_converted(tmp_path):
    (tmp_path / "w.safetensors").touch()
    line = refused("convert", tmp_path / "w.safetensors", tmp_path / "out", "--as", "topcup_released")
    assert f"{tmp_path / 'w.safetensors'}: a safetensors file; expected the checkpoint that torch.save wrote" in line
    assert line.endswith("are what to train with: --pretrained-weights") and not (tmp_path / "out").exists()


def test_model_and_project_given_the_wrong_way_round(tmp_path):
    place, model = folder(tmp_path / "in", "A"), trained()
    line = f"error: {model} is a model, which comes first: tomopick"
    assert refused("pick", place, model, "--out", tmp_path / "out") == f"{line} pick {model} {place}"
    assert refused("evaluate", place, model) == f"{line} evaluate {model} {place}"
    assert refused("calibrate", place, model) == f"{line} calibrate {model} {place}"
    assert refused("report", place, model, "--out", tmp_path / "r.html") == f"{line} report {model} {place}"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_is_refused_takes_no_session(tmp_path):
    config = copick(tmp_path / "project", "A")
    assert "peaks.window is nan; it must be" in refused(
        "pick", trained(), config, "--out", tmp_path / "o", "peaks.window=nan"
    )
    assert "tiling" in refused("pick", trained(), config, "--out", tmp_path / "o", "tiling.shape=0,0,0")
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_records_of_pick_in_place_of_picks(tmp_path):
    config = copick(tmp_path / "project", "A")
    pick(config, tmp_path / "records", "--session-id", "3")
    line = refused("evaluate", tmp_path / "records", config)
    assert f"{tmp_path / 'records'}: holds records of how runs were picked, and no picks" in line
    assert line.endswith(f"give {config.resolve()}, and of its picks '*:tomopick/3'")
    pick(folder(tmp_path / "in", "A"), tmp_path / "picks")
    line = refused("evaluate", tmp_path / "picks" / "records", tmp_path / "in")
    assert line.endswith(f"and no picks; give {tmp_path / 'picks'}")
    told = run("evaluate", tmp_path / "in", tmp_path / "picks").stderr
    assert f"{tmp_path / 'picks'} is what pick wrote and counts as true here: the picks come first" in told
    assert "what pick wrote" not in run("evaluate", tmp_path / "picks", tmp_path / "in").stderr
    pick(config, config.parent / "records", "--session-id", "4")  # a project's own picks are not what lies beside them
    sides = ("--picks", "*:tomopick/4", "--truth", "*:curator/0")
    assert "what pick wrote" not in run("evaluate", config, config.parent, *sides).stderr


def test_cheap_refusals_come_before_a_project_is_opened(tmp_path, monkeypatch):
    place, out = folder(tmp_path / "in", "A"), tmp_path / "out"
    there = tmp_path / "there"
    there.mkdir()
    (there / "x").write_text("mine")

    def opened(*_, **__):
        raise AssertionError("a project was opened")

    import_module("tomopick.picking.fleet")  # what is loaded later would keep the other one
    monkeypatch.setattr("tomopick.data.open_project", opened)
    monkeypatch.setattr("tomopick.scoring.compare.open_project", opened)
    train = ["train", "light", place]
    for line, call in {
        "device 'gpu' cannot be used": ["pick", trained(), place, "--out", out, "--device", "gpu"],
        "metric 'f2' is none of": ["pick", trained(), place, "--out", out, "--metric", "f2"],
        "no model 'nothing'": ["pick", "nothing", place, "--out", out],
        "exists already, and holds no training to go on with; expected a new folder": [*train, there, *SMALL],
        "nothing to resume there": [*train, out, "--resume", *SMALL],
        "has no field 'lrr'": [*train, out, "train.lrr=1"],
        "no model 'none'": [*train, out, "--init-from", "none", *SMALL],
        "nothing is published under the name 'light'": [*train, out, "--as-published"],
        "there: exists already; expected a new name": ["soup", trained(), there, "--project", place],
        "exists already; expected a new name, so": ["ensemble", trained(), there, "--project", place],
        "metric 'f3' is none of": ["evaluate", trained(), place, "--metric", "f3"],
        "metric 'f4' is none of": ["report", trained(), place, "--metric", "f4", "--out", out],
        "metric 'f5' is none of": ["calibrate", trained(), place, "--metric", "f5"],
        "--to x: no such format": ["export", place, out, "--to", "x"],
        "no format 'y'": ["import", "file.star", place, "--from", "y"],
        "there: holds something else": ["simulate", there, "--density", f"ball={__file__}"],
        "there: exists already; expected": ["convert", __file__, "--as", "bpd_released", there],
    }.items():  # fmt: skip
        assert line in refused(*call)
    assert not out.exists() and [path.name for path in there.iterdir()] == ["x"]


def test_pick_options(tmp_path):
    place = folder(tmp_path / "in", "A")
    out = tmp_path / "out"
    counts = {}
    for name, flags in {
        "plain": [], "strict": ["--threshold", "ball=0.9"], "below": ["--threshold", "ball=0.9", "--keep-below"],
        "tta": ["--tta", "flips"], "czii": ["--metric", "czii"], "fitted": ["--offset", "fitted"],
        "heatmaps": ["--save-heatmaps"], "apart": ["peaks.min_distance=4"],
    }.items():  # fmt: skip
        pick(place, out / name, *flags)
        counts[name] = read_picks_csv(out / name / "A.csv")[""]
    assert len(counts["strict"]) < len(counts["plain"]) < len(counts["below"])
    assert len(counts["apart"]) < len(counts["plain"])
    assert not np.array_equal(counts["tta"].positions[:3], counts["plain"].positions[:3])
    shift = load_detector(trained()).facts.displacement
    assert np.any(shift) and np.allclose(counts["fitted"].positions, counts["plain"].positions - shift, atol=2e-3)
    assert (out / "heatmaps" / "heatmaps" / "A_ball_heatmap.mrc").is_file()
    assert len(counts["czii"]) >= len(counts["plain"])


def test_the_czii_offset_is_put_back_in(tmp_path):
    place = folder(tmp_path / "in", "A")
    pick(place, tmp_path / "none")
    pick(place, tmp_path / "czii", "--coordinate-offset", "czii")
    none, czii = (read_picks_csv(tmp_path / name / "A.csv")[""] for name in ("none", "czii"))
    assert np.allclose(czii.positions, none.positions - 5.0, atol=2e-3)  # half a voxel of 10 Å
    # and is taken out where they are read
    write_picks_csv(place / "A.csv", czii)
    assert np.allclose(open_project(place, coordinate_offset="czii").picks("A").positions, none.positions, atol=2e-3)


def test_inverted_contrast_and_other_spacing_are_told(tmp_path):
    volume, _ = tomogram("A", 0)
    write_mrc(tmp_path / "A.mrc", -volume.values, 10.0)
    assert "A: warning: contrast looks inverted" in pick(tmp_path / "A.mrc", tmp_path / "out").stderr
    assert "inverted" not in pick(tmp_path / "A.mrc", tmp_path / "out2", "--invert").stderr
    told = pick(tmp_path / "A.mrc", tmp_path / "out3", "--voxel-spacing", "11").stderr
    assert "voxel spacing 11 Å resampled to the model's 10 Å" in told
    line = no_pick(tmp_path / "A.mrc", tmp_path / "out4", "--voxel-spacing", "41")
    assert "run A: voxel spacing 41 Å" in line and "trained at 10 Å" in line


def test_two_models(tmp_path):
    place = folder(tmp_path / "in", "A")
    out = tmp_path / "out"
    done = run("pick", trained(), trained(BALL, RING), place, "--out", out, "--device", "cpu")
    assert "2 models: equal weights, mean of their thresholds" in done.stderr
    assert "used" not in done.stderr  # they agree on the rest
    assert set(read_picks_csv(out / "A.csv")[""].names) <= {"ball", "ring"}


def test_a_batch_lists_its_failures_at_the_end(tmp_path):
    place = folder(tmp_path / "in", "ABCD")
    data = (place / "B.mrc").read_bytes()
    (place / "B.mrc").write_bytes(data[:3000])
    write_mrc(place / "D.mrc", np.full((24, 64, 48), 3.0, dtype=np.float32), 10.0)
    done = pick(place, tmp_path / "out", code=1)
    assert [line[:2] for line in done.stdout.splitlines()] == ["A:", "C:"]
    end = done.stderr.splitlines()[-3:]
    assert end[0] == "2 of 4 runs failed:"
    assert "B.mrc: truncated: 3000 bytes" in end[1] and "D.mrc: all voxels are 3" in end[2]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.csv")) == ["A.csv", "C.csv"]


def _broken(place, kind):
    """A single file that is no tomogram."""
    volume = tomogram("A", 0)[0].values
    path = place / "A.mrc"
    if kind == "text":
        path.write_text("object,x,y,z\n" * 200)
    elif kind == "truncated":
        write_mrc(path, volume, 10.0)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "no voxel size":
        write_mrc(path, volume, 1.0)
    elif kind == "2D":
        with mrcfile.new(path) as mrc:
            mrc.set_data(volume[0])
            mrc.voxel_size = 10.0
    elif kind == "4D":
        with mrcfile.new(path) as mrc:
            mrc.set_data(np.stack([volume, volume]))
            mrc.voxel_size = 10.0
    elif kind == "stack":
        with mrcfile.new(path) as mrc:
            mrc.set_data(volume)
            mrc.set_image_stack()
            mrc.voxel_size = 10.0
    elif kind == "tilt series":
        path = place / "A.st"
        write_mrc(path, volume, 10.0)
    elif kind == "not rotated":
        write_mrc(path, np.moveaxis(volume, 0, 1)[:, :20], 10.0)
    elif kind == "constant":
        write_mrc(path, np.zeros_like(volume), 10.0)
    elif kind == "NaN":
        write_mrc(path, np.full_like(volume, np.nan), 10.0)
    elif kind == "missing":
        path = place / "B.mrc"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "not an MRC file"),
        ("truncated", "truncated: 5000 bytes, expected"),
        ("no voxel size", "voxel size 1 x 1 x 1 Å in the header, which stands for 'not set'"),
        ("2D", "a single image"),
        ("4D", "a stack of 2 volumes"),
        ("stack", "tilt series or image stack"),
        ("tilt series", "A.st: a tilt series or image stack by its name"),
        ("not rotated", "is thin along y, not z"),
        ("constant", "all voxels are 0"),
        ("NaN", "no voxel is a finite number"),
        ("missing", "there is no such file"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")  # mrcfile's statistics of NaN, while the file is made
def test_a_bad_volume_is_one_line(tmp_path, kind, message):
    path = _broken(tmp_path, kind)
    line = no_pick(path, tmp_path / "out")
    assert message in line and path.name in line


def test_what_cannot_be_picked(tmp_path):
    place = folder(tmp_path / "in", ("TS_1", "TS_2"))
    out = tmp_path / "out"
    assert "no run 'TS_3'" in no_pick(place, out, "--runs", "TS_1,TS_3") and not out.exists()
    assert "did you mean" in no_pick(place, out, "--runs", "TS_3")
    assert "no tomogram type 'wbp'" in no_pick(place, out, "--runs", "TS_1", "--tomo-type", "wbp")
    assert "no model knows 'bal'; did you mean 'ball'" in no_pick(place, out, "--threshold", "bal=0.3")
    assert "device 'gpu' cannot be used" in refused("pick", trained(), place, "--out", out, "--device", "gpu")
    assert "no model 'x'" in refused("pick", "x", place, "--out", out)
    assert "pick needs a MODEL and an INPUT" in refused("pick", place, "--out", out)
    assert "there is no such file or folder" in no_pick(tmp_path / "im", out)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no tomograms" in no_pick(empty, out)
    config = copick(tmp_path / "project", (), objects=(BALL,))
    assert "no runs to pick" in no_pick(config, out)
    assert "defines ring, but the model finds ball" in no_pick(copick(tmp_path / "other", objects=(RING,)), out)
    broken = copy_of(trained(), tmp_path / "broken")
    (broken / "weights.safetensors").unlink()
    assert "weights.safetensors is missing" in refused("pick", broken, place, "--out", out)
    done = run("pick", trained(), place, "--out", out, "--threshold", "ball", code=2)
    assert "'ball' is not object=value" in done.stderr


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_resume_and_fine_tune(tmp_path):
    place, out = folder(tmp_path / "in", "ABC"), tmp_path / "model"
    done = run("train", "light", place, out, "--val-runs", "C", "--device", "cpu", *SMALL)
    assert f"model in {out}" in done.stdout and "| ball | 40 |" in done.stdout
    detector = load_detector(out)
    assert detector.recipe_json["train"]["steps"] == 6 and detector.method.network.widths == (8, 16)
    assert json.loads((out / "recipe.json").read_text())["train"]["steps"] == 6
    assert (out / "training.png").is_file()
    line = refused("train", "light", place, out, "--device", "cpu", *SMALL)
    assert "exists already" in line and "--resume" in line
    done = run("train", "light", place, out, "--val-runs", "C", "--device", "cpu", "--resume", *SMALL)
    assert "resumes at step 6 of 6" in done.stderr
    line = refused("train", "light", place, out, "--val-runs", "C", "--device", "cpu", "--resume", *SMALL, "train.lr=1")
    assert "begun with train.lr=0.001, not 1" in line and "resume with the same recipe" in line
    again = tmp_path / "again"
    done = run("train", "light", place, again, "--val-runs", "C", "--init-from", out, "--device", "cpu", *SMALL)
    assert "heads kept: ball; new: none" in done.stderr
    out3 = tmp_path / "three"
    line = refused("train", "light", place, out3, "--init-from", out, "--device", "cpu", *SMALL, "network.widths=8,8")
    assert "is another than this recipe's" in line and not out3.exists()
    assert "nothing to resume" in refused("train", "light", place, out3, "--resume", "--device", "cpu", *SMALL)


def test_several_projects_each_with_its_own_type(tmp_path):
    first = copick(tmp_path / "one", ("A",), tomo_types=("denoised", "wbp"))
    second = copick(tmp_path / "two", ("X", "Y"), tomo_types=("wbp", "raw"))
    projects = [first, second]
    call = ["--device", "cpu", "--val-runs", "Y", *SMALL]
    more = ["--tomo-type", "denoised", "--tomo-type", "raw", "--picks", "*:curator/0"]
    run("train", "light", *projects, tmp_path / "model", *more, *call)
    facts = load_detector(tmp_path / "model").facts
    assert facts.tomo_types == ("denoised", "raw")
    assert [r.train for r in facts.learned_from] == [("A",), ("X",)]
    assert [r.val for r in facts.learned_from] == [(), ("Y",)]
    three = ["--tomo-type", "a", "--tomo-type", "b", "--tomo-type", "c"]
    line = refused("train", "light", *projects, tmp_path / "m", *three, *call)
    assert "--tomo-type was given 3 times for 2 projects" in line
    line = refused("train", "light", *projects, tmp_path / "m", "--device", "cpu", "--val-runs", "Z", *SMALL)
    assert "no run 'Z'" in line


def test_a_single_labelled_run(tmp_path):
    place = folder(tmp_path / "in", "A", shape=(24, 120, 48), n=24)
    done = run("train", "light", place, tmp_path / "m", "--device", "cpu", *SMALL)
    assert "only one labelled run: y from 96 of 120 is kept for validation" in done.stderr


def test_what_cannot_be_trained(tmp_path):
    place, out = folder(tmp_path / "in", "AB"), tmp_path / "m"

    def line(*more, source=place, recipe="light"):
        found = refused("train", recipe, source, out, "--device", "cpu", *SMALL, *more)
        assert not out.exists()
        return found

    assert "no recipe 'ligth'; did you mean 'light'?" in line(recipe="ligth")
    assert "TrainSpec has no field 'lrr'; did you mean 'lr'?" in line("train.lrr=1")
    assert "every edge must be a multiple of 4" in line("patch.shape=16,16,18")
    assert "no run 'Q'" in line("--train-runs", "Q")
    assert "no object 'bal' in the projects; did you mean 'ball'" in line("--objects", "bal")
    assert "object 'ring' has no picks in the training runs" in line("--object", "ring:60")
    bare = folder(tmp_path / "bare", "AB", objects_json=False)
    assert "object 'ball' has no radius" in line(source=bare)
    unlabelled = folder(tmp_path / "unlabelled", "AB", picks=False)
    assert "no run with picks" in line(source=unlabelled)
    (place / "A.csv").write_text("object,x,y\nball,1,2\n")
    assert "A.csv: line 1: no column z" in line()
    done = refused("train", "light", place, "--device", "cpu")
    assert "train needs at least one PROJECT and the folder OUT" in done
    assert run("train", "light", bare, out, "--object", "ball:40", "--device", "cpu", *SMALL).exit_code == 0


def test_picks_outside(tmp_path):
    place = folder(tmp_path / "in", "AB")
    with (place / "A.csv").open("a") as file:
        file.write("ball,9000,100,100,1\nball,100,100,-50,1\n")
    call = ["train", "light", place, tmp_path / "m", "--val-runs", "B", "--device", "cpu", *SMALL]
    assert "run A: 2 of 16 picks (2 ball) lie outside the volume" in refused(*call)
    assert "2 of 16 picks (2 ball) lie outside the volume and are left out" in run(*call, "--drop-outside").stderr
    truth = folder(tmp_path / "truth", "AB")
    line = refused("evaluate", place / "A.csv", truth, "--runs", "A")
    assert "run A: 2 of 16 picks (2 ball) lie outside the tomogram" in line
    done = run("evaluate", place / "A.csv", truth, "--runs", "A", "--drop-outside", "--json")
    assert json.loads(done.stdout)["dropped_outside"] == 2


# --- evaluate ---------------------------------------------------------------------------------------------------------


def _jittered(run_name, seed, n=12):
    rng = np.random.default_rng(seed)
    truth = tomogram(run_name, seed)[1]
    moved = truth.select(np.arange(n)).shifted(rng.normal(0, 9, 3))
    return type(truth)(run_name, moved.positions, moved.names, rng.random(n)), truth


def test_evaluate_json_is_the_api_to_the_last_digit(tmp_path):
    found, truth = _jittered("A", 0)
    write_picks_csv(tmp_path / "p.csv", found)
    write_picks_csv(tmp_path / "t.csv", truth)
    done = run("evaluate", tmp_path / "p.csv", tmp_path / "t.csv", "--object", "ball:40", "--json")
    data = json.loads(done.stdout)
    read = [{"": read_picks_csv(tmp_path / name)[""]} for name in ("p.csv", "t.csv")]
    assert data["czii"] == czii_score(*read, [BALL]).to_json()
    assert data["matched"] == json.loads(json.dumps(matched_scores(*read, [BALL]).to_json()))
    assert np.isnan(bootstrap_f1(*read, [BALL], rng=np.random.default_rng(0))).all()
    assert data["f1_interval"] == [None, None]  # JSON has no nan, and one run no interval
    assert 0 < data["matched"]["macro_f1"]["0.5"] < 1
    text = run("evaluate", tmp_path / "p.csv", tmp_path / "t.csv", "--object", "ball:40").stdout
    assert "CZII score" in text and "F1@0.5" in text and f"{data['czii']['score']:.4f}" in text
    wide = run("evaluate", tmp_path / "p.csv", tmp_path / "t.csv", "--object", "ball:40", "--json",
               "--distance-multiplier", "0.1", "--beta", "1")  # fmt: skip
    assert json.loads(wide.stdout)["czii"]["score"] < data["czii"]["score"]


def test_evaluate_kaggle_csv(tmp_path):
    rows = ["id,experiment,particle_type,x,y,z"]
    rows += [f"{i},TS_1,ribosome,{1000 * i},500,500" for i in range(4)]
    (tmp_path / "truth.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "picks.csv").write_text("\n".join(rows[:3]) + "\n")
    data = json.loads(run("evaluate", tmp_path / "picks.csv", tmp_path / "truth.csv", "--json").stdout)
    recall = 0.5
    f4 = 17 * recall / (16 + recall)
    assert data["czii"]["objects"]["ribosome"]["fbeta"] == pytest.approx(f4, abs=1e-15)
    assert data["czii"]["score"] == pytest.approx(f4 / 7, abs=1e-15)  # weights of all six: 1, 0, 2, 1, 2, 1
    assert data["matched"]["macro_f1"]["0.5"] == pytest.approx(2 / 3)


def test_evaluate_projects(tmp_path):
    config = copick(tmp_path / "project")
    project = open_project(config)
    for i, name in enumerate("AB"):
        project.write_picks(_jittered(name, i)[0], "me", "1")
    project_of_one = create_copick_project(tmp_path / "extra", [BALL])
    write_run(project_of_one, [tomogram("Z")[0]])
    query = ["--picks", "*:me/1", "--truth", "*:curator/0", "--json"]
    data = json.loads(run("evaluate", config, config, *query).stdout)
    fresh = open_project(config)
    found = {r: fresh.picks(r, "*:me/1") for r in "AB"}
    truth = {r: fresh.picks(r, "*:curator/0") for r in "AB"}
    assert data["czii"] == json.loads(json.dumps(czii_score(found, truth, fresh.objects).to_json()))
    one = json.loads(run("evaluate", config, config, *query, "--runs", "B").stdout)
    assert one["czii"]["runs"] == ["B"]
    assert "several picks of 'ball'; say which with --picks" in refused("evaluate", config, config)
    line = refused("evaluate", config, config, "--picks", "*:you/1", "--truth", "*:curator/0")
    assert "no picks '*:you/1'" in line
    assert "no run 'C'" in refused("evaluate", config, config, *query, "--runs", "C")
    # A run that one side has not labelled is left out.
    project.write_picks(tomogram("A", 0)[1], "second", "0")
    data = json.loads(run("evaluate", config, config, "--picks", "*:me/1", "--truth", "*:second/0", "--json").stdout)
    assert data["czii"]["runs"] == ["A"]


def test_evaluate_the_czii_convention(tmp_path):
    """A table states its positions as the data set's files do, like the project on the other side."""
    config = copick(tmp_path / "project", ("A",))
    stated = open_project(config).picks("A")  # by their files
    write_picks_csv(tmp_path / "A.csv", stated)
    offset = ["--coordinate-offset", "czii", "--distance-multiplier", "0.05", "--json", "--object", "ball:40"]  # 2 Å
    for sides in ((tmp_path / "A.csv", config), (config, tmp_path / "A.csv"), (tmp_path / "A.csv", tmp_path / "A.csv")):
        assert json.loads(run("evaluate", *sides, *offset).stdout)["czii"]["score"] == 1.0
    # What pick writes beside a volume is in the same convention.
    place = folder(tmp_path / "in", "A", picks=False)
    pick(place, tmp_path / "out", "--coordinate-offset", "czii")
    true = open_project(tmp_path / "out", coordinate_offset="czii", voxel_spacing=10.0).picks("A")
    write_picks_csv(place / "A.csv", true)
    data = json.loads(run("evaluate", tmp_path / "out" / "A.csv", place, *offset[2:]).stdout)
    assert data["czii"]["score"] == 0.0  # half a voxel is 8.7 Å
    write_picks_csv(place / "A.csv", open_project(place, coordinate_offset="czii").stated(true))
    assert json.loads(run("evaluate", tmp_path / "out" / "A.csv", place, *offset).stdout)["czii"]["score"] == 1.0


def test_evaluate_folders_of_czii_names(tmp_path):
    rows = "object,x,y,z\n" + "".join(f"ribosome,{1000 * i},500,500\n" for i in range(4))
    for name, n in (("one", 3), ("two", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "A.csv").write_text("\n".join(rows.splitlines()[:n]) + "\n")
    folders = json.loads(run("evaluate", tmp_path / "one", tmp_path / "two", "--json").stdout)
    tables = json.loads(run("evaluate", *(tmp_path / n / "A.csv" for n in ("one", "two")), "--json").stdout)
    assert folders["czii"]["score"] == tables["czii"]["score"] > 0
    assert folders["matched"]["objects"] == tables["matched"]["objects"]


def test_evaluate_beside_a_volume_of_unknown_voxel_size(tmp_path):
    place = folder(tmp_path / "in")
    write_mrc(place / "B.mrc", tomogram("B", 1)[0].values, 1.0)
    done = run("evaluate", place, place, "--json")
    assert json.loads(done.stdout)["czii"]["score"] == 1.0
    assert "warning: run B: whether its picks lie in the tomogram is not known" in done.stderr


def test_what_cannot_be_evaluated(tmp_path):
    found, truth = _jittered("A", 0)
    write_picks_csv(tmp_path / "p.csv", found)
    write_picks_csv(tmp_path / "t.csv", truth)
    both = ["evaluate", tmp_path / "p.csv", tmp_path / "t.csv"]
    assert "object 'ball' has no radius" in refused(*both)
    assert "expected NAME:RADIUS" in refused(*both, "--object", "ball:wide")
    assert "leave it out" in refused(*both, "--object", "ball:40", "--picks", "ball:me/1")
    line = f"--tta flips is for a model that picks, and {tmp_path / 'p.csv'} is picks already; leave it out"
    assert line in refused(*both, "--object", "ball:40", "--tta", "flips")
    page = ("report", tmp_path / "p.csv", folder(tmp_path / "in", "A"), "--out", tmp_path / "r.html")
    assert line in refused(*page, "--tta", "flips")
    (tmp_path / "q.csv").write_text("object,x,y,z\nball,1,2,three\n")
    assert "q.csv: line 2: z is 'three'" in refused("evaluate", tmp_path / "q.csv", tmp_path / "t.csv")
    assert "no.csv" in refused("evaluate", tmp_path / "no.csv", tmp_path / "t.csv")
    (tmp_path / "r.csv").write_text("run,object,x,y,z\nX,ball,1,2,3\n")
    (tmp_path / "s.csv").write_text("run,object,x,y,z\nY,ball,1,2,3\n")
    assert "none in common" in refused("evaluate", tmp_path / "r.csv", tmp_path / "s.csv", "--object", "ball:40")


# --- simulate and demo ------------------------------------------------------------------------------------------------


def test_what_cannot_be_simulated(tmp_path):
    out = tmp_path / "sim"
    assert "--shape '48,96' is not z,y,x" in refused("simulate", out, "--shape", "48,96")
    assert "error" in refused("simulate", out, "--shape", "0,96,96")
    assert "does not fit into (32, 64, 64) voxels" in refused("simulate", out, "--shape", "32,64,64")
    assert "tomogram type" in refused("simulate", out, "--shape", "48,96,96", "--tomo-type", "raw")
    (tmp_path / "x").write_text("mine")
    assert "holds something else" in refused("simulate", tmp_path, "--shape", "48,96,96")
    assert (tmp_path / "x").read_text() == "mine" and not out.exists()


def test_the_demo_spares_what_it_did_not_make(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    line = refused("demo", "--out", tmp_path, "--model", trained())
    assert "holds something that the demo did not make" in line
    assert "no model 'nothing'" in refused("demo", "--out", tmp_path / "new", "--model", "nothing")
    assert not (tmp_path / "new").exists()


def test_the_demo_again_removes_only_its_own(tmp_path):
    made, mine = tmp_path / "project" / "ExperimentRuns" / "SIM_000" / "Picks", tmp_path / "notes" / "mine.txt"
    for path in (tmp_path / ".tomopick-demo", made / "tomopick_0_ribosome.json", made / "me_0_ribosome.json", mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    before = sorted(tmp_path.rglob("*"))
    call = ["demo", "--out", tmp_path, "--model", trained()]
    assert "me_0_ribosome.json: the demo did not make it" in refused(*call)
    (made / "me_0_ribosome.json").unlink()
    before.remove(made / "me_0_ribosome.json")
    for wrong in (["--model", "nothing"], ["--device", "gpu"]):
        refused(*call, *wrong)
    assert run(*call, "--shape", "32,64,64", code=2).stderr.startswith("error: object 'ribosome'")
    assert sorted(tmp_path.rglob("*")) == before and mine.read_text() == "x"
    assert _simulate(tmp_path, (48, 96, 96), 0) == "SIM_000"
    assert mine.read_text() == "x" and not (made / "tomopick_0_ribosome.json").exists()
    assert list(made.glob("simulation_0_*.json")) and not list(tmp_path.glob(".project*"))


@pytest.mark.skipif("default" not in shipped(), reason="no model ships yet (src/tomopick/models/default)")
def test_the_demo(tmp_path):
    out = tmp_path / "demo"
    text = run("demo", "--out", out, "--shape", "64,128,128", "--device", "cpu").output
    assert "CZII score" in text
    assert {"picks.csv", "scores.txt", "sections.png", "project"} <= {p.name for p in out.iterdir()}
    run("demo", "--out", out, "--shape", "64,128,128", "--device", "cpu")


def test_what_has_no_truth_is_not_scored(tmp_path):
    grid = np.arange(12.0).reshape(4, 3) * 300
    write_picks_csv(tmp_path / "truth.csv", Picks("", grid, np.full(4, "ribosome")))
    both = np.concatenate([grid, grid + 50])
    write_picks_csv(tmp_path / "picks.csv", Picks("", both, np.repeat(["ribosome", "thyroglobulin"], 4)))
    done = CliRunner().invoke(main, ["evaluate", str(tmp_path / "picks.csv"), str(tmp_path / "truth.csv"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["czii"]["score"] == 1 and list(found["czii"]["objects"]) == ["ribosome"]
    assert "thyroglobulin has no truth and is not scored" in done.stderr


def test_an_interruption_says_how_to_go_on(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tomopick.cli.demo.run_demo", stop)
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 130
    assert "repeat the command to go on" in done.stderr


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupted_training_says_once_how_to_go_on(tmp_path, monkeypatch, begun):
    place, out = folder(tmp_path / "in", "AB"), tmp_path / "m"

    def stop(*_):
        if begun:
            (out / "recipe.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("tomopick.look.doctor.cheap_findings", stop)
    done = run("train", "light", place, out, "--device", "cpu", *SMALL, code=130)
    line = f"kept in {out}: repeat the command with --resume" if begun else f"before {out} was begun; repeat"
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and line in done.stderr


def test_a_stopped_training_is_one_line(tmp_path):
    place, out = folder(tmp_path / "in", "AB"), tmp_path / "m"
    command = [sys.executable, "-m", "tomopick", "train", "light", place, out, "--val-runs", "B", "--device", "cpu",
               *SMALL, "train.steps=5000", "train.validate_every=2"]  # fmt: skip
    told = []
    with subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True) as running:
        for text in running.stderr:
            told.append(text)
            if text.startswith("step 2 of 5000"):
                running.send_signal(signal.SIGINT)
    assert running.returncode == 130
    (line,) = [text for text in told if "interrupt" in text]
    assert line.startswith("interrupted at step ") and f"of 5000; kept in {out}; `tomopick finish {out}` makes" in line
    assert line.endswith(": repeat the command with --resume to go on\n")


def test_an_unfinished_training_says_so(tmp_path):
    model = copy_of(trained(), tmp_path / "model")
    for name in ("detector.json", "weights.safetensors"):
        (model / name).unlink()
    (model / "last").mkdir()
    done = CliRunner().invoke(main, ["pick", str(model), str(folder(tmp_path / "in")), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "its training is not finished; go on with it: train ... --resume" in done.stderr


def test_quiet_says_only_what_is_wrong(tmp_path):
    place = folder(tmp_path / "tomograms")
    loud = run("pick", trained(), place, "--out", tmp_path / "a", "--device", "cpu")
    quiet = run("-q", "pick", trained(), place, "--out", tmp_path / "b", "--device", "cpu")
    assert "engine: " in loud.stderr and "engine: " not in quiet.stderr
    assert (tmp_path / "a" / "A.csv").read_text() == (tmp_path / "b" / "A.csv").read_text()


def test_several_volumes_are_given_by_their_folder(tmp_path):
    for name in ("t/A.mrc", "t/B.mrc", "t/A.csv", "other/C.mrc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    files = sorted((tmp_path / "t").iterdir())
    said = run("pick", "default", *files, "--out", tmp_path / "o", code=2).stderr
    assert "3 files, where INPUT is one volume or a folder" in said
    assert f"write: tomopick pick default {tmp_path}/t/ --runs A,B" in said
    said = run("pick", "default", files[1], tmp_path / "other" / "C.mrc", "--out", tmp_path / "o", code=2).stderr
    assert "put the volumes, or links to them, into one folder" in said
    assert not (tmp_path / "o").exists()
