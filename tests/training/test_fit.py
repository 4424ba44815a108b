import json
import math
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from small import BALL, RING, memory, recipe, taught, tomogram, trained, untrained
from tomopick import Detector, PickableObject, Runs, Source, fit
from tomopick.core.errors import ModelError, OutputError, RecipeError, SelectionError, TomopickError
from tomopick.core.owners import CLAIM, Owner, began
from tomopick.core.signals import held_interrupt
from tomopick.data import MemoryProject
from tomopick.picking.folder import read_log
from tomopick.picking.load import load_detector
from tomopick.training import checkpoints
from tomopick.training import fit as fitting
from tomopick.training.averaging import RunningAverage
from tomopick.training.checkpoints import cut_log, keep_weights, last_state, save_last
from tomopick.training.dataset import gather
from tomopick.training.fit import finish_early
from tomopick.training.loop import TrainSpec, TrainState
from tomopick.training.pace import MEASURED, Deadline, Pace
from tomopick.training.recipe import Recipe
from tomopick.training.transfer import start_lasts
from trainings import fit_until, losses, options, sources


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight steps without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "model"
    fit(recipe("train.steps=8", "train.validate_every=3"), sources(), out, options())
    return out


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [2, 3, 5])  # before any save, on one, between two
def test_an_interrupted_training_goes_on_to_the_last_bit(whole, tmp_path, step, workers, told):
    method, out = recipe("train.steps=8", "train.validate_every=3"), tmp_path / "model"
    fit_until(step, method, out, workers=workers)
    assert len(losses(out)) == step
    fit(method, sources(), out, options(resume=True, workers=workers))
    assert f"resumes at step {step // 3 * 3} of 8" in told
    assert losses(out) == losses(whole)
    for name in ("weights.safetensors", "best/weights.safetensors", "last/state.safetensors"):
        mine, wanted = load_file(out / name), load_file(whole / name)
        assert mine.keys() == wanted.keys()
        assert all(torch.equal(mine[k], wanted[k]) for k in wanted), name
    assert sorted(p.name for p in (out / "top").iterdir()) == sorted(p.name for p in (whole / "top").iterdir())
    assert Detector.load(out).thresholds == Detector.load(whole).thresholds


