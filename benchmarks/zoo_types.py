"""Networks that each learned from one type of tomogram, on the other types: what a change of reconstruction costs.

    python benchmarks/zoo_types.py WORK [--steps N] [--device D] [--quick] [--templates FOLDER] [--page docs/methods.md]

Every simulated run is reconstructed as every type; a network learns from one of them, its thresholds are set on runs of
the same type, and runs that nothing has learned from are scored as every type. The last network learned from all types
together. Repeated after an interruption it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from kept_runs import keep_run, load_run, rows_of
from tomopick import FitOptions, Runs, Source, fit
from tomopick.core.files import atomic_write
from tomopick.core.presets import CZII_OBJECTS
from tomopick.core.progress import bar
from tomopick.data import MemoryProject
from tomopick.picking.load import load_detector
from tomopick.picking.picker import Picker, PickOptions
from tomopick.recipes import get
from tomopick.scoring.scores import czii_score
from tomopick.scoring.thresholds import calibrate
from tomopick.simulation import TOMO_TYPES, simulate, with_densities
from tomopick.simulation.projects import spec_of

SEED = 21_000_000  # of the simulations; nothing that ships has learned from it
ALL = "all"
MARKS = "<!-- types: begin -->", "<!-- types: end -->"


@dataclass(frozen=True)
class Sizes:
    """Shapes [voxels], and how many runs to learn from, to set thresholds on and to score."""

    learned: tuple[int, int, int] = (96, 256, 256)
    scored: tuple[int, int, int] = (128, 384, 384)
    counts: tuple[int, int, int] = (12, 2, 4)
    crowding: float | None = None  # particles, as a multiple of the challenge's numbers

    def runs(self) -> dict[str, list[str]]:
        """Names of the runs by purpose."""
        return {kind: [f"{kind}{i:02d}" for i in range(n)] for kind, n in zip("LVT", self.counts)}


SIZES = {False: Sizes(), True: Sizes((64, 128, 128), (64, 128, 128), (2, 1, 1), 8.0)}


def simulated(file: Path, run: str, sizes: Sizes, templates: Path | None) -> None:
    """A run in all types, kept as halves."""
    spec = spec_of("czii", sizes.learned if run[0] == "L" else sizes.scored, TOMO_TYPES)
    specimen = spec.specimen
    if sizes.crowding:
        specimen = replace(specimen, crowding=(sizes.crowding, sizes.crowding), dominance=0.0)
    if templates is not None:
        specimen, _ = with_densities(specimen, CZII_OBJECTS, (), templates)
    spec = replace(spec, specimen=specimen)
    made = simulate(spec, CZII_OBJECTS, run=run, seed=SEED)
    keep_run(file, list(made.tomograms.values()), made.picks)


def source_of(folder: Path, sizes: Sizes, tomo_type: str) -> Source:
    """What a network learns from; of all types together each run comes once as each."""
    project, types = MemoryProject(CZII_OBJECTS, f"{tomo_type} tomograms"), [tomo_type]
    if tomo_type == ALL:
        types = list(TOMO_TYPES)
    parts: dict[str, list[str]] = {"L": [], "V": []}
    for kind in parts:
        for run in sizes.runs()[kind]:
            for one in types:
                name = f"{run}_{one}"
                project.add(*load_run(folder, run, one, name))
                parts[kind].append(name)
    return Source(Runs(project, parts["L"]), val_runs=parts["V"])


def scores(model: Path, folder: Path, sizes: Sizes, device: str) -> dict[str, float]:
    """F4 of a network on every type, at the thresholds that its own training set."""
    detector = load_detector(str(model))
    picker, runs, found = Picker(detector, PickOptions(keep_below=True, device=device)), sizes.runs()["T"], {}
    for tomo_type in TOMO_TYPES:
        pairs = {run: load_run(folder, run, tomo_type) for run in runs}
        picks = {run: picker.pick(tomogram)[0] for run, (tomogram, _) in pairs.items()}
        truth = {run: true for run, (_, true) in pairs.items()}
        at_own = {run: p.above(detector.thresholds["czii"]) for run, p in picks.items()}
        found[tomo_type] = czii_score(at_own, truth, detector.objects).score
        # What thresholds measured there would give: how much of a loss `calibrate` brings back.
        best = {k: c.threshold for k, c in calibrate(picks, truth, detector.objects, "czii", 0.002).items()}
        best_there = {run: p.above(best) for run, p in picks.items()}
        found[f"{tomo_type}, best thresholds"] = czii_score(best_there, truth, detector.objects).score
    return found


def table(rows: Sequence[dict]) -> str:
    """The matrix in Markdown."""
    lines = ["| learned from | " + " | ".join(TOMO_TYPES) + " |", "|---|" + "---|" * len(TOMO_TYPES)]
    for row in rows:
        cells = [f"{row['F4'][t]:.3f} ({row['F4'][f'{t}, best thresholds']:.3f})" for t in TOMO_TYPES]
        lines.append(f"| {row['learned']} | " + " | ".join(cells) + " |")
    last = rows[-1]
    lines += ["", f"`{last['recipe']}`, {last['steps']} steps each, {last['device']}; {last['runs']} runs scored."]
    return "\n".join(lines)


def write_table(rows: Sequence[dict], page: Path) -> None:
    """The matrix between its marks in a page."""
    text, (begin, end) = page.read_text(encoding="utf-8"), MARKS
    head, found, rest = text.partition(begin)
    made = f"{begin}\n{table(rows)}\n{end}"
    with atomic_write(page) as file:
        file.write(head + made + rest.partition(end)[2] if found else f"{text}\n{made}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipe", default="light")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--set", action="append", default=[], help="settings of the recipe")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--templates", type=Path, help="folder of maps, as `simulate --templates` takes it")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: tiny volumes, a few steps")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "zoo_types.jsonl")
    parser.add_argument("--page", type=Path, help="the Markdown page whose table is renewed")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tomopick").setLevel("INFO")
    sizes, steps = SIZES[args.quick], 4 if args.quick else args.steps
    results = args.work / "zoo_types.jsonl" if args.quick else args.results
    folder = args.work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [run for names in sizes.runs().values() for run in names if not (folder / f"{run}.npz").is_file()]
    with (
        ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool,
        bar(len(missing), "simulate") as shown,
    ):
        for job in [pool.submit(simulated, folder / f"{run}.npz", run, sizes, args.templates) for run in missing]:
            job.result()
            shown.update(1)
    rows = rows_of(results)
    for tomo_type in [*TOMO_TYPES, ALL]:
        if any(row["learned"] == tomo_type and row["steps"] == steps for row in rows):
            continue
        recipe = get(args.recipe).override(
            [f"train.steps={steps}", f"train.warmup_steps={max(1, steps // 10)}", *args.set]
        )
        out = args.work / f"{args.recipe}-{tomo_type}-{steps}"
        if not (out / "detector.json").is_file():
            fit(recipe, [source_of(folder, sizes, tomo_type)], out, FitOptions(args.device, resume=out.exists()))
        row = {"recipe": args.recipe, "learned": tomo_type, "steps": steps, "device": args.device}
        rows.append(row | {"runs": len(sizes.runs()["T"]), "F4": scores(out, folder, sizes, args.device)})
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(table(rows), flush=True)
    if args.page:
        write_table(rows, args.page)


if __name__ == "__main__":
    main()
