"""Several detectors as one model: their heatmaps averaged, with weights, aligned scores and thresholds of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..core.arrays import Array, functions_of, interpolated, is_tensor
from ..core.errors import ModelError, OutputError, RecipeError
from ..core.files import atomic_write
from ..core.names import component
from ..core.reading import typed
from ..core.types import Heatmap, PickableObject
from ..scoring.score_maps import ScoreMap, ScoreMaps, heights
from .detector import Detector
from .folder import (
    ENSEMBLE,
    TrainingFacts,
    read_facts,
    read_record,
    read_thresholds,
    require_version,
    version_of,
)
from .peaks import PeakFinder
from .picker import ByPicker
from .rows import average, on_one_grid

MEANS = ("probabilities", "logits")
PARTS = ("recipe.json", "detector.json", "weights.safetensors", "README.md")  # of a member that a copy needs
# Heights nearer to 0 or 1 count as this near: one member's certainty cannot outvote all others'.
SURE = 1e-3


@dataclass(frozen=True)
class Alignment:
    """Heights of one member -> heights as the members have them on the whole; linear between knots, rising.

    Attributes:
        given: (k,) rising, the first 0.
        wanted: (k,) rising, the first 0; beyond the last knot heights are scaled as it is.

    Raises:
        ModelError: knots that do not rise from 0.
    """

    given: tuple[float, ...]
    wanted: tuple[float, ...]

    def __post_init__(self) -> None:
        both = np.array([self.given, self.wanted]) if len(self.given) == len(self.wanted) else np.zeros((2, 0))
        if both.shape[1] < 2 or not np.isfinite(both).all() or both[:, 0].any() or (np.diff(both) <= 0).any():
            raise ModelError("an alignment of scores needs knots that rise from 0; write the ensemble again")

    def __call__(self, values: Array) -> Array:
        """Heights of any shape -> aligned ones, float32."""
        inside = interpolated(values, self.given, self.wanted)
        scale = self.wanted[-1] / self.given[-1]
        found = inside + scale * (values - self.given[-1]).clip(0)
        return found.float() if is_tensor(found) else found.astype(np.float32)


@dataclass(frozen=True)
class Member:
    """One detector of an ensemble.

    Attributes:
        detector: the member.
        weights: by object that it knows; of an object they count relative to each other.
        alignment: by object; an object without one keeps its heights.
    """

    detector: Detector
    weights: Mapping[str, float]
    alignment: Mapping[str, Alignment] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Ensemble(ByPicker):
    """Several detectors that pick as one; for callers it is a `Model`, as a `Detector` is.

    An object's heatmap is the weighted mean over the members that know it, on the finest member's grid, each member
    with its own normalisation and voxel spacing.

    Attributes:
        members: each with its weights; the first says how peaks are found, and the first that knows an object its
            radius.
        thresholds: by metric and object, of the ensemble itself.
        facts: of all trainings together, and what was measured on the ensemble.
        mean: of `probabilities`, or of `logits`: the log-odds of each height, which forgives a single doubt less.
        checksum: of the members, their weights and alignments, and `mean`.
        name: folder, for messages.
        score_maps: as a detector's.
        joined: names of the models that `of` made it from.
    """

    members: tuple[Member, ...]
    thresholds: Mapping[str, Mapping[str, float]]
    facts: TrainingFacts
    mean: str = "probabilities"
    checksum: str = ""
    name: str = ""
    score_maps: ScoreMaps = field(default_factory=dict)
    joined: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise RecipeError(f"the mean of '{self.mean}' is none of {', '.join(MEANS)}")
        if not self.members:
            raise ModelError("an ensemble needs members; expected at least one model")
        for o in self.objects:
            values = [m.weights.get(o.name, -1.0) for m in self.members if _knows(m.detector, o.name)]
            if min(values) < 0 or not np.isfinite(values).all() or not sum(values):
                raise ModelError(
                    f"{self.name or 'ensemble'}: weights of {o.name} are {', '.join(f'{v:g}' for v in values)}; "
                    "expected none below 0 and one above it"
                )

    @classmethod
    def of(cls, models: Sequence[Detector | Ensemble]) -> Ensemble:
        """Models with equal weights and the mean of their thresholds; a single one stays as it is.

        Raises:
            ModelError: ensembles among them average unlike quantities.
        """
        if len(models) == 1 and isinstance(models[0], Ensemble):
            return models[0]
        members = tuple(member for model in models for member in _flat(model))
        means = {m.mean for m in models if isinstance(m, Ensemble)} or {"probabilities"}
        if len(means) > 1:
            names = ", ".join(m.name for m in models if isinstance(m, Ensemble))
            raise ModelError(f"{names}: some average probabilities and some logits; give their members instead")
        alone = models[0] if len(models) == 1 else None
        thresholds = alone.thresholds if alone else _mean_thresholds(models)
        checksum = alone.checksum if alone else _digest([m.checksum for m in models])
        maps = alone.score_maps if alone else {}
        joined = tuple(name for m in models for name in m.names)
        return cls(members, thresholds, joint_facts(models), means.pop(), checksum, " + ".join(joined), maps, joined)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models that were joined to it; else its own."""
        return self.joined or (self.name,)

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors that it is made of."""
        return tuple(m.detector for m in self.members)

    @property
    def objects(self) -> tuple[PickableObject, ...]:
        """All that a member knows."""
        found: dict[str, PickableObject] = {}
        for o in (o for d in self.detectors for o in d.objects):
            found.setdefault(o.name, o)
        return tuple(found.values())

    @property
    def peaks(self) -> PeakFinder:
        """How peaks are found."""
        return self.detectors[0].method.peaks

    def overridden(self, assignments: Sequence[str]) -> Ensemble:
        """The same members with settings of their `tiling` and `peaks` changed.

        Raises:
            RecipeError: a field that a member does not know, or a value that does not fit.
        """
        changed = [replace(m, detector=m.detector.overridden(assignments)) for m in self.members]
        return replace(self, members=tuple(changed))

    def blend(self, parts: Sequence[Iterable[Heatmap]]) -> Iterator[Heatmap]:
        """The members' rows, one iterable each -> rows of their mean."""
        if len(parts) == 1 and not self.members[0].alignment:
            return iter(parts[0])
        return (self.join(strips) for strips in on_one_grid(parts))

    def join(self, strips: Sequence[Heatmap]) -> Heatmap:
        """Heatmaps of the members on one grid -> their mean."""
        aligned = [_aligned(strip, m.alignment) for strip, m in zip(strips, self.members)]
        if self.mean == "logits":
            aligned = [replace(s, values=_log_odds(s.values)) for s in aligned]
        mean = average(aligned, [m.weights for m in self.members])
        if self.mean == "logits":
            # A value that no weight stands behind is 0 here too, for a mean of nothing is no even chance.
            mean = replace(mean, values=1 / (1 + functions_of(mean.values).exp(-mean.values)))
        return mean

    def save(self, folder: Path) -> str:
        """Writes ensemble.json, and the members' folders where they are not there yet; gives the checksum."""
        names = member_names([m.detector.name for m in self.members])
        members: list[dict[str, Any]] = []
        for name, member in zip(names, self.members):
            copy_model(member.detector, folder / "members" / name)
            aligned = {k: asdict(a) for k, a in member.alignment.items()}
            part = {"name": name, "checksum": member.detector.checksum, "weights": dict(member.weights)}
            members.append({**part, "alignment": aligned})
        decisive = {"members": members, "mean": self.mean}
        about: dict[str, Any] = {
            "format_version": max(version_of(m.detector.method.exclusion) for m in self.members),
            "checksum": _digest(decisive),
            **decisive,
            "thresholds": {k: dict(v) for k, v in self.thresholds.items()},
            "facts": asdict(self.facts),
        }
        if self.score_maps:
            about["score_maps"] = {k: m.to_json() for k, m in self.score_maps.items()}
        with atomic_write(folder / ENSEMBLE) as file:
            file.write(json.dumps(about, indent=1))
        return str(about["checksum"])

    @classmethod
    def load(cls, folder: str | Path) -> Ensemble:
        """Reads what `save` wrote.

        Raises:
            ModelError: the file or a member is missing, altered, or of a newer version.
        """
        folder = Path(folder)
        about = read_record(folder / ENSEMBLE)
        require_version(about, folder / ENSEMBLE, "write the ensemble again")
        try:
            unknown = set(about) - {"checksum", "members", "mean", "thresholds", "facts", "score_maps"}
            if unknown:
                raise ModelError(f"{folder / ENSEMBLE}: unknown entry '{sorted(unknown)[0]}': update tomopick")
            if _digest({"members": about["members"], "mean": about["mean"]}) != about["checksum"]:
                raise ModelError(f"{folder / ENSEMBLE}: was altered since it was written; write the ensemble again")
            members = tuple(_read_member(folder, part) for part in about["members"])
            found = cls(members, {}, read_facts(about["facts"]), about["mean"], about["checksum"], str(folder))
            thresholds = read_thresholds(about["thresholds"], found.objects)
            maps = {name: ScoreMap.from_json(knots) for name, knots in about.get("score_maps", {}).items()}
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{folder}: not a complete ensemble ({error}); write it again") from error
        return replace(found, thresholds=thresholds, score_maps=maps)


