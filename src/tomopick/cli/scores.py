"""Verbs that score, measure thresholds and write the report; `cli` adds them to its group."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..core.errors import ModelError, TomopickError
from ..core.messages import counted
from . import early
from .flags import with_flags
from .on import OnCommand, evaluate_work
from .options import (
    AS,
    DROP,
    FOREIGN,
    POSITIVE,
    TYPE,
    WHERE_LABELLED,
    comma,
    device_option,
    echo,
    foreign_options,
    labelled_options,
    pairs,
    project_options,
    run_names,
    say,
    shard_option,
    true_runs_of,
    tta_option,
)
from .outputs import OUT


@click.command("calibrate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("place", metavar="PROJECT", required=False)
@click.option(
    "--runs", callback=run_names, help="Runs to measure on, comma-separated, or @FILE. Default: all with truth."
)
@click.option(
    "--metric",
    default="f1",
    show_default=True,
    callback=early.metric,
    metavar="czii|f1|precision=P",
    help="What the thresholds make best: F1, the CZII challenge's F-beta 4, or recall at a precision of P.",
)
@click.option(
    "--truth",
    metavar="OBJECT:USER/SESSION",
    help="Which of PROJECT's picks are true, where it is copick's. Default: the only ones.",
)
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--smooth", default="none", show_default=True, type=click.Choice(["none", "flips", "all"]),
              help="Measure on flips (and quarter turns: all) of each volume too: steadier with few runs.")  # fmt: skip
@tta_option
@click.option("--map-scores", is_flag=True,
              help="Make scores tell how often picks are right: 0.8 means four times in five.")  # fmt: skip
@click.option("--folds", callback=comma, metavar="MODEL,MODEL,...",
              help="Models of a cross-validation in MODEL's place: each run is picked by one that has not learned "
              "from it.")  # fmt: skip
@click.option("--undo", "undoing", is_flag=True, help="Put back what was there before the last calibration.")
@click.option("--dry-run", is_flag=True, help="Measure and print, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@device_option
@labelled_options
@project_options
def calibrate_command(
    model: Path, place: str | None, undoing: bool, dry_run: bool, as_json: bool, folds: list[str] | None,
    runs: list[str] | None, truth: str | None, tomo_type: str | None, voxel_spacing: float | None,
    objects: tuple[str, ...], coordinate_offset: str, regions: tuple[str, ...], labelled_in: tuple[str, ...],
    **choices: Any,
) -> None:  # fmt: skip
    """Measure the best thresholds of MODEL on the true picks of PROJECT and write them into its folder.

    MODEL may be an ensemble. What was there before is kept in MODEL/calibration.json. With precision=P the lowest
    threshold is taken at which picks are right P of the time; pick with it by `pick --metric precision=P`.

    \b
    Examples:
      tomopick calibrate model/ copick.json --runs TS_6_4,TS_6_6 --truth '*:curator/0' --metric precision=0.9
      tomopick calibrate model/ copick.json --folds fold0/,fold1/,fold2/ --map-scores
      tomopick calibrate model/ --undo
    """
    if undoing:
        from ..models.calibrate import undo

        for metric, cuts in undo(model).items():
            echo(f"{metric}: {', '.join(f'{name} {cut:.4f}' for name, cut in cuts.items())}")
        return
    trusted = _calibrated_on(model, place, folds)
    from ..data import open_project
    from ..data.runs import Runs
    from ..models.calibrate import CalibrationOptions, measure, write_thresholds
    from ..picking.load import load_model
    from ..scoring.metrics import metric_name

    options = CalibrationOptions(**choices)
    target = load_model(model)
    models = [load_model(m) for m in folds] if folds else [target]
    project = open_project(
        trusted, voxel_spacing=voxel_spacing, objects=objects, coordinate_offset=coordinate_offset, regions=regions,
        labelled_in=labelled_in,
    )  # fmt: skip
    result = measure(models, Runs(project, runs, tomo_type, truth), options, target)
    if not dry_run:
        write_thresholds(model, result, options)
    if options.map_scores and not dry_run:
        from ..look.reliability import draw_reliability

        say(f"how far the scores can be believed, before and after: {draw_reliability(result.believed, model)}")
    echo(json.dumps(result.to_json(), indent=1) if as_json else _table(result, options.metric))
    if not dry_run and metric_name(options.metric) != "f1":
        say(f"pick with these thresholds by --metric {metric_name(options.metric)}")


def _calibrated_on(model: Path, place: str | None, folds: list[str] | None) -> str:
    """The project, after a look at whether what was named is there."""
    if place is None:
        raise TomopickError("calibrate needs a PROJECT with true picks; see calibrate --help")
    early.require_order(str(model), place, "calibrate")
    if not model.is_dir():
        raise ModelError(f"{model}: no model folder to write thresholds into; copy a shipped model to calibrate it")
    early.require_models(folds or [])
    early.require_places([place])
    return place


def _table(result: Any, metric: str) -> str:
    from tabulate import tabulate

    rows = [
        [name, c.n_truth, c.n_candidates, f"{result.before[name]:.4f}" if name in result.before else "-"]
        + ([f"{c.threshold:.4f}", f"{min(c.value, 1.0):.4f}"] if c.calibrated else ["kept", "-"])
        + [_error(b) for b in (result.believed[name].now, result.believed[name].held_out)]
        for name, c in result.thresholds.items()
    ]
    value = "recall" if metric.startswith("precision") else {"f1": "F1", "czii": "F4"}[metric]
    header = ["object", "truths", "candidates", "before", "threshold", value, "ECE", "ECE mapped"]
    if all(row[-1] == "-" for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return tabulate(rows, headers=header, disable_numparse=True, colalign=("left", *["right"] * (len(header) - 1)))


def _error(shown: Any) -> str:
    return f"{shown.expected_error:.3f}" if sum(shown.n) else "-"


@click.command("report")
@click.argument("what", metavar="MODEL|PICKS")
@click.argument("place", metavar="PROJECT")
@click.option("--out", required=True, type=OUT, help="The HTML file to write.")
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to show, where PICKS is a copick project.")
@click.option("--as", "name", metavar="OBJECT", help=AS)
@click.option("--truth", metavar="OBJECT:USER/SESSION", help="Which of PROJECT's picks are true, where it is copick's.")
@click.option("--runs", callback=run_names, help="Runs to show, comma-separated, or @FILE of them. Default: all.")
@click.option("--objects", "only", callback=comma, help="Objects to show and score, comma-separated. Default: all.")
@click.option("--embed", callback=comma, help="Runs whose tomograms go into the page. Default: the first three.")
@click.option("--tomo-type", metavar="TYPE[@SPACING]", help=TYPE)
@click.option("--metric", default="f1", show_default=True, callback=early.metric, metavar="f1|czii|precision=P",
              help="Which of MODEL's thresholds the sliders open at.")  # fmt: skip
@click.option("--threshold", "thresholds", multiple=True, callback=pairs, metavar="OBJECT=VALUE",
              help="The score that the slider of OBJECT opens at, in place of the model's; repeatable.")  # fmt: skip
@tta_option
@click.option("--title", help="Heading of the page. Default: what is shown, and on what.")
@device_option
@foreign_options
@labelled_options
@project_options
def report_command(what: str, place: str, out: Path, **choices: Any) -> None:
    """Write one HTML file to look at picks with: sections, threshold sliders, curves, galleries, averages.

    With a MODEL (a folder, an ensemble's, or a shipped name) the runs are picked, down to a low score; PICKS is a
    project, a folder of RUN.csv, one CSV, or a file of another program (STAR, Dynamo, IMOD ...). Tomograms and truth
    are PROJECT's. The page needs no network and works from an e-mail.

    \b
    Examples:
      tomopick report model/ copick.json --truth '*:curator/0' --runs TS_6_4 --out report.html
      tomopick report picks/ tomograms/ --out report.html
    """
    early.require_sides(what, place, "report")
    _require_one_that_picks(choices["views"], what)
    from ..look.page.gather import ReportOptions, gather_report
    from ..look.page.page import write_report

    project = {key: choices.pop(key) for key in ("voxel_spacing", "objects", "coordinate_offset", *WHERE_LABELLED)}
    foreign = {key: choices.pop(key) for key in FOREIGN}
    on = true_runs_of(place, project, choices)
    report = gather_report(what, on, project, ReportOptions(foreign=foreign, **choices))
    write_report(_with_flags(report), out)
    echo(f"{out} ({out.stat().st_size / 1e6:.1f} MB, {counted(len(report.runs), 'run')})")


@click.command("evaluate", cls=OnCommand, plan=evaluate_work)
@click.argument("candidates", metavar="PICKS|MODEL")
@click.argument("truth_place", metavar="TRUTH")
@click.option("--picks", metavar="OBJECT:USER/SESSION", help="Which picks to score, where PICKS is a copick project.")
@click.option("--as", "name", metavar="OBJECT", help=AS)
@click.option("--truth", metavar="OBJECT:USER/SESSION", help="Which picks are true, where TRUTH is a copick project.")
@shard_option("runs with truth")
@click.option("--runs", callback=run_names, help="Runs to score, comma-separated, or @FILE. Default: all with truth.")
@click.option("--objects", "only", callback=comma, help="Objects to score, comma-separated. Default: all with truth.")
@click.option(
    "--tomo-type",
    metavar="TYPE[@SPACING]",
    help="The tomograms that say how large runs are: picks must lie inside. Default: any of a run's.",
)
@click.option(
    "--distance-multiplier",
    default=0.5,
    show_default=True,
    type=POSITIVE,
    help="A pick is right within this many radii of a true one.",
)
@click.option(
    "--beta",
    default=4.0,
    show_default=True,
    type=POSITIVE,
    help="Weight of recall in the CZII score: 4, the challenge's, counts a miss 16 times a false pick.",
)
@click.option(
    "--exclude", callback=comma, help="Objects to leave out of the mean F1, comma-separated; they are in the table."
)
@click.option("--drop-outside", is_flag=True, help=DROP)
@click.option(
    "--against",
    metavar="PICKS|MODEL",
    help="Score these on the same truth too, and say how much better PICKS is, with a 95 % interval.",
)
@click.option("--metric", default="f1", show_default=True, callback=early.metric, metavar="f1|czii|precision=P",
              help="Which of MODEL's thresholds it picks with.")  # fmt: skip
@tta_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print every figure at full precision as JSON on standard output."
)
@click.option("--report", type=OUT, metavar="HTML", help="Write the page of `report` too, as this HTML file.")
@device_option
@foreign_options
@labelled_options
@project_options
def evaluate_command(
    candidates: str, truth_place: str, as_json: bool, report: Path | None, against: str | None, metric: str,
    views: str | None, device: str, exclude: list[str] | None, **choices: Any,
) -> None:  # fmt: skip
    """Score PICKS against TRUTH; each is a CSV (object,x,y,z[,score] or Kaggle's), a folder of RUN.csv or a project.

    PICKS may also be a file of another program (STAR, Dynamo, IMOD ...) where TRUTH is a project, or a model, an
    ensemble among them, that picks TRUTH's tomograms first.

    \b
    Examples:
      tomopick evaluate picks.csv truth.csv
      tomopick evaluate copick.json copick.json --picks '*:tomopick/1' --truth '*:curator/0' --json
      tomopick evaluate picks/ tomograms/ --report report.html
      tomopick evaluate model/ tomograms/ --against default
    """
    early.require_sides(candidates, truth_place, "evaluate")
    early.require_picks(against)
    _require_one_that_picks(views, candidates, against)
    from ..look.page.gather import ReportOptions, report_of
    from ..scoring.compare import Scoring

    foreign = {key: choices.pop(key) for key in FOREIGN}
    meant = {"names": choices.pop("runs"), "tomo_type": choices.pop("tomo_type"), "picks": choices.pop("truth")}
    scoring = Scoring(exclude=tuple(exclude or ()), foreign=foreign, **choices)
    options = ReportOptions(metric=metric, views=views, device=device)
    truth = replace(scoring.opened(truth_place), **meant)
    sides = _sides(scoring, candidates, truth, options)
    result = scoring.score(sides)
    if against is not None:
        others = _sides(scoring, against, truth, options)
        differences = scoring.compare(sides, others)
        result = result.beside(against, differences)
    echo(with_flags(result.json_text() if as_json else result.text()))
    if report is not None:
        from ..look.page import write_report

        write_report(_with_flags(report_of(sides, candidates, truth_place, truth.tomo_type)), report)
        say(f"page in {report}")


def _require_one_that_picks(views: str | None, *places: str | None) -> None:
    """Raises where views are asked for and there is no model that could take them."""
    from ..picking.folder import is_model

    if views is not None and not any(place and is_model(place) for place in places):
        raise TomopickError(f"--tta {views} is for a model that picks, and {places[0]} is picks already; leave it out")


def _with_flags(report: Any) -> Any:
    return replace(report, notes=tuple(map(with_flags, report.notes)))


def _sides(scoring: Any, what: str, truth: Any, options: Any) -> Any:
    """Both sides, read once; a model picks first."""
    from ..look.page.gather import pick_with
    from ..picking.folder import is_model

    def make(project: Any, runs: list[str]) -> Any:
        return pick_with(what, replace(truth, project=project, names=runs), options)

    return scoring.sides(what, truth, make if is_model(what) else None)
