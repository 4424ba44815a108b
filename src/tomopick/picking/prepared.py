"""A tomogram as networks see it, and what picking asks of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..core.arrays import Array, is_tensor, to_host
from ..core.types import Grid, PickableObject, Tomogram, holds
from ..networks.engines import EngineSpec
from .folder import TrainingFacts
from .method import Method
from .predict import Predictor

if TYPE_CHECKING:
    from .masking import RunPlaces


@dataclass(frozen=True)
class Prepared:
    """A tomogram as networks see it; its own grey values are given up, for volumes are the largest thing in memory.

    Attributes:
        run: its name.
        grid: its own.
        members: normalised (z, y, x) values and their grid, by number of the member; tensors where it is picked on a
            device.
        found: what is unlike the training, one line each.
        void: (z, y, x) bool, where the tomogram holds no specimen; None: nowhere.
        places: where its picks are kept; None: everywhere.
    """

    run: str
    grid: Grid
    members: Mapping[int, tuple[Array, Grid]]
    found: tuple[str, ...] = ()
    void: np.ndarray | None = None
    places: RunPlaces | None = None

    def holds(self, positions: np.ndarray) -> np.ndarray:
        """(n, 3) positions, zyx [Å] -> (n,) bool: inside the volume and in its specimen."""
        return holds(self.grid, self.void, positions)

    @property
    def on_device(self) -> bool:
        """Whether its values are a device's."""
        return any(is_tensor(values) for values, _ in self.members.values())

    def on_host(self) -> Prepared:
        """The same in the host's memory."""
        return replace(self, members={i: (to_host(values), grid) for i, (values, grid) in self.members.items()})


class Single(Protocol):
    """One network of a model and how it sees a tomogram: what picking asks of a `Detector`."""

    @property
    def name(self) -> str:
        """Folder or shipped name."""

    @property
    def method(self) -> Method:
        """What it needs to pick."""

    @property
    def objects(self) -> tuple[PickableObject, ...]:
        """In channel order."""

    @property
    def facts(self) -> TrainingFacts:
        """Of its training."""

    def prepare(self, tomogram: Tomogram) -> tuple[Array, Grid]:
        """Normalised values at the network's voxel spacing, and their grid."""

    def findings(self, tomogram: Tomogram, values: Array) -> list[str]:
        """What is unlike the training's volumes, one line each."""

    def predictor(
        self, device: str | torch.device = "auto", views: str | None = None, engine: EngineSpec | None = None
    ) -> Predictor:
        """The network ready to run, kept from call to call."""
