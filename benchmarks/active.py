"""Pick, look, correct, train again: how many corrections bring a weak model to what full labels bring it to.

    python benchmarks/active.py OUT --data simulated [--arms doubt,random,score,full] [--rounds 3] [--steps 80]
    python benchmarks/active.py OUT --data real --volume X.mrc --picks X.csv [--start MODEL]
    python benchmarks/active.py OUT --data simulated --picture docs/loop.jpg

A weak model is taught for a short time on small simulated runs that are not like the data, with the simulator's own
density of the object; or it is `--start`, such as one from a map alone (`train --from-map`), of one object. Then, round
after round: it picks the tomograms to learn from; an oracle says of 50 candidates (`--number`) whether they are
particles; what it said and what the model is sure of goes into tables, as in `curate`; and the model goes on learning
from these (`light`, from the last round's weights). Which 50:

doubt   those whose scores lie nearest to the threshold, as `suggest` names them
random  any candidates
score   the best ones first
full    no oracle: all true picks of these tomograms, for as many steps; what the others are measured against

--unlabelled says what places count as on which nothing was said (`loss.unlabelled`, docs/training.md).

Nothing is undone between rounds: the folders of decisions follow each other as `suggest --decided` and `curate
--decided` make them. F1 at half a radius, at the model's own thresholds, on tomograms (or the half of one) that no
round has seen. OUT/rows.json has a line an arm, seed and round; a repeated call goes on behind them. `--picture` draws
what is there: a section with the picks before and after, and F1 against corrections.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from kept_runs import labelled_volume
from tomopick import FitOptions, PickableObject, Picks, Project, Runs, Source, Tomogram, fit, open_project
from tomopick.core.presets import CZII_OBJECTS
from tomopick.data import MemoryProject, write_mrc, write_picks_csv
from tomopick.data.objects import write_objects
from tomopick.data.tables import read_picks_csv
from tomopick.look.curation.begin import begin
from tomopick.look.curation.desk import Desk
from tomopick.look.page.gather import ReportOptions
from tomopick.look.suggest import Suggestions, suggest
from tomopick.picking.load import load_detector
from tomopick.picking.picker import PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import matched_scores
from tomopick.simulation import simulate
from tomopick.simulation.run import SimulationSpec

WEAK_SEED, LEARN_SEED, TEST_SEED = 21_000_000, 22_000_000, 23_000_000
ARMS = ("doubt", "random", "score", "full")


@dataclass(frozen=True)
class Plan:
    """Sizes.

    Attributes:
        shape: of simulated tomograms (z, y, x) [voxels].
        learn, test: how many of them are learned from, and scored.
        weak_steps: of the weak model's training.
        overrides: of the recipe.
        simulated: the object of the simulated runs.
    """

    shape: tuple[int, int, int] = (56, 208, 208)
    learn: int = 4
    test: int = 3
    weak_steps: int = 60
    overrides: tuple[str, ...] = ("patch.shape=48,64,64", "train.batch_size=4")
    simulated: str = "ribosome"


QUICK_NET = ("train.batch_size=4", "patch.shape=16,32,32", "network.widths=8,16,16", "train.ema_decay=0.9")
QUICK = Plan((32, 80, 80), 2, 1, 60, QUICK_NET, "apo-ferritin")


@dataclass(frozen=True)
class Data:
    """What is learned from and what is scored.

    Attributes:
        obj: the particle.
        place: folder of the tomograms to learn from.
        truth: by run of them, all picks.
        test: tomograms and picks that are scored.
    """

    obj: PickableObject
    place: Path
    truth: dict[str, Picks]
    test: list[tuple[Tomogram, Picks]]


def named(name: str) -> PickableObject:
    return next(o for o in CZII_OBJECTS if o.name == name)


def simulated_run(spec: SimulationSpec, obj: PickableObject, run: str, seed: int) -> tuple[Tomogram, Picks]:
    """A tomogram and the picks of one object in it."""
    depth = spec.shape[0] * spec.voxel_spacing[0]
    fit_in = [o for o in CZII_OBJECTS if 2.2 * o.radius_angstrom + 50 < depth]
    made = simulate(spec, fit_in, run=run, seed=seed)
    (tomogram,) = made.tomograms.values()
    return tomogram, made.picks.of(obj.name)


def in_cell_like(plan: Plan) -> SimulationSpec:
    """Crowded with other proteins, membranes and what is too small to be seen; many of one object."""
    spec = SimulationSpec(plan.shape, voxel_spacing=(10.0, 10.0))
    copies = tuple((o.name, (1000.0, 1400.0) if o.name == plan.simulated else (100.0, 300.0)) for o in CZII_OBJECTS)
    specimen = replace(
        spec.specimen, thickness=(450.0, 540.0), copies=copies, crowding=(1.0, 1.0), dominance=0.0, barren=(0.0, 0.2),
        distractors=(1500.0, 2500.0), background=(30.0, 60.0), membranes=(40.0, 80.0), gold=(0.0, 20.0), carbon=0.0,
    )  # fmt: skip
    return replace(spec, specimen=specimen)


def simulated(out: Path, plan: Plan) -> Data:
    """In-cell-like runs, made once."""
    obj, spec, place = named(plan.simulated), in_cell_like(plan), out / "learn"
    if not (place / "objects.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        for i in range(plan.learn):
            tomogram, picks = simulated_run(spec, obj, f"L{i}", LEARN_SEED + i)
            write_mrc(place / f"L{i}.mrc", tomogram.values, tomogram.grid)
            write_picks_csv(out / "truth" / f"L{i}.csv", picks)
        write_objects(place / "objects.json", [obj])
    truth = {f"L{i}": read_picks_csv(out / "truth" / f"L{i}.csv")[""] for i in range(plan.learn)}
    test = [simulated_run(spec, obj, f"T{i}", TEST_SEED + i) for i in range(plan.test)]
    return Data(obj, place, {run: replace(p, run=run) for run, p in truth.items()}, test)


def real(out: Path, volume: Path, table: Path, name: str) -> Data:
    """One tomogram: its low-y half is learned from, the other is scored."""
    obj = replace(named("apo-ferritin"), name=name)
    whole, picks = labelled_volume(volume, table, obj.name, "A")
    z, y, x = whole.grid.shape
    low, high = whole.crop((0, 0, 0), (z, y // 2, x), "A"), whole.crop((0, y // 2, 0), (z, y - y // 2, x), "T")
    place = out / "learn"
    if not (place / "objects.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_mrc(place / "A.mrc", low.values, low.grid)
        write_objects(place / "objects.json", [obj])
    inside = picks.select(high.grid.contains(picks.positions))
    truth = picks.select(low.grid.contains(picks.positions))
    return Data(obj, place, {"A": truth}, [(high, Picks("T", inside.positions, inside.names))])


def weak_model(out: Path, obj: PickableObject, plan: Plan, args: argparse.Namespace) -> Path:
    """A model that has seen two thin and nearly empty simulated runs, for a short time."""
    model = args.start or out / "weak"
    if not (model / "detector.json").is_file():
        shutil.rmtree(model, ignore_errors=True)
        spec = SimulationSpec(plan.shape, voxel_spacing=(10.0, 10.0))
        copies = tuple((o.name, (900.0, 900.0) if o.name == obj.name else (0.0, 0.0)) for o in CZII_OBJECTS)
        specimen = replace(
            spec.specimen, copies=copies, crowding=(1.0, 1.0), dominance=0.0, distractors=(0.0, 0.0),
            background=(0.0, 0.0), membranes=(0.0, 0.0), gold=(0.0, 0.0), frost=(0.0, 0.0), carbon=0.0,
        )  # fmt: skip
        project = MemoryProject([obj])
        for i in range(2):
            tomogram, picks = simulated_run(replace(spec, specimen=specimen), obj, f"W{i}", WEAK_SEED + i)
            project.add(tomogram, Picks(f"W{i}", picks.positions, picks.names))
        recipe = get("light").override([*plan.overrides, *steps_of(plan.weak_steps), "train.lr=2e-3"])
        fit(recipe, [Source(Runs(project), val_runs=["W1"])], model, FitOptions(args.device))
    return model


def steps_of(n: int) -> tuple[str, str]:
    """A short training's settings."""
    return f"train.steps={n}", f"train.warmup_steps={max(1, n // 10)}"


