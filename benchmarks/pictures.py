"""Draws the documentation's pictures of the shipped model: it is picked, scored and looked at on simulated runs.

    python benchmarks/pictures.py WORK docs [--only demo,show,averages,curves,reliability,report]

WORK keeps the demo, ten simulated runs and their picks, so that it can be repeated; it takes minutes. Screenshots
(report-light.jpg, report-dark.jpg) need chromium and chromedriver. Pictures of other things have their own scripts:
benchmarks/curate.py --picture (curate.jpg), benchmarks/draw_simulation.py (simulation-*.jpg),
benchmarks/semisupervised.py --picture (semisupervised.jpg), benchmarks/zoo_page.py (methods.png).
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from PIL import Image

import tomopick as tp
from curate import browser, until
from draw_curves import draw_curves
from tomopick.look.sections import _rings
from tomopick.picking.folder import shipped

RUNS = ("--runs", "10", "--shape", "96,384,384", "--seed", "4", "--tomo-type", "denoised")
HALF = 20  # of a subtomogram's section [voxels]
BAR = 200.0  # [Å]
ACROSS, SLAB = 2800.0, 100.0  # of the README's section: its edges and its thickness [Å]


def tomopick(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "tomopick", *map(str, words)], check=True)


class Material:
    """What is drawn; made when it is first asked for."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def demo(self) -> tuple[tp.Tomogram, tp.Picks, tp.Picks, tuple]:
        """Tomogram, picks above the thresholds for F1, true particles and objects of `tomopick demo`."""
        place = self.work / "demo"
        if not (place / "sections.png").exists():
            tomopick("demo", "--out", place)
        project = tp.open_project(place / "project" / "copick.json")
        (run,) = project.runs()
        radii = [f"{o.name}:{o.radius:g}" for o in project.objects]
        picks = tp.open_project(place / "picks.csv", objects=radii).picks("picks")
        return project.tomogram(run, "denoised"), picks, project.picks(run, "*:simulation/0"), project.objects

    def runs(self) -> Path:
        """The configuration of ten runs with all candidates of the shipped model."""
        config = self.work / "runs" / "copick.json"
        tomopick("simulate", config.parent, *RUNS)  # only what is missing is made
        tomopick("pick", "default", config, "--out", self.work / "picked", "--keep-below", "--session-id", "1")
        return config


def window(picks: tp.Picks, truth: tp.Picks, grid: tp.Grid) -> tuple[float, float, float]:
    """Where a section shows most particles, of as many kinds as possible: z, and the corner of y and x [Å]."""
    edge = np.array(grid.shape) * grid.voxel_spacing
    best, found = -1.0, (0.0, 0.0, 0.0)
    for z in np.arange(SLAB, edge[0] - SLAB, 50.0):
        near = [p.positions[np.abs(p.positions[:, 0] - z) < SLAB] for p in (picks, truth)]
        names = truth.names[np.abs(truth.positions[:, 0] - z) < SLAB]
        for y in np.arange(0.0, edge[1] - ACROSS + 1, 100.0):
            for x in np.arange(0.0, edge[2] - ACROSS + 1, 100.0):
                inside = [((n[:, 1:] > (y, x)) & (n[:, 1:] < (y + ACROSS, x + ACROSS))).all(axis=1) for n in near]
                kinds = names[inside[1]]
                value = sum(2 + min((kinds == name).sum(), 4) for name in set(kinds)) + 0.01 * inside[0].sum()
                if value > best:
                    best, found = value, (float(z), float(y), float(x))
    return found


