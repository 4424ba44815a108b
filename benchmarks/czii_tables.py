"""What was published of the CZII challenge's data, row by row, and how each row is made here.

Sources: the challenge's private leaderboard (F-beta 4; TopCUP's package by its own README); Uchida & Fukui 2025,
arXiv:2502.13484, table 3; SemiETPicker, arXiv:2510.22454, tables 1 to 4 (F1 at 0.5 and 0.75 radius, without
beta-amylase).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METHODS = ("bpd", "soup", "topcup", "unet25d", "semietpicker")
SUPERVISED = ("objective=SupervisedSpec",)
STRONG = ("objective.strong=ScaleShift,Noise", "objective.strong.scaleshift.p=0.8", "objective.strong.noise.p=0.8")

# Rows of SemiETPicker's tables -> overrides of its recipe.
ROWS: dict[str, tuple[str, ...]] = {
    "supervised": SUPERVISED,
    "all labels": SUPERVISED,
    "mean teacher": (*STRONG, "objective.views=1"),
    "+ multi-view": (*STRONG, "objective.views=4"),
    "SemiETPicker": (),
    "V-Net": (*SUPERVISED, "network=VNetSpec"),
    "FPN": (*SUPERVISED, "network=FeaturePyramidSpec"),
    # Masks, a softmax and connected groups, as DeepFindET segments.
    "DeepFindET": (*SUPERVISED, "network=DeepFinderUNetSpec", "loss=DiceCrossEntropy", "target=BallTarget",
                   "peaks=Components", "views=none"),
}  # fmt: skip
SEMI = ("supervised", "DeepFindET", "V-Net", "mean teacher", "SemiETPicker", "all labels")
ABLATION = ("supervised", "mean teacher", "+ multi-view", "SemiETPicker")
BASELINES = ("DeepFindET", "V-Net", "FPN", "supervised")

# Rows of the 4th place's table -> step of the windows in y and x [voxels], and more overrides. How many windows "fewer"
# are is not told: here those of its training, which overlap by half.
WINDOWS: dict[str, tuple[int, tuple[str, ...]]] = {
    "12 x 12 windows, weights": (48, ()),
    "9 x 9 windows, weights": (64, ()),
    "12 x 12 windows, no weights": (48, ("tiling.flat=true",)),
    "12 x 12 windows, peaks of 3 voxels": (48, ("peaks.half_width=10",)),
    "12 x 12 windows, peaks of 9 voxels": (48, ("peaks.half_width=40",)),
}

# (table, row) -> what was published.
PUBLISHED: dict[tuple[str, str], str] = {
    ("scores", "bpd"): "0.78252",
    ("scores", "soup"): "0.77612",
    ("scores", "topcup"): "0.774 (package); 0.78759 with a detection network",
    ("scores", "unet25d"): "0.78306",
    ("scores", "semietpicker"): "F1 0.607 of 5 labelled runs",
    ("windows", "12 x 12 windows, weights"): "0.783 (public 0.788)",
    ("windows", "9 x 9 windows, weights"): "0.779 (public 0.784), fewer windows",
    ("windows", "12 x 12 windows, no weights"): "0.776 (public 0.780)",
    ("semi", "supervised, 2 labelled"): "0.508 / 0.562",
    ("semi", "DeepFindET, 2 labelled"): "0.241 / 0.250",
    ("semi", "V-Net, 2 labelled"): "0.507 / 0.518",
    ("semi", "mean teacher, 2 labelled"): "0.527 / 0.573",
    ("semi", "SemiETPicker, 2 labelled"): "0.561 / 0.612",
    ("semi", "all labels, 2 labelled"): "0.611 / 0.684",
    ("semi", "supervised, 5 labelled"): "0.569 / 0.615",
    ("semi", "DeepFindET, 5 labelled"): "0.328 / 0.341",
    ("semi", "V-Net, 5 labelled"): "0.564 / 0.574",
    ("semi", "mean teacher, 5 labelled"): "0.586 / 0.633",
    ("semi", "SemiETPicker, 5 labelled"): "0.607 / 0.653",
    ("semi", "all labels, 5 labelled"): "0.611 / 0.684",
    ("ablation", "supervised, 5 labelled"): "0.569",
    ("ablation", "mean teacher, 5 labelled"): "0.586",
    ("ablation", "+ multi-view, 5 labelled"): "0.595",
    ("ablation", "SemiETPicker, 5 labelled"): "0.609",
    ("networks", "DeepFindET, 5 labelled"): "0.328, 41 s",
    ("networks", "V-Net, 5 labelled"): "0.564, 2.66 s",
    ("networks", "FPN, 5 labelled"): "0.547, 0.58 s",
    ("networks", "supervised, 5 labelled"): "0.569, 0.66 s",
}
# F1 at half a radius by object, with 5 labelled runs.
CLASSES: dict[str, dict[str, float]] = {
    "supervised": {
        "apo-ferritin": 0.616, "beta-amylase": 0.130, "beta-galactosidase": 0.309, "ribosome": 0.684,
        "thyroglobulin": 0.384, "virus-like-particle": 0.854,
    },
    "SemiETPicker": {
        "apo-ferritin": 0.641, "beta-amylase": 0.148, "beta-galactosidase": 0.364, "ribosome": 0.719,
        "thyroglobulin": 0.429, "virus-like-particle": 0.884,
    },
}  # fmt: skip

# Overrides of a rehearsal, of every recipe of a method, or of a row.
_QUICK = ("patch.shape=32,32,32", "train.steps=2", "train.batch_size=2", "train.validate_every=2", "imagenet=none",
          "train.warmup_steps=0")  # fmt: skip
_ONE_TILE = ("tiling=TilingSpec", "tiling.shape=32,96,96", "tiling.overlap=0", "views=none")
QUICK: dict[str, tuple[str, ...]] = {
    "bpd": (*_QUICK, *_ONE_TILE, "network.widths=4,6"),
    "soup": (*_QUICK, *_ONE_TILE, "network.widths=4,6"),
    "topcup": (*_QUICK, *_ONE_TILE, "network.width=0.1"),
    "unet25d": (*_QUICK, "network.width=0.1", "tiling.shape=16,96,96", "tiling.step=16,36,36"),
    "semietpicker": (*_QUICK, *_ONE_TILE, "network.width=0.1"),
    "V-Net": (*_QUICK, *_ONE_TILE, "network.widths=4,6", "network.depths=1,1"),
    "FPN": (*_QUICK, *_ONE_TILE, "network.width=0.1", "network.channels=8"),
    "DeepFindET": (*_QUICK, *_ONE_TILE, "network.widths=4,5,6"),
}


def shown(table: str, rows: Sequence[Mapping[str, Any]], published: Mapping[tuple[str, str], str]) -> str:
    """A table as text, the published figure last in each line."""
    metric = {"scores": "F4", "windows": "F4"}.get(table, "F1")
    lines = []
    for row in rows:
        said = published.get((table, row["row"]), "-")
        if "left_out" in row:
            here = f"left out: {row['left_out']}"
        else:
            half, more = row["F1"]
            value = f"{row['F4']:.3f}" if metric == "F4" else f"{half:.3f} / {more:.3f}"
            here = f"{metric} {value}, {row['seconds']:.2f} s a tomogram, {row['runs']} runs"
        if table == "classes":
            lines += [f"{row['row']}"] + [
                f"  {name:<22} {value:<8.3f} published {CLASSES[row['row'].partition(',')[0]].get(name, '-')}"
                for name, value in row["objects"].items()
            ]
        else:
            lines.append(f"{row['row']:<36} {here:<48} published {said}")
    return "\n".join(lines)
