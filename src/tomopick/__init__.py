"""tomopick: particle picking in cryo-electron tomograms with heatmap networks.

    import tomopick as tp

    model = tp.load("default")
    found = model.pick(volume, voxel_spacing=10.0)  # found.picks, found.heatmap(), found.warnings

What is told meanwhile goes to `logging.getLogger("tomopick")`: warnings as they are, the rest with level INFO.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.errors import TomopickError as TomopickError
    from .core.types import Grid as Grid
    from .core.types import Heatmap as Heatmap
    from .core.types import PickableObject as PickableObject
    from .core.types import Picks as Picks
    from .core.types import Tomogram as Tomogram
    from .data import MemoryProject as MemoryProject
    from .data import Project as Project
    from .data import open_project as open_project
    from .data import read_volume as read_volume
    from .data import write_mrc as write_mrc
    from .data.runs import Runs as Runs
    from .look.sections import draw_sections as draw_sections
    from .models.calibrate import Calibrated
    from .picking.detector import Detector as Detector
    from .picking.ensemble import Ensemble as Ensemble
    from .picking.found import Found as Found
    from .picking.load import load_model as load_model
    from .picking.picker import Model as Model
    from .picking.runs import RunResult
    from .scoring.curves import precision_recall as precision_recall
    from .scoring.figures import Scores as Scores
    from .scoring.score import score as score
    from .scoring.scores import czii_score as czii_score
    from .training.fit import FitOptions as FitOptions
    from .training.recipe import Recipe as Recipe
    from .training.sources import Source as Source

__version__ = "0.2.0"

# Public names and where they live; looked up on first use, so that `import tomopick` needs no torch.
_HOMES = {
    "Detector": "picking.detector",
    "Ensemble": "picking.ensemble",
    "FitOptions": "training.fit",
    "Found": "picking.found",
    "Grid": "core.types",
    "Heatmap": "core.types",
    "MemoryProject": "data",
    "Model": "picking.picker",
    "PickableObject": "core.types",
    "Picks": "core.types",
    "Project": "data",
    "Recipe": "training.recipe",
    "Runs": "data.runs",
    "Scores": "scoring.figures",
    "Source": "training.sources",
    "Tomogram": "core.types",
    "TomopickError": "core.errors",
    "czii_score": "scoring.scores",
    "draw_sections": "look.sections",
    "load_model": "picking.load",
    "open_project": "data",
    "precision_recall": "scoring.curves",
    "read_volume": "data",
    "score": "scoring.score",
    "write_mrc": "data",
}

__all__ = [
    "Detector",
    "Ensemble",
    "FitOptions",
    "Found",
    "Grid",
    "Heatmap",
    "MemoryProject",
    "Model",
    "PickableObject",
    "Picks",
    "Project",
    "Recipe",
    "Runs",
    "Scores",
    "Source",
    "Tomogram",
    "TomopickError",
    "calibrate",
    "combine",
    "czii_score",
    "draw_sections",
    "export",
    "fit",
    "load",
    "load_model",
    "open_project",
    "pick",
    "precision_recall",
    "read_volume",
    "report",
    "score",
    "simulate",
    "soup",
    "write_mrc",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tomopick' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(model: str | Path | Model) -> Model:
    """A model that ships, by its name (`default`), or that lies in a folder; an ensemble's folder is a model as well.

    Raises:
        ModelError: there is none, or the folder is not whole.
    """
    if not isinstance(model, (str, Path)):
        return _model(model)
    from .picking.load import load_model

    return load_model(model)


def pick(
    model: str | Path | Model, project: Project | Runs, out: str | Path, *, overwrite: bool = False, **how: Any
) -> Iterator[RunResult]:
    """Picks run after run and writes their picks, as the command does; gives what became of each as it is finished.

    Args:
        model: to pick with, or what `load` takes.
        project: with the tomograms; `Runs` where runs or a tomogram type are chosen.
        out: folder of RUN.csv and of the records; where a project keeps picks, of the records alone.
        overwrite: replace what lies there and is not ours.
        how: fields of `PickOptions`: thresholds, metric ... Without `session_id`, the next free one, kept for `out`.

    Raises:
        TomopickError: nothing to pick, or options that do not fit. What is wrong with one run is its result.
    """
    from .core.errors import SelectionError
    from .core.messages import with_fields
    from .core.records import expect
    from .data.runs import Runs
    from .look.doctor import before_picking, warn
    from .picking.options import PickOptions
    from .picking.output import records_of
    from .picking.picker import Picker
    from .picking.runs import check_objects, check_places, pick_runs
    from .picking.session import session_for

    runs = Runs.of(project)
    names = runs.check()
    if not names:
        raise SelectionError(f"{runs.uri}: no runs to pick; expected at least one tomogram")
    options = with_fields(PickOptions(), how)
    check_places(options.places, runs)
    if "session_id" not in how:
        options = replace(options, session_id=session_for(runs.project, Path(out), options.user_id))
    picker = Picker(load(model), options)
    check_objects(picker, runs.project)
    warn(before_picking(runs, picker.model))
    expect(records_of(runs.project, Path(out)).folder, names)
    return pick_runs(picker, runs, names, out, overwrite)


def fit(
    recipe: str | Recipe,
    data: Project | Runs | Source | Sequence[Project | Runs | Source],
    out: str | Path,
    options: FitOptions | None = None,
    *,
    overrides: Sequence[str] = (),
    val_runs: Sequence[str] | None = None,
    **how: Any,
) -> Detector:
    """Trains a method on picks and writes the model folder, with a picture of how it went.

    Args:
        recipe: the method, or its name.
        data: what to learn from, together; `Runs` where runs, a tomogram type or picks are chosen.
        out: model folder to make; it exists already only to resume.
        options: how to train.
        overrides: of the recipe, each `section.field=value`.
        val_runs: to validate on, of the first project; None: a fifth of the labelled ones.
        how: fields of `FitOptions`, in place of those of `options`: seed, device, objects, init_from, resume ...

    Raises:
        TomopickError: a recipe, data or options that do not fit.
    """
    from . import recipes
    from .core.errors import RecipeError
    from .core.messages import with_fields
    from .data.runs import Runs
    from .look.doctor import before_training, warn
    from .look.sections import draw_training
    from .training.fit import FitOptions
    from .training.fit import fit as train
    from .training.recipe import Recipe
    from .training.sources import Source

    method = recipes.get(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(method, Recipe):
        raise RecipeError(f"found {type(recipe).__name__} where a recipe or its name is expected, such as 'light'")
    sources: list[Source] = []
    parts: Sequence[Any] = data if isinstance(data, (list, tuple)) else [data]
    for part in parts:
        if not isinstance(part, Source):
            part = Source(Runs.of(part), None if sources else val_runs)
        sources.append(part)
    changes = [overrides] if isinstance(overrides, str) else overrides
    method = method.override(changes)
    given = with_fields(options or FitOptions(), how)
    given = given if given.draw else replace(given, draw=draw_training)
    for source in (s for s in sources if s.labelled):
        warn(before_training(source.named, given.add or given.objects))
    return train(method, sources, out, given)


def simulate(shape: tuple[int, int, int], out: str | Path, **how: Any) -> Project:
    """Writes a copick project of simulated runs with their true picks (`*:simulation/0`), and opens it.

    Args:
        shape: of the tomograms (z, y, x) [voxels].
        out: folder of the project; repeated with the same arguments, only missing runs are made.
        how: arguments of `simulate_project`: runs, seed, tomo_types, preset, settings, workers ...

    Raises:
        TomopickError: arguments that do not fit, or `out` holds something else.
    """
    from .core.messages import require_arguments
    from .data import open_project
    from .simulation.projects import simulate_project

    require_arguments(simulate_project, how)
    simulate_project(Path(out), shape, **how)
    return open_project(Path(out) / "copick.json")


def combine(
    models: Sequence[str | Path | Model], out: str | Path, *, on: Project | Runs | None = None, **how: Any
) -> Ensemble:
    """Writes the folder of an ensemble, which averages the models' heatmaps.

    Args:
        models: of any family, size and voxel spacing, or what `load` takes.
        out: folder to make.
        on: labelled runs to measure weights and thresholds on.
        how: fields of `CombineOptions`: weights, per_object, align, metric, device ...

    Raises:
        TomopickError: models that do not fit, or nothing to measure on where something is to be measured.
    """
    from .core.messages import with_fields
    from .data.runs import Runs
    from .models.combine import CombineOptions
    from .models.combine import combine as made

    options = with_fields(CombineOptions(), how)
    parts: list[Any] = [load(m) for m in models]
    return made(parts, Path(out), options, None if on is None else Runs.of(on))


def soup(
    models: Sequence[str | Path | Detector], out: str | Path, *, on: Project | Runs | None = None, **how: Any
) -> Detector:
    """Writes the folder of one model whose weights are the mean of several of one family.

    Args:
        models: with the same objects in the same order, or what `load` takes.
        out: folder to make.
        on: labelled runs to measure shares, statistics and thresholds on.
        how: fields of `SoupOptions`: weights, norm, metric, device.

    Raises:
        TomopickError: models that cannot be averaged, or nothing to measure on where something is to be measured.
    """
    from .core.messages import with_fields
    from .data.runs import Runs
    from .models.soup import SoupOptions, make_soup
    from .picking.load import load_detector

    parts = [load_detector(m) if isinstance(m, (str, Path)) else m for m in models]
    return make_soup(parts, Path(out), with_fields(SoupOptions(), how), None if on is None else Runs.of(on))


def calibrate(
    model: str | Path,
    on: Project | Runs,
    *,
    folds: Sequence[str | Path | Model] = (),
    write: bool = True,
    **how: Any,
) -> Calibrated:
    """Measures the best thresholds of a model on labelled runs, and writes them into its folder.

    Args:
        model: its folder.
        on: labelled runs.
        folds: models of a cross-validation; each run is picked by one that has not learned from it.
        write: into the folder; what was there before is kept beside it.
        how: fields of `CalibrationOptions`: metric, smooth, map_scores, device.

    Raises:
        TomopickError: no truth, or a model that has no folder of its own.
    """
    from .core.messages import with_fields
    from .data.runs import Runs
    from .models.calibrate import CalibrationOptions, measure, write_thresholds

    options, target = with_fields(CalibrationOptions(), how), load(model)
    result = measure([load(m) for m in folds] or [target], Runs.of(on), options, target)
    if write:
        write_thresholds(Path(model), result, options)
    return result


def export(what: str | Path | Model | Project | Runs, out: str | Path, *, to: str, **how: Any) -> list[Path]:
    """Writes a model's network, or a project's picks, for other programs; gives the files.

    Args:
        what: a model (or its folder or name), or a project or `Runs` with picks.
        out: the file; of picks also a folder.
        to: `onnx`, `openvino`, `torchscript` or `tensorrt`; of picks `relion5`, `warp`, `dynamo`, `imod` ...
        how: of a model bound, overwrite; of picks the fields of `ExportOptions`.

    Raises:
        TomopickError: a format that is not known or cannot hold it, or a file that is there.
    """
    from .core.messages import require_arguments, with_fields
    from .data import Project
    from .data.exporting import ExportOptions, export_picks
    from .data.runs import Runs

    if isinstance(what, (Runs, Project)):
        return export_picks(what, to, Path(out), with_fields(ExportOptions(), how))
    from .models.export import export_model
    from .picking.load import load_detector

    require_arguments(export_model, how)
    detector: Any = load_detector(what) if isinstance(what, (str, Path)) else what
    return [export_model(detector, Path(out), to, **how).path]


def report(
    what: str | Path | Model | Picks | Mapping[str, Picks],
    out: str | Path,
    *,
    on: Project | Runs,
    thresholds: Mapping[str, float] | None = None,
    title: str | None = None,
    **how: Any,
) -> Path:
    """Writes one HTML file to look at picks with; gives its path.

    Args:
        what: a model (or its folder or name), which picks the runs down to a low score; or picks, by run.
        out: the file.
        on: the tomograms, and true picks where there are any; `Runs` where runs, a type or whose picks are chosen.
        thresholds: by object, where the sliders open; None: the model's.
        title: heading of the page.
        how: of a model, fields of `PickOptions`.

    Raises:
        TomopickError: no such runs, no truth, or picks of other runs.
    """
    from .core.types import Picks
    from .look.page.memory import page_of
    from .look.page.page import write_report

    given: Any = what if isinstance(what, (Mapping, Picks)) else load(what)
    write_report(page_of(given, on, thresholds, title, how), Path(out))
    return Path(out)


def _model(value: Any) -> Any:
    """What is a model; else one clear line."""
    from .core.errors import ModelError
    from .picking.detector import Detector
    from .picking.ensemble import Ensemble

    if not isinstance(value, (Detector, Ensemble)):
        raise ModelError(
            f"found {type(value).__name__} where a model is expected; give one, its folder, or a name such as 'default'"
        )
    return value
