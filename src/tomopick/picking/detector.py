"""A trained method: a folder with its own recipe, thresholds and provenance; loading it needs no arguments."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ..core.arrays import Array
from ..core.errors import ModelError, RecipeError
from ..core.files import atomic_write
from ..core.messages import counted, reason_of
from ..core.statistics import radial_spectrum, skewness
from ..core.types import Grid, Heatmap, PickableObject, Tomogram
from ..networks.engines import EngineSpec, choose_device
from ..scoring.score_maps import ScoreMap, ScoreMaps
from .folder import (
    Decisive,
    TrainingFacts,
    checksum_of,
    json_object,
    read_facts,
    read_object,
    read_record,
    read_thresholds,
    require_version,
    version_of,
)
from .memory import Ready, make_ready, weights_mark
from .method import Method
from .peaks import PeakFinder
from .picker import ByPicker
from .predict import VIEWS, Predictor
from .resample import matched, spacings_differ, void_of_shape

log = logging.getLogger("tomopick")

UNLIKE_BEYOND = 2.5  # standard deviations of the spectrum, mean over its rings, that runs of one kind do not differ by
LEAST_SPREAD = 0.2  # of the spectrum [decades]; a single training volume has none


@dataclass(frozen=True, repr=False)
class Detector(ByPicker):
    """A network with everything needed to pick with it.

    Attributes:
        method: what it needs to pick.
        objects: in channel order.
        network: trained, on the CPU.
        thresholds: by metric (`f1`, `czii`, and such as `precision=0.9` where it was calibrated) and object.
        facts: of its training.
        checksum: of recipe and weights.
        name: folder or shipped name; for messages.
        score_maps: by object, from a peak's height to its score; an object without one is scored by its height.
            Thresholds are scores.
        recipe_json: JSON of the recipe it was taught by, as it was written; of how it was taught nothing else is known.
    """

    method: Method
    objects: tuple[PickableObject, ...]
    network: nn.Module
    thresholds: Mapping[str, Mapping[str, float]]
    facts: TrainingFacts
    checksum: str = ""
    name: str = ""
    score_maps: ScoreMaps = field(default_factory=dict)
    recipe_json: Mapping[str, Any] = field(default_factory=dict)

    # Engines and plans of tiles, by device and engine; another value of the same weights makes its own.
    _ready: dict[tuple[torch.device, EngineSpec], Ready] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Its own."""
        return (self.name,)

    @property
    def peaks(self) -> PeakFinder:
        """How particles are found in its heatmaps."""
        return self.method.peaks

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors that a model is made of; here the one."""
        return (self,)

    def overridden(self, assignments: Sequence[str]) -> Detector:
        """The same network with settings of `tiling` and `peaks` changed; what was made ready of it is shared.

        Raises:
            RecipeError: an unknown field, or a value that does not fit.
        """
        made = replace(self, method=self.method.picking(assignments))
        object.__setattr__(made, "_ready", self._ready)
        return made

    def prepare(self, tomogram: Tomogram) -> tuple[Array, Grid]:
        """Normalised values at the network's voxel spacing, and their grid; on the device that the tomogram lies on.

        Raises:
            ModelError: the voxel spacing differs by more than a factor of 4.
            ReadError: the volume is constant or not finite.
        """
        whose = f"model {self.name or self.method.name} was trained"
        tomogram = matched(tomogram, self.facts.voxel_spacing, whose)
        return self.method.normalize(tomogram), tomogram.grid

    def findings(self, tomogram: Tomogram, values: Array) -> list[str]:
        """What is unlike the training's volumes, one line each.

        Args:
            tomogram: as read.
            values: what `prepare` made of it.
        """
        found = []
        spacing = tomogram.grid.voxel_spacing
        if spacings_differ(spacing, self.facts.voxel_spacing):
            found.append(f"voxel spacing {spacing:g} Å resampled to the model's {self.facts.voxel_spacing:g} Å")
        void = tomogram.void if tomogram.void is None else void_of_shape(tomogram, tuple(values.shape))
        skew = skewness(values, void)
        # Near zero the sign says nothing, neither here nor in training.
        if skew * self.facts.skewness < 0 and abs(skew) > 0.15 and abs(self.facts.skewness) > 0.05:
            found.append(
                f"contrast looks inverted (skewness {skew:+.2f}, in training {self.facts.skewness:+.2f}): "
                f"if particles are light on dark here, pick with `invert={tomogram.run}`"
            )
        if self.facts.spectrum:
            rings = radial_spectrum(values, void, bins=len(self.facts.spectrum))
            difference = rings - np.asarray(self.facts.spectrum)
            spread = np.maximum(self.facts.spectrum_spread or 0.0, LEAST_SPREAD)
            if (np.abs(difference) / spread).mean() > UNLIKE_BEYOND:
                kinds = "/".join(self.facts.tomo_types) or "its training's"
                found.append(
                    f"the power spectrum is unlike {kinds} tomograms (high frequencies "
                    f"{10 ** difference[-8:].mean():.2g} times as strong): another tomogram type? expect poor picks"
                )
        return found

    def predictor(
        self, device: str | torch.device = "auto", views: str | None = None, engine: EngineSpec | None = None
    ) -> Predictor:
        """The network ready to run; what takes long is kept from call to call, until the weights change.

        Args:
            device: where.
            views: a key of `predict.VIEWS`; None: what the method says.
            engine: how; None: with the best that is installed for the device.

        Raises:
            EngineError: the engine is not installed, or does not know the device.
        """
        place = choose_device(device) if isinstance(device, str) else device
        key, spec = (place, engine or EngineSpec()), self.method.network
        ready = self._ready.get(key)
        if ready is None or ready.weights != weights_mark(self.network):
            ready = self._ready[key] = make_ready(self.network, spec, len(self.objects), *key)
        tiling = self.method.tiling.fitted(ready.means)
        return Predictor(
            ready.engine,
            self.method.activation,
            tiling if place.type != "cuda" else tiling.widened(ready.means()),
            spec.stride,
            spec.multiple,
            tuple(o.name for o in self.objects),
            VIEWS[self.method.views if views is None else views],
        )

    def blend(self, parts: Sequence[Iterable[Heatmap]]) -> Iterator[Heatmap]:
        """The rows of its one network, as they are."""
        (rows,) = parts
        return iter(rows)

    def save(self, folder: Path) -> str:
        """Writes recipe.json, weights.safetensors and detector.json into an existing folder; returns the checksum."""
        version = version_of(self.method.exclusion)
        with atomic_write(folder / "recipe.json") as file:
            file.write(json.dumps({"format_version": version} | self._written(), indent=1))
        weights = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        with atomic_write(folder / "weights.safetensors", binary=True) as file:
            file.write(save(weights))
        checksum = checksum_of(folder)
        about = {
            "format_version": version,
            "checksum": checksum,
            "objects": [asdict(o) for o in self.objects],
            "thresholds": {k: dict(v) for k, v in self.thresholds.items()},
            "facts": asdict(self.facts),
        }
        if self.score_maps:  # an older version reads what has none
            about["score_maps"] = {k: m.to_json() for k, m in self.score_maps.items()}
        with atomic_write(folder / "detector.json") as file:
            file.write(json.dumps(about, indent=1))
        return checksum

    def _written(self) -> dict[str, Any]:
        """The recipe, as it was written where it still says what is picked with: its bytes decide the checksum."""
        if not self.recipe_json:
            return self.method.to_json()
        if Method.from_json(self.recipe_json) == self.method:
            return dict(self.recipe_json)
        return {**self.recipe_json, **self.method.to_json(), "class": self.recipe_json["class"]}

    @classmethod
    def load(cls, folder: str | Path, name: str = "") -> Detector:
        """Reads what `save` wrote.

        Raises:
            ModelError: a file is missing, altered, or of a newer version.
        """
        folder = Path(folder)
        finished = (folder / "detector.json").is_file() or (folder / "weights.safetensors").is_file()
        if (folder / "recipe.json").is_file() and (folder / "last").is_dir() and not finished:
            if not (folder / "best" / "detector.json").is_file():
                raise ModelError(f"{folder}: its training is not finished; go on with it: train ... `resume=True`")
            best = cls.load(folder / "best", name or str(folder))
            step = best.facts.provenance.get("step", "?")
            log.warning(f"{folder}: its training is not finished; what is used is its best so far, of step {step}")
            return best
        for part in ("recipe.json", "detector.json", "weights.safetensors"):
            if not (folder / part).is_file():
                raise ModelError(f"{folder}: no model folder: {part} is missing; expected the folder that train wrote")
        about, parts = read_record(folder / "detector.json"), Decisive.of(folder)
        recipe = json_object(parts.recipe, folder / "recipe.json")
        for data, file in ((about, "detector.json"), (recipe, "recipe.json")):
            require_version(data, folder / file, "restore the folder or train again")
        if parts.checksum != about.get("checksum"):
            raise ModelError(
                f"{folder}: recipe.json or weights.safetensors was altered since it was written (checksum differs); "
                "restore the folder or train again"
            )
        try:
            unknown = set(about) - {"checksum", "objects", "thresholds", "facts", "score_maps"}
            if unknown:
                raise ModelError(f"{folder / 'detector.json'}: unknown entry '{sorted(unknown)[0]}': update tomopick")
            method = Method.from_json(recipe)
            objects = tuple(read_object(o) for o in about["objects"])
            if not objects:
                raise KeyError("objects")
            network = _filled(method, len(objects), load(parts.weights))
            for tensor, values in network.state_dict().items():
                if values.is_floating_point() and not torch.isfinite(values).all():
                    raise ModelError(f"{folder}: weights of {tensor} are not finite numbers; train again")
            facts = read_facts(about["facts"])
            thresholds = read_thresholds(about["thresholds"], objects)
            maps = {name: ScoreMap.from_json(knots) for name, knots in about.get("score_maps", {}).items()}
        except ModelError as error:
            raise ModelError(error if str(folder) in str(error) else f"{folder}: {error}") from None
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, SafetensorError,
                RecipeError) as error:  # fmt: skip
            reason = reason_of(error)
            raise ModelError(f"{folder}: not a complete model ({reason}); train again") from error
        checksum, name = about["checksum"], name or str(folder)
        return cls(method, objects, network.eval(), thresholds, facts, checksum, name, maps, recipe)


def _filled(method: Method, n_objects: int, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network with its weights, whose shapes are compared before any memory is taken for it.

    Raises:
        RuntimeError: weights of another network.
    """
    with torch.device("meta"):
        wanted = {k: v.shape for k, v in method.network.build(n_objects).state_dict().items()}
    found = {k: v.shape for k, v in weights.items()}
    if wanted != found:
        other = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
        raise RuntimeError(f"weights of another network: {counted(len(other), 'tensor')} differ, such as {other[0]}")
    network = method.network.build(n_objects)
    network.load_state_dict(weights)
    return network
