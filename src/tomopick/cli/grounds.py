"""What `train` is to learn from and how, of its arguments and options: the projects looked over, and the trainings."""

from __future__ import annotations

from math import isclose
from typing import Any

from ..core.errors import SelectionError, TomopickError
from .options import WHERE_LABELLED, given_for, named_runs

_OF_SEVERAL = ("as_published", "seeds", "folds", "subset", "pretrain")


def is_planned(choices: dict[str, Any]) -> bool:
    """Whether several trainings are asked for."""
    return any(choices[key] for key in _OF_SEVERAL)


def hold(choices: dict[str, Any], learn: list[str] | None) -> None:
    """Puts into `choices`, as "name:radius", the objects that a model holds to which others are added.

    Raises:
        SelectionError: there is no model to add to, or it knows the object already, or another radius is stated of one.
    """
    choices["held"] = ()
    if not choices["add"]:
        return
    if choices.get("maps"):
        raise TomopickError("--from-map names what is learned beside all that --init-from knows; leave --add out")
    from ..data.objects import object_and_radius, require_one_radius
    from ..picking.load import load_detector
    from ..training.transfer import held_objects, require_addable

    names = [spec.partition(":")[0] for spec in choices["add"]]
    require_addable(names, bool(choices["pretrain"]))
    start = load_detector(choices["init_from"]) if choices["init_from"] else None
    known = {o.name: o for o in held_objects(start, names, learn)}
    for spec in choices["objects"]:
        name, radius = object_and_radius(spec)
        if start is not None and name in known and radius and not isclose(radius, known[name].radius_angstrom):
            raise SelectionError(
                f"`objects={spec}`: {start.name} knows {name} with a radius of {known[name].radius_angstrom:g} Å, "
                "which stays; leave it out"
            )
    require_one_radius([*choices["objects"], *choices["add"]], "add")
    choices["held"] = tuple(f"{o.name}:{o.radius_angstrom}" for o in known.values())


def fit_options(choices: dict[str, Any], learn: list[str] | None) -> Any:
    """How to train; objects that are added with a radius are defined by it, in `choices` too."""
    if "held" not in choices:
        hold(choices, learn)
    from ..look.sections import draw_training
    from ..training.fit import FitOptions

    names = ("device", "seed", "workers", "resume", "init_from", "weights_folder", "minutes", "patience")
    added = tuple(spec.partition(":")[0] for spec in choices["add"])
    choices["objects"] = (*choices["objects"], *(spec for spec in choices["add"] if ":" in spec))
    return FitOptions(**{key: choices[key] for key in names}, objects=learn, add=added, draw=draw_training)


def grounds_of(places: list[str], choices: dict[str, Any], learn: list[str] | None = None) -> Any:
    """The projects with what is read of each, looked over."""
    from ..data.runs import Runs
    from ..look.doctor import before_training, warn
    from ..recipes.shares import Grounds
    from ..training.sources import Source

    opened, hidden, further = _opened(places, choices)
    kinds = [_types(choices["tomo_type"], i, len(opened)) for i in range(len(opened))]
    sources = [
        Source(
            Runs(
                project,
                named_runs(choices["train_runs"], project, opened),
                kinds[i][0] if kinds[i] else None,
                given_for(choices["picks"], i, len(opened), "--picks"),
            ),
            named_runs(choices["val_runs"], project, opened),
            choices["drop_outside"],
            tuple(named_runs(choices["unlabelled_runs"], project, [*opened, *hidden]) or ()),
            _inverted(choices["invert"], project, [*opened, *hidden]),
            _negatives(choices["negatives"], i, opened),
            choices["all_labelled"],
        )
        for i, project in enumerate(opened)
    ]
    for source in sources:
        warn(before_training(source.named, choices["add"] or learn))
    if choices["unlabelled_tomo_type"] and not hidden:
        raise TomopickError("--unlabelled-tomo-type is of a project without labels; say which: --unlabelled PROJECT")
    first = choices["unlabelled_tomo_type"] or (kinds[0][0] if kinds[0] else None)
    for project in hidden:
        runs = named_runs(choices["unlabelled_runs"], project, [*opened, *hidden])
        inverted = _inverted(choices["invert"], project, [*opened, *hidden])
        sources.append(Source.unlabelled(Runs(project, runs or None, first), inverted))
    return Grounds(tuple(sources), tuple(kinds + [()] * len(hidden)), _simulated(choices, further))


