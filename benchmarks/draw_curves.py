"""Draws precision against recall of the shipped model on simulated runs.

    python benchmarks/draw_curves.py docs/curves.png

On the two runs of examples/quickstart.ipynb; the documentation's picture is of more runs: benchmarks/pictures.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

import tomopick as tp


def draw_curves(
    picks: Mapping[str, tp.Picks], truth: Mapping[str, tp.Picks], objects: Sequence[tp.PickableObject],
    cuts: Mapping[str, float], out: Path,
) -> None:  # fmt: skip
    """Of picks of runs; a dot where an object's threshold lies."""
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 1.02), ylim=(0, 1.05))
    axes.set_xlabel("recall", fontsize=12)
    axes.set_ylabel("precision", fontsize=12)
    axes.grid(color="0.92")
    for k, (name, curve) in enumerate(tp.precision_recall(picks, truth, objects).items()):
        color = [c / 255 for c in next(o for o in objects if o.name == name).color[:3]]
        n = sum(len(side.of(name)) for side in truth.values())
        label = f"{name}, AP {curve.average_precision:.2f} of {n}"
        # Curves that run along the frame lie on each other: the later ones are thinner.
        axes.step(curve.recall, curve.precision, where="post", color=color, label=label, linewidth=4.0 - 0.5 * k)
        at = curve.at(cuts[name])
        axes.plot(at.recall, at.precision, "o", color=color, markeredgecolor="black", markersize=8, clip_on=False)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right center", fontsize=11)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as place:
        project = tp.simulate((96, 288, 288), place, runs=2, seed=4, tomo_types=("denoised",))
        model = tp.load("default")
        picks = {run: model.pick(project.tomogram(run), keep_below=True, device="cpu").picks for run in project.runs()}
        truth = tp.Runs(project, picks="*:simulation/0").labelled()
    draw_curves(picks, truth, model.objects, model.thresholds["f1"], out)


if __name__ == "__main__":
    main()