def test_resuming_what_is_finished_changes_nothing(whole, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(whole, out)
    again = fit(recipe("train.steps=8", "train.validate_every=3"), sources(), out, options(resume=True))
    assert again.checksum == Detector.load(whole).checksum
    assert losses(out) == losses(whole)


def test_resume_only_with_the_same_recipe_data_and_seed(whole, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(whole, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ModelError, match=r"begun with train.steps=8, not 7; .*\(`tomopick finish .*` ends it now\)"):
        fit(recipe("train.steps=7", "train.validate_every=3"), sources(), out, options(resume=True))
    with pytest.raises(ModelError, match=r"begun with augment.intensity=.*, train.lr=0.001, not 0.5; resume with"):
        lighter = ("train.lr=0.5", "augment.intensity=Blur")
        fit(recipe("train.steps=8", "train.validate_every=3", *lighter), sources(), out, options(resume=True))
    method = recipe("train.steps=8", "train.validate_every=3")
    with pytest.raises(ModelError, match="begun with seed 0, not 1"):
        fit(method, sources(), out, options(resume=True, seed=1))
    with pytest.raises(ModelError, match="begun with runs"):
        fit(method, [Source(memory(), val_runs=["B"])], out, options(resume=True))
    (source,) = sources()
    moved = MemoryProject(source.project.objects)
    for run in source.project.runs():
        picks = source.project.picks(run)
        moved.add(source.project.tomogram(run), replace(picks, positions=picks.positions + 5.0))
    with pytest.raises(ModelError, match=r"begun with labels \d+ picks \(\w+\), not \d+ picks \(\w+\); resume"):
        fit(method, [replace(source, runs=Runs(moved))], out, options(resume=True))
    with pytest.raises(ModelError, match=r"begun with inverted runs none, not \['A'"):
        fit(method, [replace(source, invert=True)], out, options(resume=True))
    with pytest.raises(OutputError, match="exists already"):
        fit(method, sources(), out, options())
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_nothing_to_resume(tmp_path):
    with pytest.raises(OutputError, match="nothing to resume"):
        fit(recipe(), sources(), tmp_path / "model", options(resume=True))
    assert not (tmp_path / "model").exists()


def test_an_empty_folder_is_begun_in_and_a_strange_one_is_refused(tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    with pytest.raises(OutputError, match="nothing to resume there; leave `resume` out"):
        fit(recipe(), sources(), out, options(resume=True))
    fit(recipe("train.steps=1"), sources(), out, options())
    assert not (out / CLAIM).exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    for resume in (False, True):
        with pytest.raises(OutputError, match="holds no training to go on with; expected a new folder"):
            fit(recipe(), sources(), tmp_path / "other", options(resume=resume))


def test_two_trainings_do_not_mix(whole, tmp_path):
    other = json.dumps(asdict(replace(Owner(), pid=os.getppid(), began=began(os.getppid()))))
    for resume in (False, True):
        out = tmp_path / str(resume)
        if resume:
            shutil.copytree(whole, out)
        out.mkdir(exist_ok=True)
        (out / CLAIM).write_text(other)
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        with pytest.raises(OutputError, match=f"another process works in it .process {os.getppid()} on"):
            fit(recipe("train.steps=8", "train.validate_every=3"), sources(), out, options(resume=resume))
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_refused_training_leaves_no_folder(tmp_path):
    with pytest.raises(SelectionError):
        fit(recipe(), sources(), tmp_path / "deep" / "model", options(objects=["nothing"]))
    assert not any(tmp_path.iterdir())
    one_value = recipe("patch.shape=16,16,16", "network.widths=2,2,2,2", "train.batch_size=1")
    with pytest.raises(RecipeError, match="leave a single value at the network's coarsest level"):  # of the first step
        fit(one_value, sources(), tmp_path / "deep" / "model", options())
    assert not any(tmp_path.iterdir())


def test_a_training_that_has_learned_something_stays(tmp_path):
    with pytest.raises(RecipeError, match="the loss is"):
        fit(
            recipe("train.lr=1e30", "train.warmup_steps=0", "train.clip_norm=1e30"), sources(), tmp_path / "m",
            options(),
        )  # fmt: skip
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"recipe.json", "log.jsonl"}


def test_a_damaged_state_is_refused(whole, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(whole, out)
    state = out / "last" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot resume"):
        fit(recipe("train.steps=8", "train.validate_every=3"), sources(), out, options(resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "3"}, "step is '3'; expected a whole number"),
        ({"step": -1}, "a step below 0"),
        ({"stage": None}, "stage is empty; expected text"),
        ({"notes": []}, "notes is a list; expected a table"),
        ({"notes": {"top": [[0.5, "../../evil"]]}}, r"notes.top\[0\]\[1\] is '../../evil'; expected a whole number"),
        ({"notes": {"best": 1}}, "notes.best is 1"),
        ({"notes": {"scores": [float("nan")]}}, "expected a finite number"),
        ({"averages": {"ema": {}}}, "averages.ema: no 'decay' in it"),
        ({"averages": {"other": {"decay": 0.9, "updates": 1, "forgets_start": True}}}, "cannot resume"),
        ({"scaler": 7}, "scaler is 7"),
    ],
)
def test_a_state_of_other_types_is_refused_and_nothing_removed(whole, tmp_path, changes, message):
    out = tmp_path / "deep" / "er" / "model"
    shutil.copytree(whole, out)
    (tmp_path / "evil.safetensors").touch()
    path = out / "last" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        TrainState.start(recipe().network.build(1), TrainSpec(), torch.device("cpu")).load(out / "last")
    assert (tmp_path / "evil.safetensors").exists()


def test_a_state_is_whole_whenever_the_saving_stops(tmp_path):
    state = TrainState.start(torch.nn.Linear(2, 1), TrainSpec(), torch.device("cpu"))
    save_last(state, tmp_path)
    (tmp_path / "last").rename(tmp_path / "last.new")  # cut off between the two renames
    found = last_state(tmp_path)
    assert found == tmp_path / "last"
    state.load(found)
    assert last_state(tmp_path / "elsewhere") is None


def test_the_log_may_end_in_the_middle_of_a_row(tmp_path):
    log = tmp_path / "log.jsonl"
    cut_log(log, 3)  # killed before the first row
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert [r["step"] for r in read_log(log)] == [1, 2]
    cut_log(log, 1)
    assert log.read_text() == '{"step": 1}\n'


def test_learning_rate():
    spec = TrainSpec(steps=110, lr=1.0, warmup_steps=10)
    assert [spec.lr_at(i) for i in range(10)] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert spec.lr_at(60) == pytest.approx(0.5)
    assert spec.lr_at(35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert spec.lr_at(110) == pytest.approx(0)
    falling = [spec.lr_at(i) for i in range(10, 110)]
    assert falling == sorted(falling, reverse=True) and falling[-1] > 0


@pytest.mark.parametrize("forgets", [True, False])
def test_the_running_average_is_the_weighted_mean(forgets):
    network = torch.nn.Linear(1, 1, bias=False)
    average = RunningAverage.of(network, 0.5, forgets)
    value = network.weight.item()
    for n, weight in enumerate([3.0, -1.0, 8.0, 2.0, 5.0, 1.0, 0.0, 9.0, 4.0, 7.0]):
        with torch.no_grad():
            network.weight.fill_(weight)
        average.update(network)
        decay = min(0.5, (1 + n) / (10 + n)) if forgets else 0.5
        value = decay * value + (1 - decay) * weight
    assert float(average.tensors["weight"]) == pytest.approx(value, rel=1e-6)
    assert average.updates == 10


def test_something_is_learned(tmp_path):
    out = taught(tmp_path / "m")
    found = losses(out)
    assert np.mean(found[-5:]) < 0.6 * np.mean(found[:5])
    rows = read_log(out / "log.jsonl")
    assert [r["step"] for r in rows] == list(range(1, 151))
    assert rows[-1]["val_score"] > 0.6  # noise alone gives less than 0.2
    detector = Detector.load(out)
    assert detector.facts.contrast["ball"] < -0.5 and detector.facts.skewness < 0
    assert detector.facts.scores["f1"]["ball"] > 0.6
    known = detector.facts.provenance
    assert known["seed"] == 0 and known["versions"]["torch"] == torch.__version__
    assert detector.facts.learned_from[0].val == ("C",)
    assert "ball" in (out / "README.md").read_text()
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {"recipe.json", "detector.json", "weights.safetensors", "log.jsonl", "README.md"} <= names
    assert {"last/state.json", "last/state.safetensors", "best/weights.safetensors", "top/150.safetensors"} <= names
    assert {n.rsplit(".")[-1] for n in names} <= {"json", "jsonl", "safetensors", "md", "png"}


def test_best_and_top_weights(tmp_path):
    network = torch.nn.Linear(1, 1, bias=False)
    state = TrainState.start(network, TrainSpec(), torch.device("cpu"))
    for step, score in enumerate([0.1, 0.5, 0.3, 0.5, 0.2], 1):
        state.step = step
        state.averages["ema"].tensors["weight"].fill_(step)
        keep_weights(state, score, tmp_path, 2)
    assert sorted(p.stem for p in (tmp_path / "top").iterdir()) == ["2", "4"]
    assert float(load_file(tmp_path / "best" / "weights.safetensors")["weight"]) == 4  # a tie: the later
    assert tuple(state.notes["best"]) == (0.5, 4)
    assert float(load_file(tmp_path / "top" / "2.safetensors")["weight"]) == 2


def _pressed_at(step, number, patch):
    """A signal comes once a step is in the log."""
    keep = checkpoints.append_log

    def press(path, rows, lasting=False):
        keep(path, rows, lasting)
        if any(row["step"] == step for row in rows):
            os.kill(os.getpid(), number)

    patch.setattr(checkpoints, "append_log", press)


def test_ctrl_c_lets_the_step_end_and_is_gone_on_from(whole, tmp_path, monkeypatch, told):
    method, out = recipe("train.steps=8", "train.validate_every=3"), tmp_path / "model"
    with monkeypatch.context() as patch:
        _pressed_at(5, signal.SIGINT, patch)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(
            KeyboardInterrupt, match=f"interrupted at step 5 of 8; kept in {out}; `tomopick finish {out}` makes a model"
        ):
            fit(method, sources(), out, options())
        assert signal.getsignal(signal.SIGINT) is before
    assert not any("interrupted" in line for line in told)  # who catches it says it, once
    fit(method, sources(), out, options(resume=True))
    assert "resumes at step 5 of 8" in told
    assert losses(out) == losses(whole)
    assert Detector.load(out).checksum == Detector.load(whole).checksum


def test_the_log_is_on_the_disk_before_the_state_that_goes_on_from_it(tmp_path, monkeypatch):
    """A power cut would else leave a state whose steps are in no log."""
    from tomopick.training import fit as fitting

    flushed, fsync, save = {}, os.fsync, fitting.save_last

    def note(handle):
        fsync(handle)
        flushed[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def checked(state, out):
        log = (out / "log.jsonl").stat()
        assert flushed.get(log.st_ino) == log.st_size > 0
        save(state, out)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(fitting, "save_last", checked)
    fit(recipe(), sources(), tmp_path / "model", options())


def test_a_second_ctrl_c_ends_at_once():
    with held_interrupt() as pressed:
        assert not pressed()
        os.kill(os.getpid(), signal.SIGINT)
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: held_interrupt().__enter__()()).result() is None


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    with pytest.raises(RecipeError, match=r"the loss is (nan|inf) at step \d+; expected a number: lower train.lr"):
        fit(
            recipe("train.lr=1e30", "train.warmup_steps=0", "train.clip_norm=1e30"),
            sources(),
            tmp_path / "m",
            options(),
        )


# --- starting from another model --------------------------------------------------------------------------------------


def test_heads_of_the_same_objects_are_kept(tmp_path, told):
    objects = (RING, BALL)
    method = recipe("train.steps=1", "train.lr=1e-12", "train.ema_decay=0")
    start = Detector.load(trained())
    made = fit(
        method, [Source(memory(objects=objects), val_runs=["C"])], tmp_path / "m",
        options(init_from=str(trained())),
    )  # fmt: skip
    (line,) = [t for t in told if t.startswith("starts from")]
    assert line.endswith("heads kept: ball; new: ring")
    old, new = start.network.state_dict(), made.network.state_dict()
    assert torch.allclose(new["head.weight"][1], old["head.weight"][0], atol=1e-6)
    assert torch.allclose(new["head.bias"][1], old["head.bias"][0], atol=1e-6)
    body = [k for k in old if k.endswith("weight") and not k.startswith("head")]
    assert all(torch.allclose(new[k], old[k], atol=1e-6) for k in body) and body
    assert made.facts.provenance["init_from"] == str(trained())


@pytest.mark.parametrize(
    ("objects", "stated", "steps"), [((BALL,), "", 3), ((RING, BALL), "", 6), ((BALL,), "train.steps=5", 5)]
)
def test_fewer_steps_where_the_model_knows_all_objects(tmp_path, told, objects, stated, steps):
    train = replace(recipe().train, steps=6, steps_from_model=3, warmup_steps=2)
    method = replace(recipe(), train=train).override([stated] if stated else [])
    source = Source(memory(objects=objects), val_runs=["C"])
    made = fit(method, [source], tmp_path / "m", options(init_from=str(trained())))
    assert len(losses(tmp_path / "m")) == steps
    kept = Recipe.from_json(made.recipe_json).train
    assert (kept.steps, kept.steps_from_model) == (steps, 0)
    assert kept.warmup_steps == (1 if steps == 3 else 2)
    assert any("knows all of these objects: 3 steps in place of 6" in line for line in told) == (steps == 3)
    average = json.loads((tmp_path / "m" / "last" / "state.json").read_text())["averages"]["ema"]
    assert average["forgets_start"] == (RING in objects)
    assert made.facts.provenance["init_from"] == str(trained())


def test_a_start_lasts_where_it_knows_all_objects_and_labels_are_few():
    knows = untrained((BALL, RING))
    assert start_lasts(knows, {"ball": 49, "ring": 1}) and start_lasts(knows, {"ring": 0})
    assert not start_lasts(knows, {"ball": 50, "ring": 1}) and not start_lasts(knows, {"ball": 9, "other": 9})


def test_what_the_start_is_worth_is_said_first_and_compared_last(tmp_path, told):
    spoilt = recipe("train.steps=2", "train.lr=1", "train.warmup_steps=0", "train.ema_decay=0")
    fit(spoilt, sources(), tmp_path / "m", options(init_from=str(trained())))
    (first,) = [i for i, line in enumerate(told) if line.startswith("before the first step: validation F1 ")]
    score = float(told[first].rsplit(" ", 1)[1])
    assert score > 0.5 and first < min(i for i, line in enumerate(told) if line.startswith("step 2 of 2"))
    assert [line for line in told if f"and was {score:.3f} before the first step: the training brought nothing" in line]
    log = read_log(tmp_path / "m" / "log.jsonl")
    assert max(row.get("val_score") or 0.0 for row in log) < score


@pytest.mark.parametrize("start", ["", "new object"])
def test_nothing_is_said_of_a_start_that_knows_nothing(tmp_path, told, start):
    source = Source(memory(objects=(RING, BALL) if start else (BALL,)), val_runs=["C"])
    fit(recipe("train.steps=1"), [source], tmp_path / "m", options(init_from=str(trained()) if start else ""))
    assert not [line for line in told if "before the first step" in line]


def test_from_random_weights_a_training_takes_all_its_steps(tmp_path):
    train = replace(recipe().train, steps=4, steps_from_model=2, warmup_steps=1)
    fit(replace(recipe(), train=train), sources(), tmp_path / "m", options())
    assert len(losses(tmp_path / "m")) == 4


def test_another_network_is_no_start(tmp_path):
    with pytest.raises(ModelError, match="is another than this recipe's; start from a model of the same network"):
        fit(recipe("network.widths=16,16"), sources(), tmp_path / "m", options(init_from=str(trained())))
    assert not (tmp_path / "m").exists()


# --- what is learned from ---------------------------------------------------------------------------------------------


def test_one_labelled_run_is_split_along_y(told):
    project = MemoryProject([BALL])
    project.add(*tomogram("A", shape=(24, 120, 48), n=24))
    data = gather(recipe(), [Source(project)])
    (train,), (val,) = data.train, data.val
    line = "only one labelled run: y from 96 of 120 is kept for validation, 8 voxels before it are left out"
    assert told[0] == line
    assert (train.values.shape[1], val.values.shape[1]) == (88, 24)
    assert val.grid.origin[1] == 960
    assert train.picks.positions[:, 1].max() <= 875 and val.picks.positions[:, 1].min() >= 955
    project = MemoryProject([BALL])
    project.add(*tomogram("A", shape=(32, 28, 96), n=6))
    with pytest.raises(SelectionError, match="run A: 28 voxels in y are too few"):
        gather(recipe(), [Source(project)])


def test_a_fifth_of_the_runs_is_held_back_unless_named(told):
    names = [f"R{i}" for i in range(6)]
    data = gather(recipe(), [Source(memory(names))])
    assert (len(data.train), len(data.val)) == (5, 1) and "validation on R" in told[0]
    data = gather(recipe(), [Source(Runs(memory(names), ["R1"]), val_runs=["R2", "R3"])])
    assert [v.picks.run for v in data.train + data.val] == ["R1", "R2", "R3"]
    with pytest.raises(SelectionError, match="run R1 is named for training and for validation"):
        gather(recipe(), [Source(Runs(memory(names), ["R1"]), val_runs=["R1"])])
    with pytest.raises(SelectionError, match="no run 'R9'; there is R0, R1, R2, R3, R4, R5"):
        gather(recipe(), [Source(Runs(memory(names), ["R9"]))])


def test_runs_that_others_labelled_are_left_out(told):
    project = memory()
    project.write_tomogram(tomogram("D", 3)[0])
    project.add(*tomogram("E", 4), "somebody", "1")
    data = gather(recipe(), [Source(Runs(project, picks="*:truth/0"), val_runs=["C"])])
    assert [v.picks.run for v in data.train] == ["A", "B"]
    assert told[0] == "memory: 2 runs left out, without such picks"
    with pytest.raises(SelectionError, match="no picks '\\*:nobody/0'"):
        gather(recipe(), [Source(Runs(project, picks="*:nobody/0"))])
    project.write_picks(tomogram("A", 0)[1], "second", "0")
    with pytest.raises(SelectionError, match="several picks of 'ball'; say which with `picks`"):
        gather(recipe(), [Source(Runs(project, picks="*:*/0"), val_runs=["C"])])


def test_named_runs_with_picks_of_two_users_are_refused_too():
    project = memory(("A", "B"))
    project.add(*tomogram("C", 2), "second", "0")
    for names, val in ((["A", "C"], ["B"]), (["A", "B"], ["C"]), (None, ["C"])):
        with pytest.raises(SelectionError, match=r"memory: several picks; say which with `picks`: .*second/0"):
            gather(recipe(), [Source(Runs(project, names), val)])
    data = gather(recipe(), [Source(Runs(project, ["A", "C"], picks="*:*/*"), ["B"])])
    assert len(data.train) == 2


def test_projects_of_other_objects_and_spacings_together():
    first, second = memory(("A", "B")), MemoryProject([RING])
    second.add(*tomogram("X", 5, (24, 64, 48), objects=(RING,), spacing=12.0, tomo_type="wbp"))
    data = gather(recipe(), [Source(first, val_runs=["B"]), Source(Runs(second, tomo_type="wbp"), val_runs=[])])
    assert [o.name for o in data.objects] == ["ball", "ring"]
    assert [set(v.known) for v in data.train] == [{"ball"}, {"ring"}]
    assert data.train[1].grid.voxel_spacing == 10 and data.train[1].values.shape == (29, 77, 58)
    assert data.facts.tomo_types == ("denoised", "wbp")
    # The first project may give validation runs alone.
    both = memory(("A", "B"), (BALL, RING))
    data = gather(recipe(), [Source(Runs(both, []), val_runs=["B"]), Source(second, val_runs=[])], ["ring"])
    assert data.voxel_spacing == 12
    with pytest.raises(SelectionError, match="no true ring in what is kept for validation"):
        gather(recipe(), [Source(Runs(first, []), val_runs=["B"]), Source(second, val_runs=[])], ["ring"])


def test_some_of_the_objects(tmp_path):
    chosen = options(objects=["ring"])
    made = fit(recipe(), [Source(memory(objects=(BALL, RING)), val_runs=["C"])], tmp_path / "m", chosen)
    assert [o.name for o in made.objects] == ["ring"] and set(made.facts.scores["f1"]) == {"ring"}


def test_bad_labels():
    with pytest.raises(SelectionError, match=r"object 'ring' has no picks in the training runs.*`FitOptions.objects=b"):
        gather(recipe(), [Source(_with(memory(), (BALL, RING)), val_runs=["C"])])
    with pytest.raises(TomopickError, match=r"object 'ball' has no radius.*`objects=ball:RADIUS`"):
        gather(recipe(), [Source(_with(memory(), (PickableObject("ball", None),)), val_runs=["C"])])
    with pytest.raises(SelectionError, match="no object 'bal' in the projects; did you mean 'ball'"):
        gather(recipe(), sources(), ["bal"])
    empty = MemoryProject([BALL])
    empty.write_tomogram(tomogram()[0])
    with pytest.raises(SelectionError, match="memory: no run with picks"):
        gather(recipe(), [Source(empty)])


def _with(project, objects):
    project.objects = objects
    return project


def test_picks_outside_are_counted_named_and_dropped_only_when_asked(told):
    project = memory(("B", "C"))
    volume, truth = tomogram("A")
    away = truth.select(np.arange(3)).shifted((0, 5000, 0))
    project.add(volume, type(truth).join("A", [truth, away]))
    with pytest.raises(SelectionError, match=r"run A: 3 of 17 picks \(3 ball\) lie outside.*`drop_outside`"):
        gather(recipe(), [Source(project, val_runs=["C"])])
    data = gather(recipe(), [Source(project, val_runs=["C"], drop_outside=True)])
    assert len(data.train[0].picks) == 14
    assert "memory: run A: 3 of 17 picks (3 ball) lie outside the volume and are left out" in told


def test_light_particles_are_told(told):
    project = MemoryProject([BALL])
    for i, run in enumerate("AB"):
        volume, truth = tomogram(run, i)
        project.add(replace(volume, values=-volume.values), truth)
    gather(recipe(), [Source(project, val_runs=["B"])])
    assert any("ball is light on dark at its picks (contrast +" in line for line in told)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    """The write that fails leaves what was there, is one clear line, and the training goes on from the last save."""
    import errno

    method, out = recipe("train.steps=6", "train.validate_every=3"), tmp_path / "m"
    fit_until(4, method, out)
    saved = json.loads((out / "last" / "state.json").read_text())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="cannot be written \\(No space left on device\\)"):
            fit(method, sources(), out, options(resume=True))
    assert json.loads((out / "last" / "state.json").read_text()) == saved
    assert not list(out.rglob("*.part"))
    fit(method, sources(), out, options(resume=True))
    assert len(losses(out)) == 6


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"clip_norm": 0.0}, "train.clip_norm is 0; it must be a positive number"),
        ({"clip_norm": -1.0}, "train.clip_norm is -1; it must be a positive number"),
        ({"weight_decay": float("nan")}, "train.weight_decay is nan and train.warmup_steps 100"),
        ({"warmup_steps": -5}, "train.weight_decay is 0.01 and train.warmup_steps -5; neither may be below 0"),
    ],
)
def test_impossible_trainings(wrong, line):
    with pytest.raises(RecipeError, match="^" + line):
        TrainSpec(**wrong)


