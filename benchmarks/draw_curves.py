"""Draws docs/curves.png: precision against recall of the shipped model on simulated runs.

python benchmarks/draw_curves.py docs/curves.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import tomopick as tp


def draw(out: Path) -> None:
    """The runs of examples/quickstart.ipynb."""
    with tempfile.TemporaryDirectory() as place:
        project = tp.simulate((96, 288, 288), place, runs=2, seed=4, tomo_types=("denoised",))
        model = tp.load("default")
        cuts = model.thresholds["f1"]
        picks = {run: model.pick(project.tomogram(run), keep_below=True, device="cpu").picks for run in project.runs()}
        truth = tp.Runs(project, picks="*:simulation/0").labelled()
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
    axes.grid(color="0.92")
    for k, (name, curve) in enumerate(tp.precision_recall(picks, truth, model.objects).items()):
        color = [c / 255 for c in next(o for o in model.objects if o.name == name).color[:3]]
        label = f"{name}, AP {curve.average_precision:.3f}"
        # Curves that run along the frame lie on each other: the later ones are thinner.
        axes.step(curve.recall, curve.precision, where="post", color=color, label=label, linewidth=4.0 - 0.5 * k)
        at = curve.at(cuts[name])
        axes.plot(at.recall, at.precision, "o", color=color, markeredgecolor="black", markersize=8, clip_on=False)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right center")
    figure.savefig(out, dpi=96)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    draw(parser.parse_args().out)


if __name__ == "__main__":
    main()
