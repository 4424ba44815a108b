"""What a model folder holds, read without the model and without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, ReadError, RecipeError, SelectionError
from ..core.messages import near_miss
from ..core.reading import parse_json, read_bytes, typed
from ..core.types import PickableObject, Vector
from ..scoring.metrics import METRICS, metric_name

FORMAT_VERSION = 2  # the newest; what a folder is written as depends on what is in it
_COMPETING = 2  # from which on a method's `exclusion` is heeded
ENSEMBLE = "ensemble.json"  # what makes a folder an ensemble
PLAN = "plan.json"  # what makes it the folder of several trainings
_PICKING = ("tiling", "peaks")  # sections that a network knows nothing of
_WEIGHTS = 2**34  # bytes of weights at most


@dataclass(frozen=True)
class LearnedFrom:
    """Runs of one project that a training used: what may not be measured on afterwards.

    Attributes:
        project: where they are.
        train: whose labels were learned from.
        val: that weights and thresholds were chosen by.
        unlabelled: that were learned from without labels.
    """

    project: str = ""
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingFacts:
    """What a detector remembers of its training, to judge its inputs by and to be judged by.

    Attributes:
        voxel_spacing: of the volumes it learned from [Å].
        tomo_types: of those volumes.
        spectrum: log10 power in rings of the xy plane, mean over the training volumes.
        spectrum_spread: its standard deviation over them, ring by ring.
        skewness: of their grey values; negative where particles are dark on light.
        contrast: mean at particles minus mean around them [deviations], by object.
        displacement: median (prediction - truth) of matched validation picks, zyx [Å].
        displacement_matches: how many picks that rests on.
        scores: validation scores by metric and object.
        learned_from: which runs, project by project.
        provenance: versions, seed, commit and the like, for readers.
    """

    voxel_spacing: float
    tomo_types: tuple[str, ...] = ()
    spectrum: tuple[float, ...] = ()
    spectrum_spread: tuple[float, ...] = ()
    skewness: float = 0.0
    contrast: Mapping[str, float] = field(default_factory=dict)
    displacement: Vector = (0.0, 0.0, 0.0)
    displacement_matches: int = 0
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    learned_from: tuple[LearnedFrom, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def shipped() -> dict[str, Path]:
    """The models that ship, by name."""
    root = Path(str(resources.files("tomopick") / "models"))
    return {p.name: p for p in sorted(root.iterdir()) if (p / "detector.json").is_file()} if root.is_dir() else {}


def model_file(folder: str | Path) -> Path:
    """The file that holds a model folder's thresholds, whether it is there or not."""
    made = Path(folder) / ENSEMBLE
    return made if made.is_file() else Path(folder) / "detector.json"


def kept_weights(path: Path) -> Path | None:
    """The file of `OUT/top/STEP`, or `OUT/top/STEP.safetensors`: weights of a validation; None for any other path."""
    if not path.name:
        return None
    file = path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")
    return file if file.parent.name == "top" and file.stem.isdecimal() and file.is_file() else None


def best_of_top(path: Path) -> Path | None:
    """The model folder of the best weights in a training's `OUT/top`; None for any other path."""
    if path.name != "top" or not path.is_dir():
        return None
    out = path.resolve().parent
    whole = [place for place in (out, out / "best") if (place / "detector.json").is_file()]
    return whole[0] if whole and any(kept_weights(file) for file in path.iterdir()) else None


def require_picking(assignments: Sequence[str]) -> None:
    """Raises `RecipeError` for a setting, `section.field=value`, that decided how a model was taught."""
    for text in assignments:
        if text.partition("=")[0].partition(".")[0] not in _PICKING:
            raise RecipeError(f"'{text}' cannot be changed of a trained model; {' and '.join(_PICKING)} can")


def is_model(what: str) -> bool:
    """Whether a user's word names a model folder, an ensemble's, weights that a training keeps, or a shipped model."""
    if kept_weights(Path(what)) is not None or best_of_top(Path(what)) is not None:
        return True
    if Path(what).exists():
        return any((Path(what) / name).is_file() for name in ("detector.json", ENSEMBLE, PLAN))
    return what in shipped()


def no_model(name: str) -> ModelError:
    """What is said of a word that is none."""
    return ModelError(
        f"no model '{name}': neither a model folder nor a shipped model; {near_miss(name, sorted(shipped()))}"
    )