def scored(model: Path, data: Data, device: str) -> dict[str, float]:
    """F1 and what it is made of, at half a radius."""
    detector = load_detector(str(model))
    found = {t.run: detector.pick(t, options=PickOptions(device=device)).picks.of(data.obj.name) for t, _ in data.test}
    truth = {t.run: p for t, p in data.test}
    counts = matched_scores(found, truth, [data.obj]).objects[data.obj.name][0]
    return {"f1": counts.fbeta, "precision": counts.precision, "recall": counts.recall}


def asked(arm: str, desk: Desk, found: Suggestions, n: int, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """The (run, number) of `n` candidates that the oracle is asked about, of those on which nothing was said."""
    open_ = [(run, i, e) for run in desk.runs() for i, e in enumerate(desk.journal(run).entries) if e.state is None]
    if arm == "doubt":  # what `suggest` names, where the desk has it
        trees = {run: cKDTree([e.position for r, _, e in open_ if r == run]) for run in {r for r, _, _ in open_}}
        numbers = {run: [i for r, i, _ in open_ if r == run] for run in trees}
        for row in found.rows():
            _, k = trees[row["run"]].query([row["z"], row["y"], row["x"]])
            yield row["run"], numbers[row["run"]][int(k)]
        return
    order = rng.permutation(len(open_)) if arm == "random" else np.argsort([-(e.score or 0.0) for *_, e in open_])
    yield from (open_[int(k)][:2] for k in order[:n])


def corrected(arm: str, model: Path, data: Data, where: Path, last: Path | None, args: argparse.Namespace) -> Path:
    """A round's folder of decisions: those of the last one, and the oracle's on 50 more."""
    out, project = where / "curated", open_project(data.place)
    rng = np.random.default_rng((args.seed, len(where.parts), sum(map(ord, where.name))))
    found = suggest(str(model), Runs(project, list(data.truth)), args.number, "f1", args.device, last)
    found.write(where / "next")
    opening = {"voxel_spacing": None, "objects": (), "coordinate_offset": "none"}
    desk, _ = begin(str(where / "next"), Runs(project), opening, ReportOptions(), None, "oracle", None, out, last)
    try:
        said: dict[tuple[str, str], list[int]] = {}
        for run, i in asked(arm, desk, found, args.number, rng):
            away = np.linalg.norm(data.truth[run].positions - desk.journal(run).entries[i].position, axis=1)
            state = "accepted" if away.min() <= 0.5 * data.obj.radius_angstrom else "rejected"
            said.setdefault((run, state), []).append(i)
        for (run, state), ids in said.items():
            desk.act(run, {"op": "set", "ids": ids, "state": state})
        for run in desk.runs():  # of a tomogram that nobody was asked about the thresholds decide
            desk.act(run, {"op": "done", "value": True})
    finally:
        desk.close()
    return out


def labelled(data: Data, where: Path) -> Path:
    """The folder of a full labelling."""
    where.mkdir(parents=True, exist_ok=True)
    for run, picks in data.truth.items():
        (where / f"{run}.mrc").unlink(missing_ok=True)
        (where / f"{run}.mrc").symlink_to((data.place / f"{run}.mrc").resolve())
        write_picks_csv(where / f"{run}.csv", picks)
    return where


def taught(project: Project, start: Path, out: Path, settings: Sequence[str], args: argparse.Namespace) -> Path:
    """The model that goes on from `start`."""
    shutil.rmtree(out, ignore_errors=True)
    recipe = get("light").override([*settings, *steps_of(args.steps), "train.lr=1e-3"])
    fit(recipe, [Source(Runs(project))], out, FitOptions(args.device, args.seed, init_from=str(start)))
    return out


def arm_of(arm: str, data: Data, weak: Path, rows: list[dict], plan: Plan, args: argparse.Namespace) -> None:
    """Round after round of an arm, behind those that are there."""
    objects = (f"{data.obj.name}:{data.obj.radius_angstrom:g}",)
    model, last = weak, None
    for k in range(1, args.rounds + 1):
        where = args.out / f"{arm}-{args.seed}" / str(k)
        there = any((r["arm"], r["seed"], r["round"]) == (arm, args.seed, k) for r in rows)
        if not there:
            began = time.monotonic()
            shutil.rmtree(where, ignore_errors=True)
            full = arm == "full"
            place = labelled(data, where / "full") if full else corrected(arm, model, data, where, last, args)
            settings = [*plan.overrides, *(() if full else (f"loss.unlabelled={args.unlabelled}",))]
            made = taught(open_project(place, objects=objects), model, where / "model", settings, args)
            row = {"arm": arm, "seed": args.seed, "round": k, "asked": 0 if full else k * args.number}
            note(rows, {**row, **scored(made, data, args.device), "seconds": round(time.monotonic() - began)}, args)
        model, last = where / "model", where / "curated"


def note(rows: list[dict], row: dict, args: argparse.Namespace) -> None:
    """A line more, on disk too."""
    rows.append(row)
    print(json.dumps(row), flush=True)
    (args.out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")


def table(rows: Sequence[dict]) -> str:
    """F1 by arm and round, the mean over seeds."""
    arms = [a for a in ("weak", *ARMS) if any(r["arm"] == a for r in rows)]
    last = max(r["round"] for r in rows)
    lines = [
        "| order | " + " | ".join(f"round {k}" for k in range(last + 1)) + " |",
        "|---" + "|--:" * (last + 1) + "|",
    ]
    start = np.mean([r["f1"] for r in rows if r["arm"] == "weak"])
    for arm in arms[1:]:
        f1 = [[r["f1"] for r in rows if (r["arm"], r["round"]) == (arm, k)] for k in range(1, last + 1)]
        lines.append(f"| {arm} | {start:.3f} | " + " | ".join(f"{np.mean(v):.3f}" if v else "" for v in f1) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[dict], data: Data, models: dict[str, Path], args: argparse.Namespace) -> None:
    """A section of a test tomogram with each model's picks, and the table as curves."""
    from matplotlib.figure import Figure

    tomogram, truth = data.test[0]
    spacing, radius = tomogram.grid.voxel_spacing, data.obj.radius_angstrom
    depths = truth.positions[:, 0]
    z = float(depths[np.argmax([(np.abs(depths - d) < 0.5 * radius).sum() for d in depths])])
    k = round((z - tomogram.grid.origin[0]) / spacing)
    grey = tomogram.values[max(0, k - 1) : k + 2].mean(axis=0)
    low, high = np.percentile(grey, (1, 99.5))
    figure = Figure(figsize=(13, 4.6), dpi=100, layout="constrained")
    for column, (title, model) in enumerate(models.items()):
        options = PickOptions(device=args.device)
        picks = load_detector(str(model)).pick(tomogram, options=options).picks.of(data.obj.name)
        axes = figure.add_subplot(1, 3, column + 1)
        axes.imshow(grey, cmap="gray", vmin=low, vmax=high)
        axes.set_title(f"{title}: green right, red wrong, dashed missed", fontsize=9)
        axes.set_axis_off()
        for mine, other, hit, miss in ((picks, truth, "lime", "red"), (truth, picks, None, "yellow")):
            tree = cKDTree(other.positions) if len(other) else None
            for at in mine.positions[np.abs(mine.positions[:, 0] - z) < 0.8 * radius]:
                near = tree is not None and tree.query(at)[0] <= 0.5 * radius
                if (color := hit if near else miss) is None:
                    continue
                y, x = (at[1:] - np.array(tomogram.grid.origin[1:])) / spacing
                size = np.sqrt(radius**2 - (at[0] - z) ** 2) / spacing
                turn = np.linspace(0, 2 * np.pi, 60)
                style = "--" if mine is truth else "-"
                axes.plot(x + size * np.cos(turn), y + size * np.sin(turn), style, color=color, linewidth=1.2)
    axes = figure.add_subplot(1, 3, 3, xlabel="picks that were looked at", ylabel="F1 at half a radius")
    start = next(r["f1"] for r in rows if r["arm"] == "weak")
    for arm in ("doubt", "random", "score"):
        mine = sorted((r["asked"], r["f1"]) for r in rows if r["arm"] == arm and r["seed"] == 0)
        if mine:
            axes.plot(*zip((0, start), *mine), "o-", label=f"in order of {arm}" if arm != "random" else "at random")
    if full := [r["f1"] for r in rows if r["arm"] == "full"]:
        axes.axhline(max(full), color="0.4", linestyle=":", label="all labels")
    axes.legend(frameon=False)
    figure.savefig(args.picture, pil_kwargs={"quality": 80})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="simulated", choices=("simulated", "real"))
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--picks", type=Path)
    parser.add_argument("--start", type=Path, help="a model of one object to begin with, in place of the weak one")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--number", type=int, default=50, help="candidates that the oracle is asked about in a round")
    parser.add_argument("--steps", type=int, default=80, help="of each training")
    parser.add_argument("--unlabelled", default="ignore", choices=("negative", "ignore", "pu"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--picture", type=Path, help="draw what was measured, and measure nothing")
    parser.add_argument("--quick", action="store_true", help="a round of each arm on tiny runs; says nothing")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    plan = Plan()
    if args.quick:
        plan, args.rounds, args.number, args.steps, args.device = QUICK, 1, 30, 4, "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "rows.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else []
    name = load_detector(str(args.start)).objects[0].name if args.start else "apo-ferritin"
    data = simulated(args.out, plan) if args.data == "simulated" else real(args.out, args.volume, args.picks, name)
    print({run: len(p) for run, p in data.truth.items()}, {t.run: len(p) for t, p in data.test}, flush=True)
    weak = weak_model(args.out, data.obj, plan, args)
    if not any(r["arm"] == "weak" for r in rows):
        note(rows, {"arm": "weak", "seed": 0, "round": 0, "asked": 0, **scored(weak, data, args.device)}, args)
    if args.picture:
        done = max(r["round"] for r in rows if (r["arm"], r["seed"]) == ("doubt", args.seed))
        after = args.out / f"doubt-{args.seed}" / str(done) / "model"
        draw(rows, data, {"the weak model": weak, f"{done * args.number} corrections later": after}, args)
        return
    for arm in args.arms.split(","):
        arm_of(arm, data, weak, rows, plan, args)
    print(table(rows))


if __name__ == "__main__":
    main()
