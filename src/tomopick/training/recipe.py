"""A method as a value: what is drawn, learned, minimised and decoded, with overrides and JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ModelError, RecipeError
from ..core.specs import Overrides, decode, encode
from ..networks import (
    AsymmetricUNetSpec,
    BPDUNetSpec,
    FlexibleUNetSpec,
    JPUNet25DSpec,
    NetworkSpec,
    ResidualUNetSpec,
    UNet25DSpec,
    UNetSpec,
)
from ..networks.losses import DenseCrossEntropy, DiceCrossEntropy, FocalTversky, HeatmapWeightedMSE, Loss, ReweightedMSE
from ..picking.decoders import Components, UpsampledMaxima, Watershed
from ..picking.normalize import FixedLimits, Normalization, RobustNormalization, ZScore
from ..picking.peaks import LocalMaxima, PeakFinder
from ..picking.published_tilings import EvenTiles, FlatWindow, ScanTiles, StepTiles
from ..picking.tiling import GaussianWindow, LinearWindow, SteepWindow, Tiling, TilingSpec
from .augment import Augmentation, Blur, DropBlock, Flip, Noise, Rot90, Rotate, ScaleShift
from .loop import TrainSpec
from .mean_teacher import MeanTeacherSpec
from .objectives import ObjectiveSpec, SupervisedSpec
from .patches import PatchSpec
from .schedules import Cosine, Plateau, StepDecay
from .targets import BallTarget, FixedGaussianTarget, GaussianTarget, VoxelTarget


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
    normalize: Normalization = field(default_factory=RobustNormalization)
    target: Any = field(default_factory=GaussianTarget)  # any `heatmap.Target`
    patch: PatchSpec = field(default_factory=PatchSpec)
    augment: Augmentation = field(default_factory=Augmentation)
    network: NetworkSpec = field(default_factory=UNetSpec)
    loss: Loss = field(default_factory=HeatmapWeightedMSE)
    objective: ObjectiveSpec = field(default_factory=SupervisedSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    tiling: Tiling = field(default_factory=TilingSpec)
    peaks: PeakFinder = field(default_factory=LocalMaxima)

    def __post_init__(self) -> None:
        for section, shape in (("patch", self.patch.shape), ("tiling", getattr(self.tiling, "shape", None))):
            if shape and any(n % self.network.multiple for n in shape):
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
        return _OVERRIDES(self, assignments)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return encode(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises:
            ModelError: an unknown class or field (a newer version's, perhaps).
        """
        recipe = decode(data, _CLASSES, "recipe.json")
        if not isinstance(recipe, cls):
            raise ModelError("this is no recipe: expected the JSON of a Recipe")
        return recipe


_NETWORKS = (
    UNetSpec, BPDUNetSpec, ResidualUNetSpec, FlexibleUNetSpec, AsymmetricUNetSpec, UNet25DSpec, JPUNet25DSpec,
)  # fmt: skip
_LOSSES = (HeatmapWeightedMSE, ReweightedMSE, DenseCrossEntropy, DiceCrossEntropy, FocalTversky)

# Classes that may stand in one another's place.
_FAMILIES: tuple[tuple[type, ...], ...] = (
    (RobustNormalization, ZScore, FixedLimits),
    (LocalMaxima, UpsampledMaxima, Components, Watershed),
    (LinearWindow, SteepWindow, GaussianWindow, FlatWindow),
    (Cosine, StepDecay, Plateau),
    (TilingSpec, ScanTiles, StepTiles, EvenTiles),
    (Flip, Rot90, Rotate),
    (Noise, ScaleShift, Blur, DropBlock),
    (SupervisedSpec, MeanTeacherSpec),
    (GaussianTarget, FixedGaussianTarget, BallTarget, VoxelTarget),
    _LOSSES,
    _NETWORKS,
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
