"""The reliability diagram of a calibration, as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..scoring.score_maps import Believed, Reliability

_BEFORE, _AFTER = "#d55e00", "#0072b2"  # told apart by colour-blind readers
_FEW = 10  # picks
_Z = 1.96  # deviations of a normal distribution, whose middle 95 % it holds


def _interval(shown: Reliability) -> tuple[np.ndarray, np.ndarray]:
    """From where to where (k,) the fractions may lie, by Wilson's interval of 95 %."""
    n, p = shown.n, shown.fraction
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return middle - half, middle + half


def draw_reliability(believed: Mapping[str, Believed], folder: Path) -> Path:
    """Writes `reliability.png` into a folder: fraction right against score, before and after mapping, by object.

    A dot is the picks of a bin, a bar the 95 % interval of their fraction; bins of fewer than ten picks are faint. What
    is shown of the mapped scores was measured on runs that the map had not seen.

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
                low, high = _interval(shown)
                for bins, strong in ((shown.n < _FEW, 0.3), (shown.n >= _FEW, 1.0)):
                    axes.vlines(
                        shown.score[bins], low[bins], high[bins], color=color, linewidth=2.5, alpha=0.45 * strong
                    )
                    axes.plot(shown.score[bins], shown.fraction[bins], "o", color=color, alpha=strong, mew=0)
                errors.append(f"{shown.expected_error:.3f}")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize=12)
        axes.set_xlabel("score", fontsize=12)
        axes.set_ylabel("fraction right", fontsize=12)
        axes.set_title(f"{name}\nexpected error {' → '.join(errors)}", fontsize=12)
        axes.set_aspect("equal")
    lines = [figure.gca().plot([], [], "o", color=color)[0] for color in (_BEFORE, _AFTER)]
    figure.legend(lines, ["before", "mapped, on runs the map has not seen"], loc="outside lower center", ncols=2,
                  frameon=False, fontsize=12)  # fmt: skip
    out = folder / "reliability.png"
    with atomic_write(out, binary=True) as file:
        figure.savefig(file, format="png", dpi=120)
    return out
