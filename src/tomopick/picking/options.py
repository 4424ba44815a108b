"""How to pick, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .places import Places


@dataclass(frozen=True)
class PickOptions:
    """How to pick.

    Attributes:
        metric: whose calibrated thresholds are used: `f1`, `czii`, or such as `precision=0.9`.
        thresholds: by object, in place of the calibrated ones.
        min_distances: by object, smallest distance between two picks, in place of the model's [Å].
        keep_below: write picks under the threshold too, down to a score of 0.02.
        exclude: whether picks of different objects compete for a density; None: as the method says.
        views: test-time augmentation, a key of `predict.VIEWS`; None: what each method says.
        invert: the runs that have light particles on dark; True: all.
        offset: `none`, or `fitted` to take the displacement out that training measured.
        save_heatmaps: write heatmaps/RUN_OBJECT_heatmap.mrc beside the picks.
        user_id, session_id: of the picks in a copick project.
        device: where to run.
        engine: what runs the networks, a key of `engines.ENGINES`, or `auto`.
        precision: that it computes in: `half`, `f32` or `int8`.
        overrides: `tiling.field=value` and `peaks.field=value`, of each network's method.
        places: where picks are kept; of runs of a project.
    """

    metric: str = "f1"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    min_distances: Mapping[str, float] = field(default_factory=dict)
    keep_below: bool = False
    exclude: bool | None = None
    views: str | None = None
    invert: bool | tuple[str, ...] = False
    offset: str = "none"
    save_heatmaps: bool = False
    user_id: str = "tomopick"
    session_id: str = "0"
    device: str = "auto"
    engine: str = "auto"
    precision: str = "half"
    overrides: tuple[str, ...] = ()
    places: Places = field(default_factory=Places)

    def settings(self) -> dict[str, Any]:
        """What decides the picks, as JSON values.

        Where and with which engine it runs does not: float32 and half precision differ by rounding, which moves a
        score by about a hundredth, and a batch that goes on on another machine must not start anew for that. Eight
        bits cost more, so they count.
        """
        aside = ("device", "engine", "precision", "thresholds", "min_distances", "overrides", "exclude", "places")
        settings = {k: v for k, v in vars(self).items() if k not in aside} | {"thresholds": dict(self.thresholds)}
        more = {
            "min_distances": dict(self.min_distances),
            "overrides": list(self.overrides),
            "places": self.places.settings(),
        }
        settings |= {k: v for k, v in more.items() if v} | ({} if self.exclude is None else {"exclude": self.exclude})
        return settings | ({"precision": "int8"} if self.precision == "int8" else {})
