"""Pictures: sections through a tomogram with its picks, and the course of a training.

Drawn with matplotlib's object interface alone, so that nothing global is set and no display is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from ..core.files import atomic_write
from ..core.types import Grid, PickableObject, Picks, Tomogram, Vector
from ..data.volumes.slabs import Slabs, array_slabs
from ..scoring.matching import REACH, match

_DPI = 100
_PIXEL = 72 / _DPI  # in points, matplotlib's unit of fonts and lines
_WIDTH, _TALLEST = 1320, 1980  # at half of that its words can be read: pages show it smaller
_MARGIN, _GAP, _HEAD, _ROW = 16, 10, 40, 27  # [pixels]
_INK, _FAINT, _ACCENT = "#222222", "#8a8a8a", "#0072b2"
_TEXT: dict[str, Any] = {"fontsize": 14 * _PIXEL, "color": _INK, "va": "center", "parse_math": False}
_LEGEND = {False: 280.0, True: 356.0}  # width, without and with a truth [pixels]
_HIT: Any = "-"
_FALSE: Any = (0, (2.6, 1.6))
_MISS: Any = (0, (0.01, 1.9))
_PANELS = (("xy", 0, 1, 2), ("xz", 1, 0, 2), ("yz", 2, 1, 0))  # name, axis of the section, axis down, axis right
Box = tuple[float, float, float, float]
_Ring = tuple[np.ndarray, PickableObject, Any]  # positions of one object drawn in one style
_Row = tuple[PickableObject, list[int]]


@dataclass(frozen=True)
class Layout:
    """Where things lie in the picture; boxes are (left, top, width, height) [pixels].

    Attributes:
        size: (width, height) of the picture [pixels].
        scale: pixels per Å, the same for all three sections.
        panels: the boxes of xy, xz and yz.
        legend: the corner below yz and beside xz, or a strip below everything where that is too small.
    """

    size: tuple[int, int]
    scale: float
    panels: Mapping[str, Box]
    legend: Box


def section_layout(grid: Grid, n_rows: int, legend: float) -> Layout:
    """xy top left, xz under it and yz beside it with its axes; a legend of `n_rows`, `legend` wide [pixels]."""
    depth, rows, columns = (n * grid.voxel_spacing for n in grid.shape)
    room, tall = _WIDTH - 2 * _MARGIN - _GAP, _legend_height(n_rows)
    scale = min(room / (columns + depth), (_TALLEST - _HEAD - tall) / (rows + depth))
    corner = depth * scale > 0.7 * legend and depth * scale > 0.8 * tall
    if corner:
        scale = min(scale, (room - legend) / columns)
    left, top = _MARGIN, _HEAD
    right, below, deep = left + columns * scale + _GAP, top + rows * scale + _GAP, depth * scale
    panels = {
        "xy": (left, top, columns * scale, rows * scale),
        "xz": (left, below, columns * scale, deep),
        "yz": (right, top, deep, rows * scale),
    }
    if corner:
        box: Box = (right, below, max(deep, legend), max(deep, tall))
    else:
        wide = max(right + deep - left, legend)
        box = (left, below + deep + _GAP, wide, _legend_height(math.ceil(n_rows / _blocks(wide, legend))))
    size = math.ceil(max(right + deep, box[0] + box[2])) + _MARGIN, math.ceil(box[1] + box[3]) + _MARGIN
    return Layout(size, scale, panels, box)


def _blocks(wide: float, legend: float) -> int:
    return max(1, int(wide // (legend + _ROW)))


def _legend_height(n_rows: int) -> float:
    return _ROW * (n_rows + 2.4 if n_rows else 1)


def draw_sections(
    volume: Tomogram | Slabs,
    picks: Picks,
    objects: Sequence[PickableObject],
    out: Path,
    *,
    thickness: float = 100.0,
    truth: Picks | None = None,
    title: str = "",
    at: Vector | None = None,
) -> None:
    """Writes a PNG with slabs in xy, xz and yz and the picks as circles of true radius.

    A circle is the section of a sphere: smaller where the particle's centre lies outside the slab. With a truth, hits
    (one to one, within half a radius) are solid, false picks dashed, misses dotted. y and z point down.

    Args:
        volume: not finite voxels are left out of the averages.
        picks: may be empty.
        objects: radii and colours; picks of other names are not drawn.
        out: the PNG to write.
        thickness: of the slabs [Å].
        truth: the true particles.
        title: a line above the picture; the name of the picks' run by default.
        at: where the slabs are centred, zyx [Å]; by default, for each axis, where most particles are.

    Raises:
        TomopickError: an object that occurs has no radius, or `out` cannot be written.
    """
    from matplotlib.figure import Figure

    slabs = array_slabs(volume.values, volume.grid) if isinstance(volume, Tomogram) else volume
    rings = _rings(picks, truth, objects)
    everything = np.concatenate([picks.positions, *([] if truth is None else [truth.positions])])
    centre = at or _busiest(slabs.grid, everything, thickness)
    each = 1 if truth is None else 3
    parts = [(rings[k][1], [len(r[0]) for r in rings[k : k + each]]) for k in range(0, len(rings), each)]
    rows = [row for row in parts if any(row[1])]
    wide = _LEGEND[truth is not None]
    layout = section_layout(slabs.grid, len(rows), wide)
    figure = Figure(figsize=(layout.size[0] / _DPI, layout.size[1] / _DPI), dpi=_DPI, facecolor="white")
    images, edges = slabs.means(centre, thickness), _edges(slabs.grid)
    low, high = _contrast(images)
    for name, axis, down, right in _PANELS:
        axes = _axes(figure, layout, layout.panels[name], (*edges[right], *edges[down][::-1]))
        image = images[axis] if down < right else images[axis].T
        style: dict[str, Any] = {"cmap": _grey(), "vmin": low, "vmax": high, "interpolation": "bilinear"}
        axes.imshow(image, extent=(*edges[right], *edges[down][::-1]), aspect="auto", **style)
        for ring in rings:
            _draw_ring(axes, ring, (axis, down, right), centre[axis], thickness)
    page = _axes(figure, layout, (0, 0, *layout.size), (0, layout.size[0], layout.size[1], 0))
    page.text(_MARGIN, _HEAD / 2, title or picks.run, **{**_TEXT, "fontsize": 17 * _PIXEL, "weight": "bold"})
    for name, axis, down, right in _PANELS:
        _label(page, layout.panels[name], f"{name}   {'zyx'[axis]} = {centre[axis]:.0f} Å")
        cuts = [((centre[k] - edges[k][0]) * layout.scale, thickness * layout.scale) for k in (right, down)]
        _mark_slabs(page, layout.panels[name], cuts)
        _ticks(page, layout.panels[name], (edges[right], edges[down]), layout.scale)
    _scale_bar(page, layout.panels["xy"], layout.scale)
    _draw_legend(page, rows, layout.legend, wide, f"slabs of {thickness:g} Å; counts of the whole run")
    _save(figure, out)


def draw_training(log_rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes a PNG with the loss and, where there are any, the validation score and the learning rate.

    Args:
        log_rows: with `step` and any of `loss`, `val_score`, `lr`; what is missing or not finite is skipped.
        out: the PNG to write.

    Raises:
        OutputError: `out` cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    names = {"loss": "loss", "val_score": "validation score", "lr": "learning rate"}
    series = {key: _series(log_rows, key) for key in names}
    shown = [key for key in names if key == "loss" or len(series[key])]
    figure = Figure(figsize=(10, 1 + 2.4 * len(shown)), dpi=_DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, key in zip(panels, shown):
        steps, values = series[key].T
        if key == "loss" and len(values):
            axes.plot(steps, values, color=_ACCENT, alpha=0.3, lw=1, marker="o" if len(values) < 30 else "", ms=4)
            axes.plot(steps, _smooth(values, max(1, len(values) // 20)), color=_ACCENT, lw=2)
            if values.min() > 0:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
        elif key == "val_score":
            best = int(np.argmax(values))
            axes.plot(steps, values, color="#009e73", lw=2, marker="o", ms=4)
            axes.plot(steps[best], values[best], "o", ms=10, mfc="none", mec=_INK)
            axes.set_title(f"best {values[best]:.4f} at step {steps[best]:.0f}", loc="right", fontsize=10, color=_INK)
        else:
            axes.plot(steps, values, color=_FAINT, lw=2)
        axes.set_title(names[key], loc="left", fontsize=11, weight="bold", color=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.01)
    panels[-1].set_xlabel("step", color=_INK)
    _save(figure, out)


def _rings(picks: Picks, truth: Picks | None, objects: Sequence[PickableObject]) -> list[_Ring]:
    """What is drawn of each object: its picks, or with a truth its hits, false picks and misses."""
    rings: list[_Ring] = []
    for o in objects:
        found = picks.of(o.name)
        if truth is None:
            rings.append((found.positions, o, _HIT))
            continue
        wanted = truth.of(o.name)
        reach = REACH * o.radius_angstrom if len(found) and len(wanted) else 0.0
        m = match(found.positions, found.scores, wanted.positions, reach)
        rings.append((found.positions[m.candidates], o, _HIT))
        rings.append((np.delete(found.positions, m.candidates, axis=0), o, _FALSE))
        rings.append((np.delete(wanted.positions, m.truths, axis=0), o, _MISS))
    return rings


def _edges(grid: Grid) -> list[tuple[float, float]]:
    """Outer faces of the border voxels along z, y, x [Å]."""
    return [(low, high) for low, high in grid.box.T.tolist()]


def _busiest(grid: Grid, positions: np.ndarray, thickness: float) -> Vector:
    """For each axis the middle of the slab with most particles; the middle of the volume where there are none."""
    positions = positions[np.isfinite(positions).all(axis=1)]
    positions = positions[grid.contains(positions)]
    result = []
    for axis, n in enumerate(grid.shape):
        planes = grid.origin[axis] + grid.voxel_spacing * np.arange(n)
        along = np.sort(positions[:, axis])
        held = np.searchsorted(along, planes + thickness / 2, "right")
        held -= np.searchsorted(along, planes - thickness / 2, "left")
        full = np.flatnonzero(held == held.max())
        result.append(float(planes[full[len(full) // 2]]))
    return result[0], result[1], result[2]


def _contrast(images: Sequence[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    low, high = np.percentile(values, (1, 99)) if len(values) else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _grey() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # Not down to black nor up to white, so that circles and labels stand out; voxels without a value get a tint.
    grey = LinearSegmentedColormap.from_list("tomogram", ["#101010", "#f2f2f2"])
    return grey.with_extremes(bad="#dfe6ee")


def _axes(figure: Any, layout: Layout, box: Box, limits: tuple[float, float, float, float]) -> Any:
    left, top, width, height = box
    across, down = layout.size
    place = (left / across, 1 - (top + height) / down, width / across, height / down)
    axes = figure.add_axes(place, xlim=limits[:2], ylim=limits[2:])
    axes.set_axis_off()
    return axes


def _halo(width: float, color: Any = "black") -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width * _PIXEL, foreground=color)]


def _draw_ring(axes: Any, ring: _Ring, panel: tuple[int, int, int], centre: float, thickness: float) -> None:
    """Circles in which the spheres meet the slab; those that do not meet it are left out."""
    from matplotlib.collections import EllipseCollection

    positions, obj, style = ring
    if not len(positions):
        return
    axis, down, right = panel
    beyond = np.maximum(np.abs(positions[:, axis] - centre) - thickness / 2, 0)
    square = obj.radius_angstrom**2 - beyond**2
    wide = 2 * np.sqrt(square[square > 0])
    line: dict[str, Any] = {"linewidths": 2.4 * _PIXEL, "linestyles": [style], "capstyle": "round"}
    circles = EllipseCollection(
        wide, wide, np.zeros(len(wide)), units="xy", offsets=positions[square > 0][:, [right, down]],
        offset_transform=axes.transData, facecolors="none", edgecolors=[_rgb(obj)], **line,
    )  # fmt: skip
    circles.set_path_effects(_halo(4.4, (0, 0, 0, 0.45)))
    axes.add_collection(circles)


def _rgb(obj: PickableObject) -> tuple[float, ...]:
    return tuple(v / 255 for v in obj.color[:3])


def _label(page: Any, box: Box, text: str) -> None:
    left, top, width, height = box
    if min(width, height) > 30:
        text = text if width > 9.5 * len(text) else text[:2]
        style = {**_TEXT, "color": "white", "fontsize": 15 * _PIXEL, "weight": "bold", "path_effects": _halo(3)}
        page.text(left + 10, top + 18, text, **style)


def _mark_slabs(page: Any, box: Box, cuts: Sequence[tuple[float, float]]) -> None:
    """Bars on the edges of a section where the other two slabs cut it; `cuts`: middle and size, across and down."""
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    (x, wide), (y, tall) = cuts
    bars: list[Box] = [(left + x - wide / 2, end, wide, 5) for end in (top, top + height - 5)]
    bars += [(end, top + y - tall / 2, 5, tall) for end in (left, left + width - 5)]
    for a, b, w, h in bars:
        page.add_patch(Rectangle((a, b), w, h, facecolor=_ACCENT, edgecolor="white", linewidth=_PIXEL))


def _ticks(page: Any, box: Box, sides: Sequence[tuple[float, float]], scale: float) -> None:
    """Å along the bottom and the right edge of a section, inside; `sides`: from where to where, across and down."""
    left, top, width, height = box
    step = next(k * 10.0**p for p in range(1, 9) for k in (1, 2, 5) if k * 10.0**p * scale >= 110)
    style = {**_TEXT, "color": "white", "fontsize": 13 * _PIXEL, "path_effects": _halo(2.5)}
    line: dict[str, Any] = {"color": "white", "lw": 2 * _PIXEL, "path_effects": _halo(4)}
    for down, (low, high) in enumerate(sides):
        places = [(v, (v - low) * scale) for v in np.arange(math.ceil(low / step) * step, high, step)]
        first = 45 if down else 0.25 * width  # below the title, right of the scale bar
        shown = [(v, at) for v, at in places if first < at < (height if down else width) - 45]
        for k, (value, at) in enumerate(shown):
            text = f"{value:g} Å" if k == 0 else f"{value:g}"
            if down:
                page.plot([left + width - 12, left + width - 5], [top + at] * 2, **line)
                page.text(left + width - 16, top + at, text, ha="right", **style)
            else:
                page.plot([left + at] * 2, [top + height - 12, top + height - 5], **line)
                page.text(left + at, top + height - 23, text, ha="center", **style)


def _scale_bar(page: Any, box: Box, scale: float) -> None:
    """A round number of nanometres, at most a sixth of the width, bottom left."""
    left, top, width, height = box
    most = width / scale / 60
    power = 10.0 ** math.floor(math.log10(most))
    length = power * max(k for k in (1, 2, 5) if k * power <= most)
    x, y, size = left + 22, top + height - 24, length * 10 * scale
    page.plot([x, x + size], [y, y], color="white", lw=6 * _PIXEL, solid_capstyle="butt", path_effects=_halo(9))
    style = {**_TEXT, "color": "white", "fontsize": 16 * _PIXEL, "weight": "bold", "path_effects": _halo(3)}
    page.text(x + size / 2, y - 17, f"{length:g} nm", ha="center", **style)


def _draw_legend(page: Any, rows: Sequence[_Row], box: Box, width: float, note: str) -> None:
    """Colour, name and counts of each object, in as many blocks as fit side by side."""
    if not rows:
        page.text(box[0], box[1] + 14, "no picks", **_TEXT)
        return
    tall = math.ceil(len(rows) / _blocks(box[2], width))
    step = box[2] / math.ceil(len(rows) / tall)
    for k in range(0, len(rows), tall):
        _draw_block(page, rows[k : k + tall], box[0] + 4 + k // tall * step, box[1] + 12, width)
    page.text(box[0] + 4, box[1] + 22 + _ROW * (tall + 1), note, **{**_TEXT, "color": "#5a5a5a"})


def _draw_block(page: Any, rows: Sequence[_Row], left: float, y: float, width: float) -> None:
    """Some rows of the legend; the columns are headed by what the line styles mean."""
    heads = ["picks"] if len(rows[0][1]) == 1 else ["hits", "false", "missed"]
    ends = [left + width - 4 - 57 * k for k in range(len(heads))][::-1]
    for end, head, style in zip(ends, heads, (_HIT, _FALSE, _MISS)):
        page.text(end, y, head, ha="right", **{**_TEXT, "color": "#5a5a5a", "fontsize": 13 * _PIXEL})
        if len(heads) == 3:
            page.plot([end - 36, end], [y + 14] * 2, ls=style, lw=2.4 * _PIXEL, color=_INK, dash_capstyle="round")
    y += 8
    for obj, counts in rows:
        y += _ROW
        ring = {"ms": 15 * _PIXEL, "mfc": "none", "mec": _rgb(obj), "mew": 3 * _PIXEL}
        page.plot(left + 10, y, "o", path_effects=_halo(4.6, (0, 0, 0, 0.45)), **ring)
        page.text(left + 28, y, obj.name if len(obj.name) <= 20 else obj.name[:19] + "…", **_TEXT)
        for end, count in zip(ends, counts):
            page.text(end, y, f"{count}", ha="right", **_TEXT)


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Means over so many values, of those that there are at the ends: the last one is not what the curve ends in."""
    total, there = (uniform_filter1d(v, width, mode="constant") for v in (values, np.ones(len(values))))
    return np.asarray(total / there)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """(n, 2) step and value of the rows that have both."""
    pairs = [(row["step"], row[key]) for row in rows if row.get(key) is not None and math.isfinite(row[key])]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _save(figure: Any, out: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_write(out, binary=True) as file:
        FigureCanvasAgg(figure).print_png(file)
