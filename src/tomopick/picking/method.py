"""What a trained network needs to pick: the half of a recipe that says nothing about how it was taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ModelError, RecipeError
from ..core.specs import Overrides, decode, encode, fitting
from ..networks import (
    AsymmetricUNetSpec,
    BPDUNetSpec,
    DeepFinderUNetSpec,
    FeaturePyramidSpec,
    FlexibleUNetSpec,
    JPUNet25DSpec,
    NetworkSpec,
    ResidualUNetSpec,
    UNet25DSpec,
    UNetSpec,
    VNetSpec,
)
from ..networks.activations import Activation, Rectified, Sigmoid, Softmax
from .decoders import Components, UpsampledMaxima, Watershed
from .folder import require_picking
from .normalize import FixedLimits, Normalization, RobustNormalization, ZScore
from .peaks import LocalMaxima, PeakFinder
from .predict import VIEWS
from .published_tilings import EvenTiles, FlatWindow, ScanTiles, StepTiles
from .tiling import GaussianWindow, LinearWindow, SteepWindow, Tiling, TilingSpec


@dataclass(frozen=True)
class Method:
    """What a model needs to pick.

    Attributes:
        name, source: of the method.
        voxel_spacing: tomograms are resampled to it [Å]; None: to that of the training data.
        normalize: grey values.
        network: that gives logits.
        activation: what they mean.
        tiling: how a volume is cut.
        views: whose heatmaps are averaged (test-time augmentation), a key of `predict.VIEWS`.
        peaks: how particles are found in a heatmap.
        exclusion: of two objects' picks nearer than this part of the smaller radius only the surer one stays; 0: both.
    """

    name: str
    source: str
    voxel_spacing: float | None = None
    normalize: Normalization = field(default_factory=RobustNormalization)
    network: NetworkSpec = field(default_factory=UNetSpec)
    activation: Activation = field(default_factory=Rectified)
    tiling: Tiling = field(default_factory=TilingSpec)
    views: str = "none"
    peaks: PeakFinder = field(default_factory=LocalMaxima)
    exclusion: float = 0.0

    def __post_init__(self) -> None:
        if self.views not in VIEWS:
            raise RecipeError(f"views cannot be '{self.views}'; expected one of {', '.join(VIEWS)}")
        if not 0 <= self.exclusion <= 2:
            raise RecipeError(f"exclusion is {self.exclusion:g}; expected a part of the smaller radius, from 0 to 2")
        require_multiple("tiling", self.tiling.shape, self.network)

    def picking(self, assignments: Sequence[str]) -> Method:
        """The same network with `tiling.field=value` and `peaks.field=value` applied, all at once.

        Raises:
            RecipeError: another section, which decided how the network was taught; an unknown field (with the nearest
                name); or a value that does not fit.
        """
        require_picking(assignments)
        return Overrides(FAMILIES, RecipeError, "tiling.overlap=32")(self, assignments)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the inverse."""
        return encode(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Method:
        """The method of a recipe that was written as JSON; how it was taught may be of any version, and is not read.

        Whoever adds a field that decides the picks raises `FORMAT_VERSION`, and has `version_of` ask for it, for an
        older version would not see it here.

        Raises:
            ModelError: an unknown class or field in a part that picking needs (a newer version's, perhaps).
        """
        if data.get("class") not in ("Method", "Recipe"):
            raise ModelError("this is no recipe: expected the JSON of a Recipe")
        file = "recipe.json"
        parts = {f: decode(data[f], CLASSES, file, FAMILIES) for f in cls.__dataclass_fields__ if f in data}
        if "activation" not in data and "loss" in data:  # written before activations were
            from ..networks.losses import LOSSES

            loss = decode(data["loss"], {c.__name__: c for c in LOSSES}, file)
            if not isinstance(loss, LOSSES):
                raise ModelError(f"{file}: {type(loss).__name__} is no loss; restore the folder or train again")
            parts["activation"] = loss.activation
        return cls(**{name: fitting(cls, name, value, file, FAMILIES) for name, value in parts.items()})


def require_multiple(section: str, shape: tuple[int, ...] | None, network: NetworkSpec) -> None:
    """Raises `RecipeError` where a network cannot take the `shape` of a section; None: it has none."""
    if shape and any(n % network.multiple for n in shape):
        raise RecipeError(
            f"{section}.shape is {','.join(map(str, shape))}; every edge must be a multiple of "
            f"{network.multiple} for this network"
        )


NETWORKS = (
    UNetSpec, BPDUNetSpec, ResidualUNetSpec, FlexibleUNetSpec, AsymmetricUNetSpec, UNet25DSpec, JPUNet25DSpec,
    VNetSpec, FeaturePyramidSpec, DeepFinderUNetSpec,
)  # fmt: skip

# Classes that may stand in one another's place.
FAMILIES: tuple[tuple[type, ...], ...] = (
    (RobustNormalization, ZScore, FixedLimits),
    (LocalMaxima, UpsampledMaxima, Components, Watershed),
    (LinearWindow, SteepWindow, GaussianWindow, FlatWindow),
    (TilingSpec, ScanTiles, StepTiles, EvenTiles),
    (Rectified, Sigmoid, Softmax),
    NETWORKS,
)

# Every class that the JSON of a method may hold, by name.
CLASSES: dict[str, type] = {c.__name__: c for c in (Method, *(c for family in FAMILIES for c in family))}
