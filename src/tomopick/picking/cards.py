"""Model cards: what a model folder's README.md says of it, the same for a single model and for an ensemble."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.files import atomic_write
from ..core.messages import counted
from ..core.text import read_text
from ..scoring.metrics import METRICS
from .detector import Detector
from .ensemble import Ensemble, member_names
from .folder import TrainingFacts

CARD = "README.md"
_PROVENANCE = "\nProvenance:"
_OF_RUNS = {"train": "labelled ", "unlabelled": "unlabelled ", "val": "validation "}


def save_with_card(model: Detector | Ensemble, folder: Path) -> str:
    """Writes a model and its card into a folder that is there; gives the checksum."""
    with atomic_write(folder / CARD) as file:  # first: what makes a folder a model comes last
        file.write(model_card(model) if isinstance(model, Detector) else ensemble_card(model))
    return model.save(folder)


def card_of(folder: Path) -> str:
    """What a terminal shows of a card: all but how the model came about."""
    return read_text(folder / CARD, "a model's card").split(_PROVENANCE)[0].rstrip()


def model_card(detector: Detector) -> str:
    """What the model is, in Markdown."""
    facts, method = detector.facts, detector.method
    n = sum(p.numel() for p in detector.network.parameters())
    learned = [
        counted(runs, f"{text}run")
        for kind, text in _OF_RUNS.items()
        if (runs := sum(len(asdict(part)[kind]) for part in facts.learned_from))
    ]
    lines = [
        f"# {method.name}: {', '.join(o.name for o in detector.objects)}",
        "",
        f"- method: {method.source}; {n:,} parameters, output stride {method.network.stride}",
        f"- learned from {', '.join(learned) or 'runs that are not stated'}{_in_part(facts)}",
        f"- trained at {facts.voxel_spacing:g} Å, tomogram types: {', '.join(facts.tomo_types) or 'not stated'}; "
        f"{'dark particles on light' if facts.skewness < 0 else 'light particles on dark'}",
        *_validated_on(facts),
        *_figures(detector, radii=True),
    ]
    return "\n".join([*lines, *_came_about(facts)])


def _validated_on(facts: TrainingFacts) -> list[str]:
    """On how many particles the figures rest, and whether they lie in the tomogram that was learned from."""
    counts = facts.provenance.get("validation_particles", {})
    if not counts:
        return []
    within = ", in a part of the tomogram that was learned from: another one is harder"
    told = ", ".join(f"{n} {name}" for name, n in counts.items())
    return [f"- validated on {told}{within if facts.provenance.get('validated_within') else ''}"]


def _in_part(facts: TrainingFacts) -> str:
    """What a training was told of its labels: that runs are labelled in part, and what is known to be none."""
    runs, negatives = facts.provenance.get("labelled_in_part", ()), facts.provenance.get("negatives", {})
    told = f", {len(runs)} of them labelled in part" if runs else ""
    places = ", ".join(f"{n} of {name}" for name, n in negatives.items())
    if facts.provenance.get("added_to"):
        old = ", ".join(facts.provenance.get("thresholds_of_before", ()))
        told += f"; added to {facts.provenance['added_to']}" + (f", whose thresholds of {old} are kept" if old else "")
    return told + (f"; and from places that are known to be none: {places}" if places else "")


def ensemble_card(ensemble: Ensemble) -> str:
    """What the ensemble is, in Markdown."""
    aligned = ", scores aligned" if any(m.alignment for m in ensemble.members) else ""
    lines = [
        f"# ensemble of {len(ensemble.members)}: {', '.join(o.name for o in ensemble.objects)}",
        "",
        f"- heatmaps averaged as {ensemble.mean}{aligned}",
        *_figures(ensemble),
        "",
        "| member | method | weights |",
        "|---|---|---|",
    ]
    for name, m in zip(member_names([m.detector.name for m in ensemble.members]), ensemble.members):
        distinct = {f"{w:.3g}" for w in m.weights.values()}
        text = distinct.pop() if len(distinct) == 1 else ", ".join(f"{k} {w:.3g}" for k, w in m.weights.items())
        lines.append(f"| {name} | {m.detector.method.source} | {text} |")
    return "\n".join([*lines, *_came_about(ensemble.facts)])


def _figures(model: Detector | Ensemble, radii: bool = False) -> list[str]:
    """Displacement, and by object thresholds and scores on the validation runs."""
    facts = model.facts
    moved = ", ".join(f"{v:+.1f}" for v in facts.displacement)
    header = ["object", *(["radius [Å]"] if radii else []), "threshold f1", "threshold czii"]
    header += ["validation F1", "validation F4"]
    lines = [
        f"- median displacement of matched validation picks (z, y, x): {moved} Å over "
        f"{counted(facts.displacement_matches, 'pick')}",
        "",
        f"| {' | '.join(header)} |",
        "|---" * len(header) + "|",
    ]
    for o in model.objects:
        cuts = [f"{model.thresholds[m][o.name]:.3f}" for m in METRICS]
        values = [facts.scores.get(m, {}).get(o.name) for m in METRICS]
        scores = ["-" if v is None else f"{v:.3f}" for v in values]
        radius = [f"{o.radius_angstrom:g}"] if radii else []
        lines.append(f"| {' | '.join([o.name, *radius, *cuts, *scores])} |")
    return lines


def _came_about(facts: TrainingFacts) -> list[str]:
    runs = [{k: v for k, v in asdict(part).items() if v or k != "unlabelled"} for part in facts.learned_from]
    told = shortened({**facts.provenance, **({"runs": runs} if runs else {})})
    return [_PROVENANCE, "", "```json", json.dumps(told, indent=1), "```", ""]


def shortened(value: Any, key: str = "") -> Any:
    """Provenance with the count and the range of runs in place of their names, which detector.json keeps."""
    if isinstance(value, Mapping):
        return {k: shortened(v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        if key in {*_OF_RUNS, "runs"} and value and all(isinstance(run, str) for run in value):
            first, last = min(value), max(value)
            return f"{counted(len(value), 'run')}: {first}" + (f" to {last}" if last != first else "")
        return [shortened(v) for v in value]
    return value


def provenance(seed: int | None = None, init_from: str = "") -> dict[str, Any]:
    """With what a model was made: seed, starting model, versions, commit of tomopick's own repository."""
    from .. import __version__

    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        # An installed copy may lie inside somebody else's repository: it has to be tracked there.
        asked = [[*git, "ls-files", "--error-unmatch", Path(__file__).name], [*git, "rev-parse", "HEAD"]]
        found = [subprocess.run(a, capture_output=True, text=True, timeout=5, check=False) for a in asked]
        commit = found[1].stdout.strip() if not any(f.returncode for f in found) else ""
    except (OSError, subprocess.TimeoutExpired):
        commit = ""
    versions = {"tomopick": __version__, "torch": torch.__version__, "numpy": np.__version__}
    versions["python"] = platform.python_version()
    return {"seed": seed, "init_from": init_from, "versions": versions, "commit": commit}
