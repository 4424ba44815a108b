"""The reliability diagram of a calibration, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ..scoring.score_maps import Believed

_BEFORE, _AFTER = "#d55e00", "#0072b2"  # told apart by colour-blind readers


def draw_reliability(believed: Mapping[str, Believed], folder: Path) -> Path:
    """Writes `reliability.png` into a folder: fraction right against score, before and after mapping, by object.

    A dot's area grows with the picks of its bin. What is shown of the mapped scores was measured on runs that the map
    had not seen.

    Args:
        believed: of a calibration, by object.
        folder: to write into.
    """
    from matplotlib.figure import Figure

    from ..data import atomic_write

    names = list(believed)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows + 0.4), layout="constrained")
    for k, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        errors = []
        for color, shown in ((_BEFORE, believed[name].now), (_AFTER, believed[name].held_out)):
            if sum(shown.n):
                axes.plot(shown.score, shown.fraction, color=color, linewidth=1.5)
                axes.scatter(shown.score, shown.fraction, s=12 + 140 * shown.n / shown.n.max(), color=color, alpha=0.75)
                errors.append(f"{shown.expected_error:.3f}")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="score", ylabel="fraction right")
        axes.set_title(f"{name}\nexpected error {' → '.join(errors)}", fontsize=10)
        axes.set_aspect("equal")
    lines = [figure.gca().plot([], [], "o-", color=color)[0] for color in (_BEFORE, _AFTER)]
    figure.legend(lines, ["before", "mapped, on runs the map has not seen"], loc="outside lower center", ncols=2,
                  frameon=False)  # fmt: skip
    out = folder / "reliability.png"
    with atomic_write(out, binary=True) as file:
        figure.savefig(file, format="png", dpi=120)
    return out