def draw_demo(material: Material, out: Path) -> None:
    """A part of an xy section of the demo with its picks, to be read at half its width: the README's picture."""
    tomogram, picks, truth, objects = material.demo()
    spacing = tomogram.grid.voxel_spacing
    z, y, x = window(picks, truth, tomogram.grid)
    z0, z1 = (round((z + part) / spacing) for part in (-SLAB / 2, SLAB / 2))
    slab = tomogram.values[z0:z1].mean(axis=0)
    low, high = np.percentile(slab, (0.5, 99.5))
    figure = Figure(figsize=(8, 9.3), dpi=100, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    ends = np.array([-0.5, slab.shape[0] - 0.5]) * spacing
    axes.imshow(slab, cmap="gray", vmin=low, vmax=high, extent=(ends[0], ends[1], ends[1], ends[0]),
                interpolation="bilinear")  # fmt: skip
    shown = {}
    for positions, thing, style in _rings(picks, truth, objects):
        radii = np.sqrt(
            np.clip(thing.radius**2 - np.clip(np.abs(positions[:, 0] - z) - SLAB / 2, 0, None) ** 2, 0, None)
        )
        for (_, py, px), radius in zip(positions, radii):
            if radius > 0.3 * thing.radius and y < py < y + ACROSS and x < px < x + ACROSS:
                color = [c / 255 for c in thing.color[:3]]
                for width, ink, alpha in ((6.5, "black", 0.5), (4, color, 1)):
                    axes.add_patch(Circle((px, py), radius, fill=False, ec=ink, lw=width, ls=style, alpha=alpha,
                                          capstyle="round"))  # fmt: skip
                shown[thing.name] = color
    axes.set(xlim=(x, x + ACROSS), ylim=(y + ACROSS, y), xticks=[], yticks=[])
    at = (x + 0.04 * ACROSS, y + 0.95 * ACROSS)
    halo = [withStroke(linewidth=4, foreground="black")]
    axes.plot(
        [at[0], at[0] + 500], [at[1]] * 2, color="white", lw=6, solid_capstyle="butt", path_effects=halo, zorder=5
    )
    axes.text(at[0] + 250, at[1] - 30, "500 Å", color="white", fontsize=20, ha="center", path_effects=halo, zorder=5)
    lines = [Line2D([], [], color=c, lw=0, marker="o", mfc="none", mew=4, ms=17, label=n) for n, c in shown.items()]
    kinds = zip(("hit", "false", "missed"), [r[2] for r in _rings(picks, truth, objects)[:3]])
    lines += [
        Line2D([], [], color="#444444", lw=4, ls=style, dash_capstyle="round", label=name) for name, style in kinds
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=16, frameon=False, handlelength=1.7,
                  columnspacing=1.2)  # fmt: skip
    _save(_picture(figure), out / "demo.jpg")


def draw_show(material: Material, out: Path) -> None:
    """What `show` draws."""
    tomogram, picks, _, objects = material.demo()
    tp.draw_sections(tomogram, picks, objects, material.work / "show.png", title=tomogram.run)
    _save(Image.open(material.work / "show.png"), out / "show.jpg")


def average(tomogram: tp.Tomogram, positions: np.ndarray) -> np.ndarray | None:
    """The mean of the central sections around (n, 3) positions, zyx [Å]; None where all lie too near to a face."""
    boxes = []
    for z, y, x in np.rint(tomogram.grid.indices(positions)).astype(int):
        box = tomogram.values[z, max(y - HALF, 0) : y + HALF + 1, max(x - HALF, 0) : x + HALF + 1]
        boxes += [box] if box.shape == (2 * HALF + 1, 2 * HALF + 1) else []
    return np.mean(boxes, axis=0) if boxes else None


def draw_averages(material: Material, out: Path) -> None:
    """A row for each side, a column for each object, with a scale bar."""
    tomogram, found, truth, objects = material.demo()
    sides = {"picks": found, "true": truth}
    figure = Figure(figsize=(9.6, 3.9), dpi=120, layout="constrained", facecolor="white")
    panels = figure.subplots(len(sides), len(objects))
    for row, (side, picks) in zip(panels, sides.items()):
        for axes, o in zip(row, objects):
            mine = picks.of(o.name)
            section = average(tomogram, mine.positions)
            axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
            axes.set_xlabel(f"{len(mine)} {side}", fontsize=12)
            if section is None:
                continue
            edge = len(section) * tomogram.grid.voxel_spacing
            axes.imshow(section, cmap="gray", interpolation="bicubic", extent=(0, 1, 0, 1))
            axes.plot([0.06, 0.06 + BAR / edge], [0.07, 0.07], color="white", lw=4, solid_capstyle="butt")
            axes.plot([0.06, 0.06 + BAR / edge], [0.07, 0.07], color="black", lw=2, solid_capstyle="butt")
    panels[0][0].text(0.06, 0.1, f"{BAR:g} Å", fontsize=11)
    for axes, o in zip(panels[0], objects):
        axes.set_title(o.name, fontsize=11)
    figure.savefig(out / "averages.png")


def draw_curve(material: Material, out: Path) -> None:
    """Precision against recall over the ten runs."""
    project = tp.open_project(material.runs())
    found, true = (tp.Runs(project, picks=whose).labelled() for whose in ("*:tomopick/1", "*:simulation/0"))
    draw_curves(found, true, project.objects, tp.load("default").thresholds["f1"], out / "curves.png")


def draw_belief(material: Material, out: Path) -> None:
    """What `calibrate --map-scores` draws of a copy of the shipped model."""
    model = material.work / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(shipped()["default"], model)
    tomopick("calibrate", model, material.runs(), "--truth", "*:simulation/0", "--map-scores")
    Image.open(model / "reliability.png").convert("P", colors=64).save(out / "reliability.png", optimize=True)


def draw_report(material: Material, out: Path) -> None:
    """Screenshots of the page that `report` writes, in both colours."""
    page, config = material.work / "report.html", material.runs()
    tomopick("report", config, config, "--picks", "*:tomopick/1", "--truth", "*:simulation/0", "--out", page,
             "--title", "The shipped model on ten simulated runs")  # fmt: skip
    driver = browser(1080, 1280, 1.3)
    try:
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            driver.get(page.absolute().as_uri())
            until(driver, "document.body.dataset.ready && !document.getElementById('stage-note').textContent")
            driver.execute_script("return new Promise(r => setTimeout(r, 500))")
            _save(Image.open(io.BytesIO(driver.get_screenshot_as_png())), out / f"report-{scheme}.jpg")
    finally:
        driver.quit()


def _picture(figure: Figure) -> Image.Image:
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return Image.open(made)


def _save(image: Image.Image, path: Path) -> None:
    image.convert("RGB").save(path, quality=84, optimize=True)
    print(path, image.size)


DRAWN = {
    "demo": draw_demo, "show": draw_show, "averages": draw_averages, "curves": draw_curve, "reliability": draw_belief,
    "report": draw_report,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(DRAWN), help="pictures to draw, comma-separated")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(","):
        DRAWN[name](Material(args.work), args.out)


if __name__ == "__main__":
    main()
