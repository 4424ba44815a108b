"""tomopick: particle picking in cryo-electron tomograms with heatmap networks."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; looked up on first use, so that `import tomopick` needs no torch.
_HOMES = {
    "Detector": "picking.detector",
    "Ensemble": "picking.ensemble",
    "FitOptions": "training.fit",
    "Grid": "core.types",
    "Heatmap": "core.types",
    "PickableObject": "core.types",
    "Picks": "core.types",
    "Recipe": "training.recipe",
    "Source": "training.fit",
    "Tomogram": "core.types",
    "TomopickError": "core.errors",
    "czii_score": "scoring.scores",
    "fit": "training.fit",
    "load_model": "picking.load",
    "open_project": "data",
}

__all__ = [
    "Detector",
    "Ensemble",
    "FitOptions",
    "Grid",
    "Heatmap",
    "PickableObject",
    "Picks",
    "Recipe",
    "Source",
    "Tomogram",
    "TomopickError",
    "czii_score",
    "fit",
    "load_model",
    "open_project",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tomopick' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
