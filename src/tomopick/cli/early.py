"""What a typo is refused by, before anything heavy is loaded: callbacks of options, and looks at what was named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from ..core.errors import ReadError, TomopickError
from ..core.names import device_objection, shown


def one_device(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A word that can be a device; whether it is there is asked later."""
    if reason := device_objection(value):
        raise TomopickError(f"device {shown(value)} cannot be used ({reason}); use another: cpu always works")
    return value


def devices(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Words that can be devices, with commas between; `cuda:all` is all GPUs."""
    for name in value.split(","):
        if name != "cuda:all":
            one_device(ctx, param, name)
    return value


def metric(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A metric that a model may have thresholds for."""
    from ..scoring.metrics import metric_name

    metric_name(value)
    return value


def objects(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Objects with radii, each NAME:RADIUS."""
    from ..data.objects import require_one_radius

    require_one_radius(value, param.name or "objects")
    return value


def regions(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Parts of runs, each RUN=z0:z1,y0:y1,x0:x1."""
    from ..data.regions import LabelledBox

    for text in value:
        LabelledBox.parse(text)
    return value


def densities(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Densities of objects, whose files are there; the name may be left out where the option is `maps`."""
    from ..data.objects import density_parts

    for text in value:
        name, path, _ = density_parts(text, param.name or "densities")
        if not Path(os.path.expanduser(path)).is_file():
            raise ReadError(f"{path}: there is no such file; expected the density of '{name}'")
    return value


def require_places(places: Iterable[str | Path | None]) -> None:
    """Raises `ReadError` for a project that is not there."""
    from ..data.open import require_there

    for place in places:
        if place is not None:
            require_there(place)


def require_models(names: Iterable[str]) -> None:
    """Raises `ModelError` for what is neither a model's folder, nor anything else that is there, nor ships."""
    from ..picking.folder import is_model, no_model

    for name in names:
        if not Path(name).exists() and not is_model(name):
            raise no_model(name)


def require_picks(*whats: str | None) -> None:
    """Raises `ReadError` for what is neither there nor a model that ships: picks, or a model that picks first."""
    from ..data.open import require_there
    from ..picking.folder import is_model, shipped

    for what in whats:
        if what is not None and not is_model(what):
            require_there(what, shipped())


def require_order(first: str, second: str, verb: str) -> None:
    """Raises where a model was given where a project is meant, and what is no model where the model is."""
    from ..picking.folder import is_model

    if not is_model(first) and is_model(second):
        raise TomopickError(f"{second} is a model, which comes first: tomopick {verb} {second} {first}")


def require_picking_settings(models: Sequence[str], overrides: Sequence[str]) -> None:
    """Raises for settings, each `section.field=value`, that a model's folder says it does not have."""
    if not overrides:
        return
    from ..picking.folder import read_record, require_picking, shipped
    from .settings import require_settings_of_model

    require_picking(overrides)
    for model in models:
        recipe = (Path(model) if Path(model).exists() else shipped()[model]) / "recipe.json"
        if recipe.is_file():  # of an ensemble its members say so, once they are loaded
            require_settings_of_model(read_record(recipe), overrides)


def require_simulated(tomo_types: Sequence[str], overrides: Sequence[str]) -> None:
    """Raises for tomogram types and settings, each `section.field=value`, that a simulation does not have."""
    from ..core.presets import require_types
    from .settings import SIMULATION, require_settings

    require_types(tomo_types)
    require_settings(SIMULATION, overrides)


def require_sides(what: str, place: str, verb: str) -> None:
    """Picks or a model before a project, all of which are there."""
    require_order(what, place, verb)
    require_picks(what)
    require_places([place])


def require_recipe(name: str, overrides: Sequence[str], whole: bool) -> None:
    """Raises for a recipe that is none, and for settings that it does not have.

    Args:
        name: of a recipe; or of a published method, to be trained whole.
        overrides: each `section.field=value`.
        whole: whether all trainings of a published method are meant.
    """
    from .. import recipes
    from .settings import require_settings

    members = recipes.PUBLISHED[recipes.method_of(name)] if whole else (name,)
    if not whole:
        recipes.require_method(name)
        if name not in recipes.names():
            raise TomopickError(
                f"'{name}' is a method of several recipes ({', '.join(recipes.PUBLISHED[name])}): take one of them, "
                "or --as-published"
            )
    for recipe in members:
        require_settings(recipe, overrides)
