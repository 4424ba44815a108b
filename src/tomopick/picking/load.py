"""Models by name: a folder, or one that ships inside the package."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from ..core.errors import ModelError
from ..core.messages import reason_of
from ..core.reading import read_bytes
from .detector import Detector
from .ensemble import Ensemble
from .folder import ENSEMBLE, PLAN, best_of_top, kept_weights, no_model, shipped

log = logging.getLogger("tomopick")


def load_model(name: str | Path) -> Detector | Ensemble:
    """A model folder, an ensemble folder, a shipped model by its name, or a training's `OUT/top/STEP` or `OUT/top`.

    Raises:
        ModelError: there is none, or the folder is not whole.
    """
    path, known = Path(name), shipped()
    if (path / ENSEMBLE).is_file():
        return Ensemble.load(path)
    if (path / PLAN).is_file():
        raise ModelError(f"{path}: its trainings are not finished; go on with them: train ... `resume=True`")
    if kept_weights(path) is not None:
        return _of_step(path)
    if (best := best_of_top(path)) is not None:
        log.info(f"{path}: the best of them, in {best}")
        return Detector.load(best, str(path))
    if path.is_dir():
        return Detector.load(path)
    if str(name) in known:
        return Detector.load(known[str(name)], str(name))
    raise no_model(str(name))


def _of_step(path: Path) -> Detector:
    """The model of its training with the weights of one step, and the thresholds of its best ones."""
    file = kept_weights(path)
    assert file is not None
    out = file.parent.parent
    model = Detector.load(out)
    network = model.method.network.build(len(model.objects))
    data = read_bytes(file, "weights of a training", 2**34)  # what is hashed is what is loaded
    try:
        network.load_state_dict(load(data))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error)
        raise ModelError(f"{file}: not the weights of the training in {out} ({reason})") from error
    log.info(f"{file}: with the thresholds that were measured for {out}")
    checksum = hashlib.sha256((model.checksum + file.name).encode() + data).hexdigest()
    facts = replace(model.facts, provenance={**model.facts.provenance, "step": int(file.stem)})
    return replace(model, network=network.eval(), facts=facts, checksum=checksum, name=str(path))


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
