"""Where a data set's picks say a voxel lies, when it is not where everybody else says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import near_miss
from ..core.presets import COORDINATE_OFFSETS, CZII_VOXEL_SPACING
from ..core.types import Picks, Vector


@dataclass(frozen=True)
class CoordinateOffset:
    """The convention of a data set: true index = position in the file / voxel spacing + offset.

    Attributes:
        voxels: the offset, zyx [voxels of the tomogram].
        voxel_spacing: [Å] of the tomograms the picks were made on, where the data set alone says so; used only when
            neither a tomogram nor the picks file tells.
    """

    voxels: Vector = (0.0, 0.0, 0.0)
    voxel_spacing: float | None = None

    @classmethod
    def parse(cls, value: str | Sequence[float] | CoordinateOffset) -> CoordinateOffset:
        """The offset of a preset's name (`none`, `czii`), of "z,y,x" or one number in voxels, or of three numbers.

        Raises:
            SelectionError: neither a preset nor one or three finite numbers.
        """
        if isinstance(value, CoordinateOffset):
            return value
        if isinstance(value, str):
            name = value.strip()
            if name in COORDINATE_OFFSETS:
                return cls(COORDINATE_OFFSETS[name], CZII_VOXEL_SPACING if name == "czii" else None)
            parts: Sequence[float | str] = name.split(",")
        else:
            parts = list(value)
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            numbers *= 3
        if len(numbers) != 3 or not np.all(np.isfinite(numbers)):
            hint = near_miss(str(value), COORDINATE_OFFSETS)
            raise SelectionError(f"no coordinate offset '{value}'; expected z,y,x in voxels or a preset; {hint}")
        return cls((numbers[0], numbers[1], numbers[2]))

    def __bool__(self) -> bool:
        """Whether there is anything to correct."""
        return any(self.voxels)

    def to_true(self, picks: Picks, voxel_spacing: float) -> Picks:
        """The picks at their true positions, from those a file has; spacing in Å."""
        return picks.shifted(np.asarray(self.voxels) * voxel_spacing)

    def to_file(self, picks: Picks, voxel_spacing: float) -> Picks:
        """The picks at the positions a file is to have, from the true ones; spacing in Å."""
        return picks.shifted(-np.asarray(self.voxels) * voxel_spacing)

    def spacing_for(self, tomogram: float | None, picks_file: float | None, where: str) -> float:
        """The voxel spacing the offset counts in [Å]: the tomogram's, else the picks file's, else the data set's.

        Raises:
            SelectionError: there is an offset and nobody tells the spacing.
        """
        for spacing in (tomogram, picks_file, self.voxel_spacing):
            if spacing:
                return float(spacing)
        if not self:
            return 1.0  # no offset: any number gives zero
        raise SelectionError(
            f"{where}: a coordinate offset is in voxels, but there is neither a tomogram nor a voxel spacing in the "
            "picks; say it with `voxel_spacing`"
        )