def _negatives(values: tuple[str, ...], i: int, opened: list[Any]) -> str | None:
    """Those of project `i`: where one query is for several projects, folders among them have their own tables."""
    from ..data import FolderProject

    stated = given_for(values, i, len(opened), "--negatives")
    folders = [isinstance(project, FolderProject) for project in opened]
    return None if len(values) == 1 and folders[i] and not all(folders) else stated


def _inverted(invert: bool | tuple[str, ...], project: Any, projects: list[Any]) -> bool | tuple[str, ...]:
    """Of the runs that are named to be inverted those of a project."""
    return invert if isinstance(invert, bool) else tuple(named_runs(list(invert), project, projects) or ())


def _opened(places: list[str], choices: dict[str, Any]) -> tuple[list[Any], list[Any], Any]:
    """The projects, those without labels, and the one to pretrain on: each takes of the options what it can."""
    from ..data.open import open_projects

    further = [choices["pretrain"]] if choices["pretrain"] else []
    every = [*places, *choices["unlabelled"], *further]
    n = len(places)
    offsets = [given_for(choices["coordinate_offset"], i, n, "--coordinate-offset") or "none" for i in range(n)]
    alike = offsets[0] if len(set(offsets)) == 1 else "none"
    offsets += [alike] * (len(every) - n)
    given = {key: choices[key] for key in ("voxel_spacing", "objects", *WHERE_LABELLED)}
    try:
        opened = open_projects(every, **given, coordinate_offsets=offsets, held=choices["held"])
    except SelectionError as error:
        raise SelectionError(_as_added(str(error), choices["add"])) from None
    return opened[:n], opened[n : len(every) - len(further)], opened[-1] if further else None


def _as_added(text: str, add: tuple[str, ...]) -> str:
    """A message with the field that an object was given as."""
    for spec in add:
        text = text.replace(f"`objects={spec}`", f"`add={spec}`")
    return text


def _simulated(choices: dict[str, Any], project: Any) -> Any:
    """The project to pretrain on, looked over; None where there is none."""
    from ..data.runs import Runs
    from ..look.doctor import before_training, warn
    from ..training.sources import Source

    asked = {name: choices[f"pretrain_{name}"] for name in ("tomo_type", "picks", "val_runs")}
    if not choices["pretrain"]:
        for name in (name for name, value in asked.items() if value):
            flag = f"--pretrain-{name.replace('_', '-')}"
            raise TomopickError(f"{flag} is of the project to pretrain on; say which with --pretrain PROJECT")
        return None
    runs = Runs(project, tomo_type=asked["tomo_type"], picks=asked["picks"])
    source = Source(runs, named_runs(asked["val_runs"], project, [project]), role="simulated")
    with source.told():
        warn(before_training(runs))
    return source


def _types(values: tuple[str, ...], i: int, n: int) -> tuple[str, ...]:
    """The tomogram types of project `i` of `n`: several times the option of one project is as good as commas."""
    if n > 1:
        one = given_for(values, i, n, "--tomo-type")
        values = (one,) if one else ()
    return tuple(dict.fromkeys(t.strip() for value in values for t in value.split(",") if t.strip()))


def asked_plan(method: str, overrides: list[str], grounds: Any, options: Any, choices: dict[str, Any]) -> Any:
    """The trainings that are asked for."""
    from ..recipes.plans import Wanted, plan_of, published
    from ..recipes.shares import labelled_runs

    asked = {"seeds": choices["seeds"], "folds": choices["folds"], "subsets": choices["subset"]}
    runs = labelled_runs(grounds.sources[0])
    wanted = Wanted(
        tuple(overrides), options.seed, **asked, tomo_types=grounds.tomo_types[0], runs=runs,
        simulated=grounds.simulated is not None,
    )  # fmt: skip
    return (published if choices["as_published"] else plan_of)(method, wanted)