def equal_members(detectors: Sequence[Detector]) -> tuple[Member, ...]:
    """Detectors that count alike."""
    return tuple(Member(d, {o.name: 1.0 for o in d.objects}) for d in detectors)


def joint_facts(models: Sequence[Detector | Ensemble]) -> TrainingFacts:
    """What several models together remember: the finest spacing, all types and runs, the mean displacement."""
    facts = [m.facts for m in models]
    if len(facts) == 1:
        return facts[0]
    types = {t for f in facts for t in f.tomo_types}
    z, y, x = np.mean([f.displacement for f in facts], axis=0).tolist()
    return TrainingFacts(
        voxel_spacing=min(f.voxel_spacing for f in facts),
        tomo_types=tuple(sorted(types)),
        skewness=float(np.mean([f.skewness for f in facts])),
        displacement=(z, y, x),
        displacement_matches=sum(f.displacement_matches for f in facts),
        learned_from=tuple(part for f in facts for part in f.learned_from),
    )


def member_names(names: Sequence[str]) -> list[str]:
    """Folder names of members: the last part of each model's own, with a number where several are called alike."""
    short = [Path(n).name or "member" for n in names]
    found: list[str] = []
    for name in short:
        # A number may make it the name that another has as it is.
        free = (f"{name}-{i}" for i in count() if f"{name}-{i}" not in {*found, *short})
        found.append(name if short.count(name) == 1 else next(free))
    return found


