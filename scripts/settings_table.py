"""Writes from the code what is said of settings: tables in docs/training.md, and the fields by which typos are told.

The tables have names, defaults, and what the docstrings say; `cli/settings.json` has the names and types of all fields.

    python scripts/settings_table.py [--check]

With --check it says whether both are up to date, and changes nothing.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path

from tomopick import recipes
from tomopick.cli import settings
from tomopick.networks import losses
from tomopick.picking.method import Method
from tomopick.simulation import SimulationSpec
from tomopick.training import augment, mean_teacher, objectives, patches, recipe, schedules, targets
from tomopick.training.loop import TrainSpec

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
BEGIN, END = "<!-- settings: written by scripts/settings_table.py -->", "<!-- end of settings -->"
SECTIONS = (
    ("train", TrainSpec),
    ("train.schedule", schedules.Cosine, schedules.StepDecay, schedules.Plateau),
    ("patch", patches.PatchSpec),
    ("augment.spatial", augment.Flip, augment.Rot90, augment.Rotate),
    ("augment.intensity", augment.ScaleShift, augment.Blur, augment.Noise, augment.DropBlock),
    ("target", targets.GaussianTarget, targets.FixedGaussianTarget, targets.BallTarget, targets.VoxelTarget),
    ("loss", losses.HeatmapWeightedMSE, losses.ReweightedMSE, losses.DenseCrossEntropy, losses.DiceCrossEntropy,
     losses.FocalTversky),
    ("objective", objectives.SupervisedSpec, mean_teacher.MeanTeacherSpec),
)  # fmt: skip


def described(kind: type) -> dict[str, str]:
    """What docstrings say of each attribute, those of base classes too; one line may be of several."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        for entry in re.split(r"\n(?= {4}\S)", re.split(r"\n(?=\S)", text)[0]):
            names, _, meaning = entry.strip().partition(":")
            for name in names.split(","):
                found[name.strip()] = " ".join(meaning.split())
    return found


def tables(sections: tuple[tuple[str | type, ...], ...] = SECTIONS) -> str:
    """All tables of these sections, as Markdown."""
    lines = []
    for section, *kinds in sections:
        for kind in kinds:
            known = described(kind)
            title = f"`{section}`" if len(kinds) == 1 else f"`{section}={kind.__name__}`"
            first = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
            lines += ["", f"### {title}", "", first]
            if fields(kind):
                lines += ["", "| setting | default | what it does |", "|---|---|---|"]
            for f in (f for f in fields(kind) if f.init):
                default = f.default
                if default is MISSING:
                    default = "to be given" if f.default_factory is MISSING else f.default_factory()
                shown = type(default).__name__ if hasattr(default, "__dataclass_fields__") else _shown(default)
                lines.append(f"| `{f.name}` | {shown} | {known.get(f.name, '').replace('|', '&#124;')} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(type(v).__name__ if hasattr(v, "__dataclass_fields__") else str(v) for v in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value not in ({}, None) else "none"


def page() -> str:
    """The page with its tables as the code has them."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n\n{END}{rest.partition(END)[2]}"


def known() -> str:
    """The fields of every recipe and of a simulation, as JSON."""
    specs = {name: recipes.get(name) for name in recipes.names()}
    simulation = {settings.SIMULATION: SimulationSpec((64, 64, 64))}
    table = settings.settings_table(specs | simulation, (*recipe._FAMILIES, (Method,)))
    parts = [f'"families": {json.dumps(table.pop("families"))}']
    for name, entries in table.items():
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
        parts.append(f'"{name}": {{\n{lines}\n}}')
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    for path, wanted in ((PAGE, page()), (settings.FILE, known())):
        if "--check" not in sys.argv:
            path.write_text(wanted, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != wanted:
            sys.exit(f"{path}: run scripts/settings_table.py")
