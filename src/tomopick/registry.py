"""Models by name: a folder, or one that ships inside the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from .detector import Detector
from .errors import ModelError
from .recipe import did_you_mean


def shipped() -> dict[str, Path]:
    """The models that ship, by name."""
    root = Path(str(resources.files("tomopick") / "models"))
    return {p.name: p for p in sorted(root.iterdir()) if (p / "detector.json").is_file()} if root.is_dir() else {}


def load_detector(name: str | Path) -> Detector:
    """A model folder, or a shipped model by its name.

    Raises:
        ModelError: there is neither, or the folder is not whole.
    """
    path, known = Path(name), shipped()
    if path.is_dir():
        return Detector.load(path)
    if str(name) in known:
        return Detector.load(known[str(name)], str(name))
    raise ModelError(
        f"no model '{name}': neither a model folder nor a shipped model{did_you_mean(str(name), sorted(known))}"
    )
