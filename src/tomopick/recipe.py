"""A method as a value: what is drawn, learned, minimised and decoded, with overrides and JSON both ways."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from .augment import Augmentation, Blur, Flip, Noise, Rot90, Rotate, ScaleShift
from .errors import ModelError, RecipeError
from .heatmap import BallTarget, FixedGaussianTarget, GaussianTarget, VoxelTarget
from .losses import DenseCrossEntropy, DiceCrossEntropy, FocalTversky, HeatmapWeightedMSE, Loss, ReweightedMSE
from .networks import (
    AsymmetricUNetSpec,
    BPDUNetSpec,
    FlexibleUNetSpec,
    JPUNet25DSpec,
    NetworkSpec,
    ResidualUNetSpec,
    UNet25DSpec,
    UNetSpec,
)
from .normalize import RobustNormalization
from .objectives import SupervisedSpec
from .patches import PatchSpec
from .peaks import LocalMaxima
from .tiling import GaussianWindow, LinearWindow, TilingSpec
from .train import TrainSpec


@dataclass(frozen=True)
class Recipe:
    """A picking method.

    Attributes:
        name, source: of the method.
        voxel_spacing: tomograms are resampled to it [Å]; None: to that of the training data.
        normalize, target, patch, augment, network, loss, objective, train: how it learns.
        tiling, peaks: how it picks.
    """

    name: str
    source: str
    voxel_spacing: float | None = None
    normalize: RobustNormalization = field(default_factory=RobustNormalization)
    target: Any = field(default_factory=GaussianTarget)  # any `heatmap.Target`
    patch: PatchSpec = field(default_factory=PatchSpec)
    augment: Augmentation = field(default_factory=Augmentation)
    network: NetworkSpec = field(default_factory=UNetSpec)
    loss: Loss = field(default_factory=HeatmapWeightedMSE)
    objective: SupervisedSpec = field(default_factory=SupervisedSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    tiling: TilingSpec = field(default_factory=TilingSpec)
    peaks: LocalMaxima = field(default_factory=LocalMaxima)

    def __post_init__(self) -> None:
        for section, shape in (("patch", self.patch.shape), ("tiling", self.tiling.shape)):
            if any(n % self.network.multiple for n in shape):
                raise RecipeError(
                    f"{section}.shape is {','.join(map(str, shape))}; every edge must be a multiple of "
                    f"{self.network.multiple} for this network"
                )

        wants, has = getattr(self.loss, "background", ""), getattr(self.network, "background", False)
        if bool(wants) != has:
            loss, network = type(self.loss).__name__, type(self.network).__name__
            raise RecipeError(
                f"loss {loss} {'needs a' if wants else 'has no'} channel for the background, but network {network} "
                f"has {'one' if has else 'none'}; take another of the two"
                + (f", or set network.background={str(not has).lower()}" if hasattr(self.network, "background") else "")
            )

    def override(self, assignments: Sequence[str]) -> Recipe:
        """The recipe with `section.field=value` applied, all at once.

        Raises:
            RecipeError: an unknown section or field (with the nearest name), or a value that does not fit.
        """
        changes: dict[str, Any] = {}
        for text in assignments:
            path, equals, value = text.partition("=")
            if not equals or not path:
                raise RecipeError(f"'{text}' is not an override; write section.field=value, for example train.lr=3e-4")
            section, _, name = path.partition(".")
            current = changes.get(section, _get(self, section))
            if name and not is_dataclass(current):
                raise RecipeError(f"Recipe.{section} has no parts; write {section}=value")
            if name:
                changes[section] = _replace(current, name, value)
            else:
                changes[section] = _parse_field(self, section, value, path)
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return _encode(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises:
            ModelError: an unknown class or field (a newer version's, perhaps).
        """
        recipe = _decode(data)
        if not isinstance(recipe, cls):
            raise ModelError("this is no recipe: expected the JSON of a Recipe")
        return recipe


_NETWORKS = (
    UNetSpec, BPDUNetSpec, ResidualUNetSpec, FlexibleUNetSpec, AsymmetricUNetSpec, UNet25DSpec, JPUNet25DSpec,
)  # fmt: skip
_LOSSES = (HeatmapWeightedMSE, ReweightedMSE, DenseCrossEntropy, DiceCrossEntropy, FocalTversky)

# Classes that may stand in one another's place.
_FAMILIES: tuple[tuple[type, ...], ...] = (
    (LinearWindow, GaussianWindow),
    (Flip, Rot90, Rotate),
    (Noise, ScaleShift, Blur),
    (GaussianTarget, FixedGaussianTarget, BallTarget, VoxelTarget),
    _LOSSES,
    _NETWORKS,
)

