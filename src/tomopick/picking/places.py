"""Where picks may lie, as a user says it: in masks, out of them, away from the border, facing a surface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..core.errors import SelectionError


@dataclass(frozen=True)
class Places:
    """Where picks are kept.

    Attributes:
        inside: masks; a pick lies in one of them at least.
        outside: masks that a pick lies in none of.
        within: how far out of `inside` a pick may lie [Å]; below 0: how deep in it must.
        beyond: how far away from `outside` it must lie [Å].
        border: how far away from the volume's faces [Å].
        z_range: `10:140` in voxels, or `100:1400A`.
        orient_to: a mask whose nearest surface gives picks their rotation.
        clean: a model of sample, gold and carbon; picks lie in the one and not on the others.
    """

    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    within: float = 0.0
    beyond: float = 0.0
    border: float = 0.0
    z_range: str = ""
    orient_to: str = ""
    clean: str = ""

    def __post_init__(self) -> None:
        for name in ("within", "beyond", "border"):
            if not math.isfinite(getattr(self, name)):
                raise SelectionError(f"`{name}={getattr(self, name):g}`: expected a finite number of Å")
        if self.z_range:
            from ..data.regions import Span

            try:
                span = Span.parse(self.z_range)
            except SelectionError as error:
                raise SelectionError(f"`z_range={self.z_range}`: {error}") from None
            if not span.angstrom and min(v for v in (span.start, span.stop, 0.0) if v is not None) < 0:
                raise SelectionError(
                    f"`z_range={self.z_range}`: sections are counted from 0; expected 10:40, or Å as 100:400A"
                )
        for name, needs in (("within", self.inside), ("beyond", self.outside)):
            if getattr(self, name) and not needs:
                other = {"within": "inside", "beyond": "outside"}[name]
                raise SelectionError(f"`{name}={getattr(self, name):g}`: from what? give a mask with `{other}`")

    def __bool__(self) -> bool:
        return self != Places()

    def settings(self) -> dict[str, Any]:
        """As JSON values, but what is as it is without."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if v != getattr(Places(), k)}
