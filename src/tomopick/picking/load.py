"""Models by name: a folder, or one that ships inside the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ModelError
from ..core.messages import near_miss
from .detector import Detector
from .ensemble import Ensemble
from .folder import ENSEMBLE, shipped


def load_model(name: str | Path) -> Detector | Ensemble:
    """A model folder, an ensemble folder, or a shipped model by its name.

    Raises:
        ModelError: there is none, or the folder is not whole.
    """
    path, known = Path(name), shipped()
    if (path / ENSEMBLE).is_file():
        return Ensemble.load(path)
    if (path / "plan.json").is_file():
        raise ModelError(f"{path}: its trainings are not finished; go on with them: train ... `resume=True`")
    if path.is_dir():
        return Detector.load(path)
    if str(name) in known:
        return Detector.load(known[str(name)], str(name))
    raise ModelError(
        f"no model '{name}': neither a model folder nor a shipped model; {near_miss(str(name), sorted(known))}"
    )


def joined(models: Sequence[Detector | Ensemble]) -> Detector | Ensemble:
    """One model of one, as it is, or of several: with equal weights, and the mean of their thresholds.

    An object's radius is that of the first model that knows it, and how peaks are found is the first one's.

    Raises:
        ModelError: ensembles among them average unlike quantities.
    """
    return models[0] if len(models) == 1 else Ensemble.of(models)


def load_detector(name: str | Path) -> Detector:
    """As `load_model`, where only a single network will do.

    Raises:
        ModelError: it is an ensemble, or there is none, or the folder is not whole.
    """
    found = load_model(name)
    if isinstance(found, Ensemble):
        raise ModelError(
            f"{name}: is an ensemble of {len(found.members)}; expected a single model: take one of its members, "
            f"for example {found.detectors[0].name}"
        )
    return found
