"""The main job on data made on the spot: simulate, pick, evaluate, draw."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ..core.errors import OutputError
from ..core.files import is_vacant
from ..core.messages import counted
from ..core.records import ENDING as RECORDS
from ..core.types import Shape
from ..data import open_project, write_picks_csv
from ..look.sections import draw_sections
from ..look.simulated import draw_simulated
from ..picking.load import load_detector
from ..picking.options import PickOptions
from ..picking.picker import Picker
from ..picking.runs import pick_run
from ..scoring.scores import czii_score, matched_scores
from ..simulation.projects import SESSION_ID, USER_ID, simulate_project

RESULTS = ("picks.csv", "scores.txt", "sections.png")
MADE = (  # of a project
    *("copick.json", "simulation.json", "pictures/SIM_000.png", "runs/SIM_000.json", "runs/runs.txt"),
    "ExperimentRuns/SIM_000/VoxelSpacing*/*",
    "ExperimentRuns/SIM_000/.meta",  # copick's own
    *(f"ExperimentRuns/SIM_000/Picks/{who}_*.json" for who in (f"{USER_ID}_{SESSION_ID}", "tomopick_0")),
)


def run_demo(out: Path, shape: Shape, seed: int, model: str, device: str, say: Callable[[str], None]) -> None:
    """Leaves in `out` a copick project, picks, a picture of sections and the tables of scores.

    What an earlier demo left there is replaced; what else lies beside it is left alone.

    Raises:
        OutputError: `out` holds nothing of a demo but something else, or its project was added to.
        TomopickError: no such model or device, or a phantom too small for the objects.
    """
    mark = out / ".tomopick-demo"
    if not mark.exists() and not is_vacant(out):
        raise OutputError(f"{out}: holds something that the demo did not make; choose another folder with --out")
    others = _others(out / "project")
    if others:
        raise OutputError(f"{others[0]}: the demo did not make it; move it, or choose another folder with --out")
    detector = load_detector(model)
    # One pick serves both metrics: down to the lower threshold of the two.
    lower = {o.name: min(cuts[o.name] for cuts in detector.thresholds.values()) for o in detector.objects}
    picker = Picker(detector, PickOptions(device=device, thresholds=lower))
    out.mkdir(parents=True, exist_ok=True)
    mark.touch()
    say(f"1. simulate a tomogram of {'x'.join(map(str, shape))} voxels with six kinds of particles (seed {seed})")
    run = _simulate(out, shape, seed)
    project = open_project(out / "project" / "copick.json")

    say(f"2. pick it with model '{model}' ({sum(p.numel() for p in detector.network.parameters()):,} parameters)")
    result = pick_run(picker, project, run, out / "records")
    say(f"   {counted(sum(result.counts.values()), 'pick')} in {result.seconds:.1f} s")

    truth = project.picks(run, f"*:{USER_ID}/{SESSION_ID}")
    found = project.picks(run, f"*:{picker.options.user_id}/{picker.options.session_id}")
    assert truth is not None and found is not None
    cuts = {metric: found.above(detector.thresholds[metric]) for metric in ("f1", "czii")}
    cuts["f1"] = Picker(detector, PickOptions(device=device)).exclusion(cuts["f1"])
    tables = [
        "CZII score (F-beta 4 rewards finding every particle; low thresholds):",
        czii_score({run: cuts["czii"]}, {run: truth}, detector.objects).table(),
        "",
        "One-to-one matching (precision and recall weigh the same; high thresholds):",
        matched_scores({run: cuts["f1"]}, {run: truth}, detector.objects).table(),
    ]
    say("3. compare with the truth")
    for line in "\n".join(tables).splitlines():
        say(line)
    (out / "scores.txt").write_text("\n".join(tables) + "\n")
    write_picks_csv(out / "picks.csv", cuts["f1"])
    picture = out / "sections.png"
    draw_sections(
        project.tomogram(run), cuts["f1"], detector.objects, picture, truth=truth, title=f"{run}, picks against truth"
    )
    say(f"4. look: {picture}; picks: {out / 'picks.csv'} and {out / 'project' / 'copick.json'}")


def _others(project: Path) -> list[Path]:
    """Files in an earlier demo's project that the demo did not make."""
    made = {path for pattern in MADE for path in project.glob(pattern)}
    files = [path for path in project.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    return [path for path in files if not made & {path, *path.parents}]


def _simulate(out: Path, shape: Shape, seed: int) -> str:
    """A new project in place of an earlier demo's, which comes back where there is none; gives the run's name."""
    project, before = out / "project", out / ".project.before"
    shutil.rmtree(before, ignore_errors=True)
    if project.exists():
        project.rename(before)
    try:
        (run,) = simulate_project(project, shape, seed=seed, tomo_types=("denoised",), draw=draw_simulated)
    except BaseException:
        shutil.rmtree(project, ignore_errors=True)
        if before.exists():
            before.rename(project)
        raise
    shutil.rmtree(before, ignore_errors=True)
    for path in (*(out / name for name in RESULTS), *(out / "records").glob(f"*{RECORDS}")):
        path.unlink(missing_ok=True)
    return run
