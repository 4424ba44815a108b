"""A method and how it is taught, as one value: what is drawn, learned and minimised, with overrides and JSON both ways.

All that picking needs is in `Method`; a `Recipe` is one, and has the rest beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..core.errors import ModelError, RecipeError
from ..core.specs import Overrides, decode
from ..networks.activations import Activation
from ..networks.losses import LOSSES, HeatmapWeightedMSE, Loss
from ..picking import method
from ..picking.method import Method, require_multiple
from .augment import Augmentation, Blur, DropBlock, Flip, Noise, Rot90, Rotate, ScaleShift
from .loop import TrainSpec
from .mean_teacher import MeanTeacherSpec
from .objectives import ObjectiveSpec, SupervisedSpec
from .patches import PatchSpec
from .schedules import Cosine, Plateau, StepDecay
from .targets import BallTarget, FixedGaussianTarget, GaussianTarget, Target, VoxelTarget


@dataclass(frozen=True)
class Recipe(Method):
    """A picking method and how it is taught.

    Attributes:
        activation: the loss's; it cannot be chosen.
        target, patch, augment, loss, objective, train: how it learns.
        imagenet: timm's name of the weights that its 2D network (or one inflated from 2D) starts from; "none" for none.
    """

    activation: Activation = field(init=False)
    target: Target = field(default_factory=GaussianTarget)
    patch: PatchSpec = field(default_factory=PatchSpec)
    augment: Augmentation = field(default_factory=Augmentation)
    loss: Loss = field(default_factory=HeatmapWeightedMSE)
    objective: ObjectiveSpec = field(default_factory=SupervisedSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    imagenet: str = ""

    def __repr__(self) -> str:
        at = "" if self.voxel_spacing is None else f", at {self.voxel_spacing:g} Å"
        return f"<Recipe '{self.name}': {type(self.network).__name__}{at}; {self.source}>"

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", self.loss.activation)
        require_multiple("patch", self.patch.shape, self.network)
        super().__post_init__()
        wants, has = self.activation.background, self.network.background
        if bool(wants) != has:
            loss, network = type(self.loss).__name__, type(self.network).__name__
            raise RecipeError(
                f"loss {loss} {'needs a' if wants else 'has no'} channel for the background, but network {network} "
                f"has {'one' if has else 'none'}; take another of the two"
                + (f", or set network.background={str(not has).lower()}" if "background" in vars(self.network) else "")
            )

    @property
    def method(self) -> Method:
        """What picking needs of it."""
        return Method(**{f.name: getattr(self, f.name) for f in fields(Method)})

    def override(self, assignments: Sequence[str]) -> Recipe:
        """The recipe with `section.field=value` applied, all at once; stated steps hold wherever a training starts.

        Raises:
            RecipeError: an unknown section or field (with the nearest name), or a value that does not fit.
        """
        found = _OVERRIDES(self, assignments)
        names = {text.partition("=")[0] for text in assignments}
        if "train.steps" in names and "train.steps_from_model" not in names:
            return replace(found, train=replace(found.train, steps_from_model=0))
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises:
            ModelError: an unknown class or field (a newer version's, perhaps), or nothing on how it was taught.
        """
        if data.get("class") == Method.__name__:
            raise ModelError("recipe.json says how to pick and not how it was taught; it can only be picked with")
        recipe = decode({k: v for k, v in data.items() if k != "activation"}, _CLASSES, "recipe.json", _FAMILIES)
        if not isinstance(recipe, cls):
            raise ModelError("this is no recipe: expected the JSON of a Recipe")
        return recipe


# Classes that may stand in one another's place.
_FAMILIES: tuple[tuple[type, ...], ...] = (
    *method.FAMILIES,
    LOSSES,
    (Cosine, StepDecay, Plateau),
    (Flip, Rot90, Rotate),
    (Noise, ScaleShift, Blur, DropBlock),
    (SupervisedSpec, MeanTeacherSpec),
    (GaussianTarget, FixedGaussianTarget, BallTarget, VoxelTarget),
)

# Every class that a recipe may hold, by the name it has in JSON.
_CLASSES: dict[str, type] = {
    c.__name__: c
    for c in (
        *(Recipe, PatchSpec, Augmentation, TrainSpec),
        *(c for family in _FAMILIES for c in family),
    )
}

_OVERRIDES = Overrides(_FAMILIES, RecipeError, "train.lr=3e-4")
