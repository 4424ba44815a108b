"""Draws the pictures of docs/simulation.md: the stages from density to tomogram, and what the preset `varied` varies.

python benchmarks/draw_simulation.py docs
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tomopick import Grid
from tomopick.core.presets import CZII_OBJECTS, CZII_VOXEL_SPACING
from tomopick.simulation import TOMO_TYPES, ContrastTransfer, SimulationSpec, arrays_of, czii_spec, simulate
from tomopick.simulation.microscope import phase_contrast
from tomopick.simulation.projection import project

SHAPE = (128, 320, 320)
SLAB = 3  # planes of a section that are averaged
BAR = 500.0  # [Å]
Panel = tuple[str, np.ndarray]


def stages(seed: int) -> list[Panel]:
    """One run, step by step."""
    spec = czii_spec(SHAPE, tomo_types=TOMO_TYPES)
    crowded = replace(
        spec.specimen, crowding=(4.0, 4.0), thickness=(900.0, 900.0), carbon=0.0, gold=(8.0, 8.0), slope=(2.0, 2.0)
    )
    spec = replace(spec, specimen=crowded).varied(0.0)
    grid, rng = Grid(SHAPE, spec.voxel_spacing[0]), np.random.default_rng(seed)
    known = spec.specimen.known(CZII_OBJECTS, None)
    specimen = spec.specimen(grid, CZII_OBJECTS, known, rng)
    rim, potential = specimen.margin[0], np.ascontiguousarray(specimen.potential.transpose(0, 2, 1))
    series = spec.microscope(specimen, rng, arrays_of("cpu"))
    volumes = spec.restoration(series, SHAPE, ("wbp", "wbp-even", *TOMO_TYPES[1:]), rng, arrays_of("cpu"))

    inner = specimen.potential[(len(specimen.potential) - SHAPE[0]) // 2 :, rim:-rim, rim:-rim][: SHAPE[0]]
    panels = [("potential of the specimen", middle(-inner, 0))]
    field = slice((series.images.shape[1] - SHAPE[2]) // 2, (series.images.shape[1] + SHAPE[2]) // 2)
    steep = int(np.argmax(series.angles))
    for which, tilt in ((len(series.angles) // 2, 0.0), (steep, float(series.angles[steep]))):
        projection = project(potential, np.array([tilt]), (SHAPE[0], SHAPE[2]))[0]
        optics: ContrastTransfer = series.optics
        seen = phase_contrast(projection, grid.voxel_spacing, tilt, optics, 1.0, arrays_of("cpu"))
        panels += [
            (f"projection at {tilt:.0f} degrees", -projection[field, rim:-rim].T),
            ("with phase contrast", seen[field, rim:-rim].T),
            ("as recorded: damage, shot noise, shift", series.images[which, field].T),
        ]
    for kind, volume in volumes.items():
        panels.append((kind, middle(volume, 0) if kind == "wbp" else both(volume)))
    return panels


def varied(count: int, seed: int) -> list[Panel]:
    """The middle section of a few runs of the preset `varied`, with what was drawn for them."""
    panels = []
    for i in range(count):
        spec = SimulationSpec((96, 200, 300), tomo_types=("denoised",))
        made = simulate(spec, CZII_OBJECTS, run=f"varied {i}", seed=seed)
        values, facts = made.tomograms["denoised"].values, made.facts
        title = f"{facts['defocus'] / 1e4:.1f} µm, {facts['dose']:.0f} e/Å$^2$, {facts['thickness'] / 10:.0f} nm"
        middle = int(np.median(made.picks.positions[:, 0]) / made.tomograms["denoised"].grid.voxel_spacing)
        panels.append((title, values[max(0, middle - 1) : middle + 2].mean(axis=0)))
    return panels


def middle(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle section, a mean over a few planes."""
    at = volume.shape[axis] // 2
    return np.take(volume, range(at - SLAB // 2, at + SLAB // 2 + 1), axis=axis).mean(axis=axis)


def both(volume: np.ndarray) -> np.ndarray:
    """The middle xy section above the middle xz section."""
    return np.vstack([middle(volume, 0), np.full((6, volume.shape[2]), np.nan), middle(volume, 1)])


def draw(panels: list[Panel], columns: int, out: Path, width: float = 12.0) -> None:
    """Rows as high as their tallest panel; each panel has a scale bar."""
    parts = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    tall = [max(image.shape[0] / image.shape[1] for _, image in part) for part in parts]
    figure = Figure(figsize=(width, sum(width / columns * t + 0.25 for t in tall)), dpi=90, layout="constrained")
    grid = figure.add_gridspec(len(parts), columns, height_ratios=tall)
    for i, (title, image) in enumerate(panels):
        axes = figure.add_subplot(grid[divmod(i, columns)])
        left, below, size = 0.05 * image.shape[1], min(image.shape) * 0.93, BAR / CZII_VOXEL_SPACING
        for color, line in (("white", 5), ("black", 2.5)):
            axes.plot([left, left + size], [below] * 2, color=color, lw=line, solid_capstyle="butt")
        low, high = np.nanpercentile(image, [1.0, 99.5])
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
        axes.set_title(title, fontsize=9)
        axes.set_anchor("N")
        axes.set_axis_off()
    figure.savefig(out, pil_kwargs={"quality": 70})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    draw(stages(args.seed), 4, args.out / "simulation-stages.jpg")
    draw(varied(9, args.seed), 3, args.out / "simulation-varied.jpg")


if __name__ == "__main__":
    main()