@dataclass(frozen=True)
class Decisive:
    """What decides the picks, read once: what the checksum is of is what is loaded.

    Attributes:
        recipe: the bytes of recipe.json.
        weights: the bytes of weights.safetensors.
    """

    recipe: bytes
    weights: bytes

    @classmethod
    def of(cls, folder: Path) -> Decisive:
        """Raises `ModelError` where a file of the folder cannot be read."""
        try:
            recipe = read_bytes(folder / "recipe.json", "a recipe")
            return cls(recipe, read_bytes(folder / "weights.safetensors", "a network's weights", _WEIGHTS))
        except ReadError as error:
            raise ModelError(str(error)) from None

    @property
    def checksum(self) -> str:
        """SHA-256 of both."""
        return hashlib.sha256(self.recipe + self.weights).hexdigest()


def version_of(exclusion: float) -> int:
    """The oldest version of the format that says all that decides the picks: what reads it picks alike.

    Args:
        exclusion: of the method, see `Method`.
    """
    return _COMPETING if exclusion else 1


def require_version(data: dict[str, Any], path: Path, remedy: str) -> None:
    """Takes `format_version` out of what a file of a model folder holds.

    Args:
        data: of the file.
        path: of the file.
        remedy: where it is not of a newer version.

    Raises:
        ModelError: it is of none that this version reads.
    """
    version = data.pop("format_version", None)
    known = range(1, FORMAT_VERSION + 1)
    if isinstance(version, bool) or version not in known:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        expected = f"expected {known[0]} to {known[-1]}"
        raise ModelError(f"{path}: format_version {version}, {expected}: {'update tomopick' if newer else remedy}")


def checksum_of(folder: Path) -> str:
    """Of what decides the picks: recipe and weights."""
    return Decisive.of(folder).checksum


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        ModelError: it is none.
    """
    try:
        return json_object(read_bytes(path, "a file of a model's folder"), path)
    except ReadError as error:
        raise ModelError(str(error)) from None


def json_object(text: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in the bytes of a file; raises `ModelError` where there is none."""
    try:
        data = parse_json(text)
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}); restore the folder or train again") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: expected a JSON object; restore the folder or train again")
    return data


def read_object(data: Mapping[str, Any]) -> PickableObject:
    """A pickable object as a model folder states it; raises `ModelError` where it does not."""
    found: PickableObject = typed(PickableObject, data, "an object of the model", ModelError)
    return found


def read_facts(data: Mapping[str, Any]) -> TrainingFacts:
    """The facts of a training as a model folder states them.

    Raises:
        ModelError: an entry that this version does not know, or one of another type.
    """
    if isinstance(data, Mapping) and "learned_from" not in data:  # written before it was a field of its own
        provenance = data.get("provenance", {})
        if isinstance(provenance, Mapping):
            others = {k: v for k, v in provenance.items() if k != "runs"}
            data = {**data, "provenance": others, "learned_from": provenance.get("runs", [])}
    facts: TrainingFacts = typed(TrainingFacts, data, "the facts of the training", ModelError)
    if not 0 < facts.voxel_spacing < 1e4:
        raise ModelError(f"the facts of the training: a voxel spacing of {facts.voxel_spacing:g} Å; train again")
    if len(facts.spectrum_spread) not in (0, len(facts.spectrum)) or min(facts.spectrum_spread, default=0.0) < 0:
        raise ModelError("the facts of the training: spectrum_spread is not that of the spectrum; train again")
    return facts


def read_thresholds(
    data: Mapping[str, Mapping[str, float]], objects: Sequence[PickableObject]
) -> dict[str, dict[str, float]]:
    """Thresholds as a folder states them, for both metrics of `METRICS` and whichever others it was calibrated for.

    Raises:
        KeyError: a metric of `METRICS` or an object is missing.
        ModelError: a metric that this version does not know.
    """
    names = [*METRICS, *(m for m in data if m not in METRICS)]
    for name in names:
        try:
            metric_name(name)
        except SelectionError as error:
            raise ModelError(f"unknown metric '{name}' among the thresholds: update tomopick") from error
    cuts: dict[str, dict[str, float]] = typed(Mapping[str, Mapping[str, float]], data, "thresholds", ModelError)
    return {m: {o.name: float(cuts[m][o.name]) for o in objects} for m in names}


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole rows, of numbers and tables of them, and a stage; the last may have been cut off in the middle."""
    from ..core.text import read_text  # that picking does without

    rows = []
    for line in read_text(path, "a training's log").splitlines() if path.is_file() else []:
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int) or not _of_numbers(row):
            break
        rows.append(row)
    return rows


def _of_numbers(row: Mapping[str, Any]) -> bool:
    kept = [value for name, value in row.items() if name != "stage" or not isinstance(value, str)]
    values = [v for value in kept for v in (value.values() if isinstance(value, Mapping) else [value])]
    return all(v is None or isinstance(v, int | float) for v in values)