# ------------------------------------------------------------------------------------------ time, and an early end
def test_an_interrupted_training_has_a_usable_model(tmp_path, caplog):
    method, out = recipe("train.steps=8", "train.validate_every=3"), tmp_path / "model"
    fit_until(4, method, out)
    with caplog.at_level("WARNING", "tomopick"):
        found = load_detector(out)
    assert "its best so far, of step 3" in caplog.text and found.facts.provenance["step"] == 3
    kept = load_file(out / "top" / "3.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in found.network.state_dict().items())
    assert load_detector(out / "best").thresholds == found.thresholds
    done = finish_early(out)
    assert load_detector(out).checksum == done.checksum and (out / "README.md").is_file()
    assert all(torch.equal(kept[k], v) for k, v in load_detector(out).network.state_dict().items())
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert finish_early(out).checksum == done.checksum  # who was cut off may repeat it
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("judged", [True, False])
def test_an_interruption_before_the_first_validation_leaves_a_usable_model_too(whole, tmp_path, judged, monkeypatch):
    method, out = recipe("train.steps=8", "train.validate_every=3"), tmp_path / "model"
    given = sources() if judged else [replace(source, val_runs=()) for source in sources()]
    with monkeypatch.context() as patch:
        _pressed_at(2, signal.SIGTERM, patch)
        with pytest.raises(KeyboardInterrupt, match=r"interrupted at step 2 of 8; .* makes a model of its best so far"):
            fit(method, given, out, options())
    found = load_detector(out / "best")
    assert found.facts.provenance["step"] == 2 and (found.facts.scores != {}) is judged
    shutil.copytree(out, tmp_path / "ended")
    assert finish_early(tmp_path / "ended").thresholds == found.thresholds
    fit(method, given, out, options(resume=True))
    if judged:  # as if nothing had been validated there
        assert losses(out) == losses(whole)
        assert Detector.load(out).checksum == Detector.load(whole).checksum


def test_top_is_its_best(whole, tmp_path):
    assert load_detector(whole / "top").thresholds == load_detector(whole).thresholds
    fit_until(4, recipe("train.steps=8", "train.validate_every=3"), tmp_path / "m")
    assert load_detector(tmp_path / "m" / "top").checksum == load_detector(tmp_path / "m" / "best").checksum
    (tmp_path / "top").mkdir()
    with pytest.raises(ModelError):
        load_detector(tmp_path / "top")


def test_nothing_to_finish(tmp_path):
    fit_until(2, recipe("train.steps=8", "train.validate_every=3"), tmp_path / "model")
    with pytest.raises(ModelError, match="no training with a validation behind it"):
        finish_early(tmp_path / "model")


def test_a_training_goes_on_longer_than_it_was_begun_for(tmp_path, caplog):
    out = tmp_path / "model"
    fit(recipe("train.steps=4", "train.validate_every=2"), sources(), out, options())
    with caplog.at_level("INFO", "tomopick"):
        fit(recipe("train.steps=6", "train.validate_every=2"), sources(), out, options(resume=True))
    assert "goes on to step 6, not 4" in caplog.text and len(losses(out)) == 6
    assert json.loads((out / "recipe.json").read_text())["train"]["steps"] == 6
    with pytest.raises(ModelError, match=r"begun with train\.steps=6, not 5"):
        fit(recipe("train.steps=5", "train.validate_every=2"), sources(), out, options(resume=True))


def test_it_ends_where_nothing_gets_better(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr(fitting, "validate", lambda detector, state, data, *_: (next(scores), {}, detector))
    out = tmp_path / "model"
    fit(recipe("train.steps=20", "train.validate_every=2"), sources(), out, options(patience=2))
    assert len(losses(out)) == 6


def test_steps_fit_the_minutes(tmp_path, caplog):
    out = tmp_path / "model"
    method = recipe("train.steps=100000", "train.warmup_steps=500")
    with caplog.at_level("INFO", "tomopick"):
        fit(method, sources(), out, options(minutes=0.05))
    steps = json.loads((out / "recipe.json").read_text())["train"]["steps"]
    assert MEASURED < steps < 5000 and len(losses(out)) == steps
    assert json.loads((out / "recipe.json").read_text())["train"]["warmup_steps"] == -(-steps // 10)
    assert f"{steps} steps fit the time" in caplog.text and load_detector(out).objects[0].name == "ball"


def test_the_end_is_met_where_the_pace_changes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tomopick.training.pace.time.monotonic", lambda: now[0])
    spec = TrainSpec(steps=890)  # of a second each, fifteen minutes
    watched, step, asked = Deadline(900.0, 0), 0, 0
    while step < spec.steps:
        step += 1
        now[0] += 2.0 if 100 < step < 200 else 0.5 if step >= 400 else 1.0
        if watched.missed(spec.steps, step):
            spec, asked = watched.fitted(spec, step), asked + 1
    assert 900 - 120 < now[0] <= 900 and 2 <= asked < 8
    steady, step = Deadline(now[0] + 900, 0), 0
    while step < 810:
        step += 1
        now[0] += 1.0
        assert not steady.missed(810, step)


def test_steps_are_fitted_anew_where_the_pace_changes(tmp_path, monkeypatch, caplog):
    spec = recipe("train.steps=100000")
    monkeypatch.setattr(fitting, "fitted", lambda train, *_: replace(train, steps=30))
    monkeypatch.setattr(Deadline, "missed", lambda self, steps, step: steps == 30 and step == 20)
    monkeypatch.setattr(Deadline, "fitted", lambda self, train, step: replace(train, steps=step + 4))
    fit(spec, sources(), tmp_path / "model", options(minutes=10))
    assert len(losses(tmp_path / "model")) == 24
    assert json.loads((tmp_path / "model" / "recipe.json").read_text())["train"]["steps"] == 24
    assert load_detector(tmp_path / "model").recipe_json["train"]["steps"] == 24


def test_validations_come_soon_and_take_a_tenth_of_the_time():
    state = TrainState.__new__(TrainState)
    state.notes = {}
    pace = Pace(state, TrainSpec(steps=8000))
    pace._seconds = [9.0, 9.0] + [0.5] * 8
    assert not pace.due(10) and state.notes["due"] == 240  # two minutes of half a second
    assert pace.due(240)
    pace.validated(240, seconds=54.0)
    assert state.notes["due"] == 240 + 972 and pace.due(8000)  # 54 s after 486 s of steps
    short = Pace(state, TrainSpec(steps=80))
    state.notes = {}
    short._seconds = [0.5] * 10
    assert [step for step in range(10, 81) if short.due(step) and (short.validated(step, 0.01) or True)] == [
        *range(10, 81, 10)
    ]


def test_what_is_said_before_and_behind_the_first_steps(tmp_path, caplog):
    with caplog.at_level("INFO", "tomopick"):
        fit(recipe("train.steps=12", "train.warmup_steps=5"), sources(), tmp_path / "model", options())
    assert "12 steps of 2 patches of 16x16x16 voxels; learns from 28 ball in 2 volumes; " in caplog.text
    assert "the warm-up of 5 steps is more than a tenth of 12" in caplog.text
    assert " s a step: about " in caplog.text and " GB of memory so far" in caplog.text


def test_a_picture_is_drawn_at_each_validation(tmp_path):
    drawn = []
    fit(recipe("train.steps=4", "train.validate_every=2"), sources(), tmp_path / "model",
        options(draw=lambda rows, path: drawn.append((len(rows), path.name))))  # fmt: skip
    assert drawn == [(2, "training.png"), (4, "training.png")]


def test_what_is_replaced_is_never_half_there(tmp_path, monkeypatch):
    for name, text in (("last", "old"), ("last.new", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text(text)
    seen = []
    monkeypatch.setattr(checkpoints, "remove", lambda part: seen.append((tmp_path / "last" / "state.json").read_text()))
    checkpoints._take_place(tmp_path / "last.new", tmp_path / "last")
    assert seen == ["new"] and not (tmp_path / "last.new").exists()  # whole before anything is removed
    assert last_state(tmp_path) == tmp_path / "last"
