"""Published tables of the CZII challenge's data made again, the published figure beside ours: one command each.

    python benchmarks/czii.py PROJECT WORK scores --test private.json --pretrain simulated.json
    python benchmarks/czii.py PROJECT WORK windows --test private.json
    python benchmarks/czii.py PROJECT WORK semi|classes|ablation|networks --test private.json
    python benchmarks/czii.py simulated WORK scores          on simulated twins of the runs
    python benchmarks/czii.py simulated WORK TABLE --quick   a rehearsal: tiny volumes, narrow networks, two steps

PROJECT holds the seven labelled runs: the Kaggle download, or `tomopick init DIR --portal 10440`. `--test` is the
project that is scored, whose truth is read for that alone: the portal's data set 10446 (private) or 10445 (public).
`--pretrain` are the 27 simulated runs (10441), which two methods start from; without it `scores` leaves those out, and
says so.

scores    all five methods trained as published, by weighted F-beta 4 on the test runs. WORK/models/METHOD may hold one
          that was trained elsewhere, or converted: it is taken as it is.
windows   the 4th place's table 3: 12 x 12 windows, fewer, and no weights; and windows of its peaks.
semi      SemiETPicker's table 1, with 2 and 5 labelled runs; classes: its table 2; ablation: its table 3; networks: its
          table 4, seconds a tomogram beside F1. Half of the test runs (50 at most) are unlabelled, the others scored.

Each row goes to WORK/rows.jsonl when it is done, and a repeated call goes on where it stopped. SETTINGS behind the
table (`train.steps=500`) hold for all trainings; the published figures are of none.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from czii_tables import ABLATION, BASELINES, METHODS, PUBLISHED, QUICK, ROWS, SEMI, WINDOWS, shown
from kept_runs import rows_of
from tomopick import (
    Ensemble,
    FitOptions,
    Model,
    Picks,
    Project,
    Runs,
    Source,
    TomopickError,
    czii_score,
    fit,
    load_model,
    open_project,
    recipes,
)
from tomopick.core.errors import SelectionError
from tomopick.picking.picker import Picker, PickOptions
from tomopick.picking.predict import VIEWS
from tomopick.recipes.as_published import carry_out
from tomopick.recipes.plans import Wanted, published
from tomopick.recipes.shares import Grounds, labelled_runs
from tomopick.scoring.scores import matched_scores
from tomopick.simulation.projects import simulate_project

UNLABELLED = 50  # runs of the test project that SemiETPicker learns from, at most; as many others are scored
METRICS = ("czii", "f1")
QUICK_OBJECTS = ("apo-ferritin", "ribosome")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """One call.

    Attributes:
        work: folder of models and rows.
        runs: the labelled ones.
        test: what is scored.
        simulated: to pretrain on; None: none.
        settings: overrides of every recipe.
        device: where.
        quick: whether it is a rehearsal.
        views: that are scored, a key of `predict.VIEWS`; None: those of the method.
    """

    work: Path
    runs: Runs
    test: Runs
    simulated: Runs | None
    settings: tuple[str, ...]
    device: str
    quick: bool
    views: str | None = None

    # ------------------------------------------------------------------------------------------------------- trainings
    def method(self, name: str) -> Model:
        """A method trained as published, or what lies in its place."""
        out = self.work / "models" / name
        if (out / "detector.json").is_file() or (out / "ensemble.json").is_file():
            return load_model(out)
        source = Source(self.runs)
        if name == "semietpicker":  # what it learns from without labels are runs of the test project
            grounds = Grounds((source, self._unlabelled()), (self._types(), ()), None)
        else:
            simulated = None if self.simulated is None or name == "unet25d" else Source(self.simulated, val_runs=())
            sources = (source, simulated) if name == "bpd" and simulated else (source,)
            types = (self._types(), ()) if len(sources) == 2 else (self._types(),)
            grounds = Grounds(sources, types, None if name == "bpd" else simulated)  # type: ignore[arg-type]
        sizes: dict[str, Any] = {"seeds": 1, "folds": 2, "subsets": (1,)} if self.quick else {}
        asked = {k: v for k, v in sizes.items() if (name, k) in QUICK_SIZES}
        overrides = (*self.settings, *(QUICK[name] if self.quick else ()))
        wanted = Wanted(
            overrides, tomo_types=self._types(), runs=labelled_runs(source),
            simulated=grounds.simulated is not None, **asked,
        )  # fmt: skip
        return carry_out(published(name, wanted), grounds, out, self._options(out))

    def semi(self, row: str, labels: int) -> Model:
        """SemiETPicker's network, or one that it is compared with, taught by so many labelled runs."""
        out = self.work / "models" / f"{row.replace(' ', '-').replace('+', 'and')}-{labels}"
        if (out / "detector.json").is_file():
            return load_model(out)
        names = self.runs.check()
        train, val = names[:labels], names[max(self.most_labels) :] or names[-1:]
        source, hidden = Source(Runs(self.runs.project, train, self.runs.tomo_type, self.runs.picks), val_runs=val), []
        if row == "all labels":
            first = self._unlabelled()
            hidden = [Source(replace(first.runs, names=first.unlabelled_runs), val_runs=())]
        quick = QUICK.get(row, QUICK["semietpicker"]) if self.quick else ()
        recipe = recipes.get("semietpicker").override([*ROWS[row], *quick, *self.settings])
        if recipe.objective.semi_supervised:
            hidden = [self._unlabelled()]
        return fit(recipe, [source, *hidden], out, self._options(out))

    @property
    def most_labels(self) -> tuple[int, int]:
        """How many labelled runs there are in either setting."""
        return (1, 2) if self.quick else (2, 5)

    def _options(self, out: Path) -> FitOptions:
        out.parent.mkdir(parents=True, exist_ok=True)
        begun = any((out / name).is_file() for name in ("recipe.json", "plan.json"))
        if out.is_dir() and not begun:  # nothing that could be gone on with
            shutil.rmtree(out)
        return FitOptions(self.device, resume=begun, objects=QUICK_OBJECTS if self.quick else None)

    def _types(self) -> tuple[str, ...]:
        return (self.runs.tomo_type,) if self.runs.tomo_type else ()

    def _halves(self) -> tuple[list[str], list[str]]:
        """Of the test runs, shuffled once, those that are learned from without labels, and those that are scored."""
        names = sorted(self.test.check())
        names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
        n = min(UNLABELLED, len(names) // 2)
        if not n:
            raise SelectionError(f"{self.test.uri}: one run; expected two or more: half of them are unlabelled")
        return sorted(names[:n]), sorted(names[n : n + UNLABELLED])

    def _unlabelled(self) -> Source:
        return Source.unlabelled(replace(self.test, names=self._halves()[0]))

    # ---------------------------------------------------------------------------------------------------------- scores
    def score(self, model: Model, runs: Sequence[str], options: PickOptions) -> dict[str, Any]:
        """Weighted F-beta 4 at the thresholds for it, F1 at those for F1, by object; and seconds a tomogram."""
        truth: dict[str, Picks] = {}
        found: dict[str, dict[str, Picks]] = {metric: {} for metric in METRICS}
        pickers = self._pickers(model, options)
        scored, seconds = [o for o in self.test.project.objects if o.name in model.thresholds["f1"]], []
        for run in runs:
            tomogram = self.test.project.tomogram(run, self.test.tomo_type)
            picks = self.test.project.picks(run, self.test.picks)
            truth[run] = (picks or Picks.empty(run)).among([o.name for o in scored])
            for metrics, picker in pickers:
                began = time.perf_counter()
                made = picker.pick(tomogram)[0]
                seconds.append(time.perf_counter() - began)
                for metric in metrics:
                    found[metric][run] = made.above(model.thresholds[metric])
        left = [o.name for o in scored if o.name == "beta-amylase"]
        matched = matched_scores(found["f1"], truth, scored, exclude=left)
        czii = czii_score(found["czii"], truth, scored)
        return {
            "F4": czii.score, "F1": list(matched.macro_f1), "seconds": float(np.median(seconds)), "runs": len(truth),
            "objects": {name: counts[0].fbeta for name, counts in matched.objects.items()},
        }  # fmt: skip

    def _pickers(self, model: Model, options: PickOptions) -> list[tuple[tuple[str, ...], Picker]]:
        """One for both metrics, unless where a pick lies depends on its threshold."""
        options = replace(options, device=self.device, keep_below=True, views=self.views)
        first = Picker(model, options)
        if not first.positions_depend_on_threshold:
            return [(METRICS, first)]
        return [((metric,), Picker(model, replace(options, metric=metric))) for metric in METRICS]

    # ------------------------------------------------------------------------------------------------------------ rows
    def rows(self, table: str) -> dict[str, Callable[[], dict[str, Any]]]:
        """By the name of a row, what makes it."""
        if table == "scores":
            return {name: partial(self._of_method, name) for name in METHODS}
        if table == "windows":
            return {name: partial(self._windows, name) for name in WINDOWS}
        names = {"semi": SEMI, "classes": ("supervised", "SemiETPicker"), "ablation": ABLATION, "networks": BASELINES}
        amounts = self.most_labels if table == "semi" else self.most_labels[1:]
        return {
            f"{name}, {n} labelled": partial(self._semi, name, n)
            for n in amounts for name in names[table]
        }  # fmt: skip

    def _of_method(self, name: str) -> dict[str, Any]:
        if name in ("soup", "topcup") and self.simulated is None:
            return {"left_out": "it starts from simulated runs: give their project with --pretrain"}
        runs = self._halves()[1] if name == "semietpicker" else self.test.check()
        return self.score(self.method(name), runs, PickOptions())

    def _windows(self, name: str) -> dict[str, Any]:
        """The 2.5D ensemble with other windows: each member has its own step along z."""
        model, step, more = self.method("unet25d"), *WINDOWS[name]
        assert isinstance(model, Ensemble)
        members = []
        for member in model.members:
            z = member.detector.method.tiling.step[0]  # type: ignore[attr-defined]
            width = member.detector.method.tiling.shape[1]  # type: ignore[index]
            size = (f"tiling.step={z},{step * width // 128},{step * width // 128}",)
            members.append(replace(member, detector=member.detector.overridden((*size, *more))))
        return self.score(replace(model, members=tuple(members)), self.test.check(), PickOptions())

    def _semi(self, name: str, labels: int) -> dict[str, Any]:
        return self.score(self.semi(name, labels), self._halves()[1], PickOptions())

    def make(self, table: str, only: Sequence[str] = ()) -> list[Row]:
        """The rows of a table that are asked for (none named: all), those that are missing made and kept."""
        kept = self.work / "rows.jsonl"
        known = {(row["table"], row["row"]): row for row in rows_of(kept)}
        found = []
        for name, made in self.rows(table).items():
            if only and name not in only:
                continue
            row = known.get((table, name))
            if row is None:
                print(f"{table}: {name}", file=sys.stderr, flush=True)
                row = {"table": table, "row": name, **made()}
                if "left_out" not in row:
                    with kept.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            found.append(row)
        return found


# Of a rehearsal, which of a method's numbers are smaller.
QUICK_SIZES = {("bpd", "seeds"), ("topcup", "subsets"), ("unet25d", "folds")}


def twins(work: Path, quick: bool) -> tuple[Runs, Runs, Runs]:
    """Simulated: runs like the seven, like those of the test, and varied ones to pretrain on."""
    shape = (32, 100, 100) if quick else (184, 630, 630)
    few = ("voxel_spacing=14", "specimen.crowding=8") if quick else ()
    sizes = {
        "seven": (3 if quick else 7, "czii", few),
        "test": (2 if quick else 8, "czii", few),
        "varied": (1 if quick else 27, "varied", ("voxel_spacing=14", "specimen.crowding=8") if quick else ()),
    }
    found = []
    for i, (name, (n, preset, settings)) in enumerate(sizes.items()):
        place = work / "data" / name
        simulate_project(place, shape, runs=n, seed=30_000_000 + i, tomo_types=("denoised",), preset=preset,
                         settings=settings)  # fmt: skip
        found.append(Runs(open_project(place / "copick.json"), tomo_type="denoised"))
    return found[0], found[1], found[2]


def given(args: argparse.Namespace) -> tuple[Runs, Runs, Runs | None]:
    """The projects that were named; what is scored may be runs of the first, which nothing then learns from."""
    first = opened(args.project, args.tomo_type, args.picks)
    names = [name for name in args.test_runs.split(",") if name]
    if args.test:
        second = opened(args.test, args.test_tomo_type or args.tomo_type, args.test_picks or args.picks)
        second = replace(second, names=names or None)
    elif names:
        second = replace(first, names=names)
        first = replace(first, names=[run for run in first.check() if run not in names])
    else:
        raise SelectionError(
            "nothing to score: give the project of the test runs with --test, or --test-runs of PROJECT, which nothing "
            "then learns from"
        )
    simulated = opened(args.pretrain, args.pretrain_tomo_type, None) if args.pretrain else None
    return first, second, simulated


def opened(place: str, tomo_type: str | None, picks: str | None) -> Runs:
    """Runs of a project; of one whose runs lie elsewhere, such as the portal, none is read yet."""
    project: Project = open_project(place)
    return Runs(project, tomo_type=tomo_type, picks=picks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes a table, or what is missing of it, and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", help="copick configuration of the labelled runs, or `simulated`")
    parser.add_argument("work", type=Path)
    parser.add_argument("table", choices=("scores", "windows", "semi", "classes", "ablation", "networks"))
    parser.add_argument("settings", nargs="*", help="section.field=value, of all trainings")
    parser.add_argument("--test", help="project of the test runs")
    parser.add_argument("--test-runs", default="", help="of it, by comma; without it all")
    parser.add_argument("--pretrain", help="project of the simulated runs")
    for name in ("--tomo-type", "--test-tomo-type", "--pretrain-tomo-type", "--picks", "--test-picks"):
        parser.add_argument(name)
    parser.add_argument("--tta", choices=sorted(VIEWS), help="views that are scored; without it those of the method")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", default="", metavar="ROW[;ROW...]", help="of the table; without it all")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("tomopick").setLevel("ERROR" if args.quick else "INFO")
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        runs, test, pretrain = twins(args.work, args.quick) if args.project == "simulated" else given(args)
        bench = Bench(args.work, runs, test, pretrain, tuple(args.settings), args.device, args.quick, args.tta)
        rows = bench.make(args.table, args.rows.split(";") if args.rows else ())
    except TomopickError as error:
        raise SystemExit(f"error: {error}") from None
    print(shown(args.table, rows, PUBLISHED))


if __name__ == "__main__":
    main()
