"""The main job, small: simulate, train briefly, pick a run nobody saw, evaluate, and pick again."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from click.testing import CliRunner

from tomopick import open_project
from tomopick.cli import main
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data import create_copick_project, write_run
from tomopick.simulation import czii_spec, simulate
from tomopick.simulation import workers as simulation

torch.set_num_threads(1)

FLOOR = 0.6  # F1 of ribosomes at half a radius: 0.89 to 1.0 over four seeds; picks at random places get below 0.1
RECIPE = [
    *("network.widths=16,32", "patch.shape=32,32,32", "target.sigma_factor=0.4", "tiling.shape=64,128,128"),
    *("train.steps=300", "train.batch_size=4", "train.lr=5e-3", "train.warmup_steps=10", "train.ema_decay=0.95"),
    "train.validate_every=300",
]


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_from_nothing_to_scores(tmp_path):
    model, records, config = tmp_path / "model", tmp_path / "records", tmp_path / "sim" / "copick.json"
    crowded = czii_spec((64, 128, 128))
    specimen = replace(crowded.specimen, crowding=(12.0, 12.0), distractors=(5.0, 10.0))
    project = create_copick_project(config.parent, CZII_OBJECTS)
    for name in "ABC":
        made = simulate(replace(crowded, specimen=specimen), CZII_OBJECTS, run=name, seed=1)
        write_run(project, list(made.tomograms.values()), made.picks, "simulation", "0")
    learn = ["--objects", "ribosome,virus-like-particle", "--train-runs", "A", "--val-runs", "B"]
    run("train", "light", config, model, *learn, "--picks", "*:simulation/0", "--device", "cpu", *RECIPE)
    pick = ["pick", model, config, "--out", records, "--runs", "C", "--device", "cpu"]
    assert run(*pick).stdout.startswith("C: ")
    query = ["--picks", "*:tomopick/1", "--truth", "*:simulation/0", "--runs", "C", "--json"]
    scores = json.loads(run("evaluate", config, config, *query).stdout)
    found = scores["matched"]["objects"]["ribosome"]["at"]["0.5"]
    assert found["references"] == 10 and found["f1"] > FLOOR, found
    picks = open_project(config).picks("C", "*:tomopick/1")
    assert run(*pick).stdout.rstrip().endswith("(finished before)")
    assert len(open_project(config).picks("C", "*:tomopick/1")) == len(picks)


def test_simulate_goes_on_where_it_stopped(tmp_path):
    call = [
        "simulate",
        tmp_path / "sim",
        "--shape",
        "48,96,96",
        "--tomo-type",
        "denoised",
        "--seed",
        "4",
        "--preset",
        "varied",
    ]
    assert run(*call).stdout == f"1 run in {tmp_path / 'sim' / 'copick.json'}\n"
    first = open_project(tmp_path / "sim").tomogram("SIM_000").values
    run(*call, "--runs", "2")
    project = open_project(tmp_path / "sim")
    assert project.runs() == ["SIM_000", "SIM_001"]
    assert (project.tomogram("SIM_000").values == first).all()
    assert (project.tomogram("SIM_001").values != first).any()
    other = CliRunner().invoke(main, [*map(str, call[:-2]), "--preset", "czii"])
    assert other.exit_code == 2 and "was simulated with other arguments" in other.stderr


def test_finished_runs_do_not_pile_up(monkeypatch):
    """What waits to be written is bounded by the number of workers, and comes in order."""
    begun = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, workers, mp_context, initializer, initargs):
            super().__init__(workers, initializer=initializer, initargs=initargs)

    monkeypatch.setattr(simulation, "ProcessPoolExecutor", Threads)
    jobs = [lambda tell, i=i: tell(f"run {i}") or begun.append(i) or i for i in range(12)]
    taken, told = [], []
    for result in simulation.results(jobs, 3, told.append):
        taken.append(result)
        assert len(begun) <= len(taken) + 3
    assert taken == list(range(12)) and sorted(told) == sorted(f"run {i}" for i in range(12))


def test_workers_change_nothing(tmp_path):
    call = ["--shape", "48,96,96", "--tomo-type", "denoised", "--seed", "4", "--runs", "3"]
    for n in (1, 2):
        run("simulate", tmp_path / str(n), *call, "--workers", n)
    one, two = (open_project(tmp_path / str(n)) for n in (1, 2))
    assert one.runs() == two.runs() == ["SIM_000", "SIM_001", "SIM_002"]
    for name in one.runs():
        assert (one.tomogram(name).values == two.tomogram(name).values).all()
