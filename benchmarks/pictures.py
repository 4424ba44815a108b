"""Draws pictures of the documentation from one simulated tomogram: the demo's, `show`'s, and average subtomograms.

    python benchmarks/pictures.py WORK docs

Writes demo.jpg, show.jpg and averages.png into the second folder; WORK keeps the demo. The others have their own:
benchmarks/curate.py --picture (curate.jpg), benchmarks/draw_curves.py (curves.png), benchmarks/draw_simulation.py
(simulation-*.jpg), benchmarks/semisupervised.py --picture (semisupervised.jpg), benchmarks/zoo_page.py (methods.png);
`tomopick calibrate --map-scores` writes reliability.png, and report-*.jpg are screenshots of `tomopick report`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import tomopick as tp

HALF = 20  # of a subtomogram's section [voxels]
BAR = 200.0  # [Å]


def average(tomogram: tp.Tomogram, positions: np.ndarray) -> np.ndarray | None:
    """The mean of the central sections around (n, 3) positions, zyx [Å]; None where all lie too near to a face."""
    boxes = []
    for z, y, x in np.rint(tomogram.grid.indices(positions)).astype(int):
        box = tomogram.values[z, max(y - HALF, 0) : y + HALF + 1, max(x - HALF, 0) : x + HALF + 1]
        boxes += [box] if box.shape == (2 * HALF + 1, 2 * HALF + 1) else []
    return np.mean(boxes, axis=0) if boxes else None


def draw_averages(tomogram: tp.Tomogram, sides: dict[str, tp.Picks], objects: tuple, out: Path) -> None:
    """A row for each side, a column for each object, with a scale bar."""
    figure = Figure(figsize=(9.6, 3.9), dpi=100, layout="constrained", facecolor="white")
    panels = figure.subplots(len(sides), len(objects))
    for row, (side, picks) in zip(panels, sides.items()):
        for axes, o in zip(row, objects):
            mine = picks.of(o.name)
            section = average(tomogram, mine.positions)
            axes.set(xticks=[], yticks=[], xlabel=f"{len(mine)} {side}", xlim=(0, 1), ylim=(0, 1))
            if section is None:
                continue
            edge = len(section) * tomogram.grid.voxel_spacing
            axes.imshow(section, cmap="gray", interpolation="bicubic", extent=(0, 1, 0, 1))
            axes.plot([0.06, 0.06 + BAR / edge], [0.07, 0.07], color="white", lw=4, solid_capstyle="butt")
            axes.plot([0.06, 0.06 + BAR / edge], [0.07, 0.07], color="black", lw=2, solid_capstyle="butt")
    panels[0][0].text(0.06, 0.1, f"{BAR:g} Å", fontsize=9)
    for axes, o in zip(panels[0], objects):
        axes.set_title(o.name, fontsize=9)
    figure.savefig(out)


def as_jpeg(png: Path, out: Path, width: int) -> None:
    image = Image.open(png).convert("RGB")
    image.resize((width, round(width * image.height / image.width)), Image.Resampling.LANCZOS).save(out, quality=82)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    demo = args.work / "demo"
    if not (demo / "sections.png").exists():
        subprocess.run([sys.executable, "-m", "tomopick", "demo", "--out", demo], check=True)
    as_jpeg(demo / "sections.png", args.out / "demo.jpg", 1200)
    project = tp.open_project(demo / "project" / "copick.json")
    (run,) = project.runs()
    tomogram = project.tomogram(run, "denoised")
    radii = [f"{o.name}:{o.radius:g}" for o in project.objects]
    picks = tp.open_project(demo / "picks.csv", objects=radii).picks("picks")  # those above the thresholds for F1
    truth = project.picks(run, "*:simulation/0")
    tp.draw_sections(tomogram, picks, project.objects, args.work / "show.png", title=run)
    as_jpeg(args.work / "show.png", args.out / "show.jpg", 1000)
    draw_averages(tomogram, {"picks": picks, "true": truth}, project.objects, args.out / "averages.png")


if __name__ == "__main__":
    main()