def copy_model(detector: Detector, place: Path) -> None:
    """A model's folder without what only its training needs; nothing where it lies there already."""
    source = Path(detector.name)
    if place.is_dir() and Detector.load(place).checksum == detector.checksum:
        return
    place.mkdir(parents=True)
    if not (source / "detector.json").is_file():  # made in memory, or one that ships
        detector.save(place)
        return
    for part in PARTS:
        if (source / part).is_file():
            shutil.copyfile(source / part, place / part)


def _knows(detector: Detector, name: str) -> bool:
    return any(o.name == name for o in detector.objects)


def _flat(model: Detector | Ensemble) -> tuple[Member, ...]:
    """A model's members with weights that add up to 1 for every object, so that models count alike."""
    if isinstance(model, Detector):
        return equal_members([model])
    total = {o.name: sum(m.weights.get(o.name, 0.0) for m in model.members) for o in model.objects}
    return tuple(replace(m, weights={k: w / total[k] for k, w in m.weights.items()}) for m in model.members)


def _mean_thresholds(models: Sequence[Detector | Ensemble]) -> dict[str, dict[str, float]]:
    """For every metric that all models were calibrated for, the mean height over those that know an object."""
    result: dict[str, dict[str, float]] = {}
    for metric in (m for m in models[0].thresholds if all(m in model.thresholds for model in models)):
        known = [heights(m.thresholds[metric], m.score_maps) for m in models]
        names = dict.fromkeys(name for cuts in known for name in cuts)
        result[metric] = {name: float(np.mean([cuts[name] for cuts in known if name in cuts])) for name in names}
    return result


def _aligned(strip: Heatmap, alignment: Mapping[str, Alignment]) -> Heatmap:
    if not alignment:
        return strip
    values = [alignment[n](v) if n in alignment else v for n, v in zip(strip.objects, strip.values)]
    return replace(strip, values=functions_of(strip.values).stack(values))


def _log_odds(values: Array) -> Array:
    p = values.clip(SURE, 1 - SURE)
    return functions_of(p).log(p / (1 - p))


def _read_member(folder: Path, part: Mapping[str, Any]) -> Member:
    try:
        place = folder / "members" / component(part["name"], "member")
    except OutputError as error:
        raise ModelError(f"{folder / ENSEMBLE}: {error}, or write the ensemble again") from None
    detector = Detector.load(place)
    if detector.checksum != part["checksum"]:
        raise ModelError(f"{place}: is another model than when the ensemble was written; write the ensemble again")
    alignment = {k: Alignment(tuple(a["given"]), tuple(a["wanted"])) for k, a in part["alignment"].items()}
    weights = typed(Mapping[str, float], part["weights"], "the weights of a member", ModelError)
    return Member(detector, weights, alignment)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