# Every class that a recipe may hold, by the name it has in JSON.
_CLASSES: dict[str, type] = {
    c.__name__: c
    for c in (
        *(Recipe, RobustNormalization, PatchSpec, Augmentation, SupervisedSpec, TrainSpec, TilingSpec, LocalMaxima),
        *(c for family in _FAMILIES for c in family),
    )
}


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or a list of all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; there is {', '.join(sorted(known))}"


def _get(spec: Any, name: str) -> Any:
    names = [f.name for f in fields(spec)]
    if name not in names:
        inside = [f"{s}.{name}" for s in names if is_dataclass(getattr(spec, s)) and hasattr(getattr(spec, s), name)]
        if isinstance(spec, Recipe) and len(inside) == 1:
            raise RecipeError(f"Recipe has no field '{name}'; did you mean '{inside[0]}'?")
        raise RecipeError(f"{type(spec).__name__} has no field '{name}'{did_you_mean(name, names)}")
    return getattr(spec, name)


def _hint(spec: Any, name: str) -> Any:
    return typing.get_type_hints(type(spec))[name]


def _replace(spec: Any, path: str, value: str) -> Any:
    """`spec` with the field that `path` leads to replaced; a tuple of steps is entered by a step's name or number."""
    name, _, rest = path.partition(".")
    if isinstance(spec, tuple):
        names = [type(s).__name__.lower() for s in spec]
        i = int(name) if name.isdigit() else names.index(name.lower()) if name.lower() in names else len(spec)
        if i >= len(spec) or not rest:
            raise RecipeError(f"no step '{path}'; write STEP.field=value, where STEP is {', '.join(names) or 'absent'}")
        return (*spec[:i], _replace(spec[i], rest, value), *spec[i + 1 :])
    current = _get(spec, name)
    if rest and isinstance(current, Mapping):
        return dataclasses.replace(spec, **{name: {**current, rest: _parse(float, value, path)}})
    if rest and (is_dataclass(current) or _kinds(current)):
        return dataclasses.replace(spec, **{name: _replace(current, rest, value)})
    if rest:
        raise RecipeError(f"{type(spec).__name__}.{name} has no parts; write {name}=value")
    return dataclasses.replace(spec, **{name: _parse_field(spec, name, value, f"{type(spec).__name__}.{name}")})


def _kinds(value: Any) -> dict[str, type]:
    """The classes that may stand where `value`, a part or a tuple of steps, stands; none for plain values."""
    steps = value if isinstance(value, tuple) else (value,)
    family = next((f for f in _FAMILIES if steps and isinstance(steps[0], f)), ())
    own = (type(value),) if is_dataclass(value) else ()
    return {kind.__name__: kind for kind in family or own}


def _parse_field(spec: Any, name: str, text: str, where: str) -> Any:
    """A whole field: a plain value, or the names of the classes of a part or of steps, which get their defaults."""
    current = getattr(spec, name)
    kinds = _kinds(current)
    if not kinds:
        return _parse(_hint(spec, name), text, where)
    if isinstance(current, tuple) and text.lower() == "none":
        return ()
    names = text.split(",") if isinstance(current, tuple) else [text]
    if not set(names) <= set(kinds):
        raise RecipeError(f"{where} cannot be '{text}'; expected {' or '.join(kinds)}, or set one of its fields")
    made = tuple(kinds[n]() for n in names)
    return made if isinstance(current, tuple) else made[0]


def _parse(hint: Any, text: str, where: str) -> Any:
    """Text -> a value of the type that the field declares."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in args:
            return None
        return _parse(next(a for a in args if a is not type(None)), text, where)
    try:
        if origin is tuple:
            items = text.strip("()").split(",")
            kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
            if len(items) != len(kinds):
                raise ValueError
            return tuple(_parse(kind, item, where) for kind, item in zip(kinds, items))
        if hint is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if hint in (int, float, str) and text:
            return hint(text)
    except (ValueError, KeyError):
        pass
    kind = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise RecipeError(f"{where} cannot be '{text}'; expected {kind}")


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **{f.name: _encode(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if not isinstance(value, Mapping):
        return value
    if "class" not in value:
        return {k: _decode(v) for k, v in value.items()}
    name = value["class"]
    if name not in _CLASSES:
        raise ModelError(f"recipe.json names the class '{name}', which this version does not know: update tomopick")
    kind = _CLASSES[name]
    known = {f.name for f in fields(kind)}
    unknown = set(value) - known - {"class"}
    if unknown:
        raise ModelError(f"recipe.json: {name} has no field '{sorted(unknown)[0]}': update tomopick")
    return kind(**{k: _decode(v) for k, v in value.items() if k != "class"})
