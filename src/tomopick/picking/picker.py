"""A model set up once for many tomograms: options, averaged heatmaps, picks. All picking comes through here."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from .. import __version__
from ..core.arrays import Array
from ..core.errors import SelectionError
from ..core.messages import near_miss, with_fields
from ..core.types import THRESHOLD, Grid, Heatmap, PickableObject, Picks, Tomogram, is_inverted
from ..networks.engines import RECORDING, EngineSpec, choose_device
from ..scoring.metrics import thresholds_for
from ..scoring.score_maps import ScoreMaps, heights, mapped
from .exclusion import Exclusion
from .folder import TrainingFacts
from .options import PickOptions
from .peaks import LOWEST_SCORE, PeakFinder, with_distances
from .predict import Predictor, predict_rows
from .prepared import Prepared, Single
from .rows import decode_rows, join_rows, on_host, watched
from .tensors import fits, uploaded

if TYPE_CHECKING:  # files are read where a path is given, not where a network runs
    from .found import Found, Volume

log = logging.getLogger("tomopick")


class Model(Protocol):
    """A trained model, of one network or of several that pick as one: a `Detector` or an `Ensemble`."""

    @property
    def name(self) -> str:
        """Folder or shipped name, for messages."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models that were joined to it, for records; else its own."""

    @property
    def checksum(self) -> str:
        """Of what decides the picks."""

    @property
    def objects(self) -> tuple[PickableObject, ...]:
        """That it finds, in the order of its heatmaps' channels."""

    @property
    def thresholds(self) -> Mapping[str, Mapping[str, float]]:
        """By metric and object."""

    @property
    def score_maps(self) -> ScoreMaps:
        """By object, from a peak's height to its score."""

    @property
    def facts(self) -> TrainingFacts:
        """Of its training, or trainings."""

    @property
    def peaks(self) -> PeakFinder:
        """How particles are found in its heatmaps."""

    @property
    def detectors(self) -> Sequence[Single]:
        """The networks that it is made of."""

    def overridden(self, assignments: Sequence[str]) -> Model:
        """The same networks with settings of `tiling` and `peaks` changed."""

    def blend(self, parts: Sequence[Iterable[Heatmap]]) -> Iterator[Heatmap]:
        """The networks' rows, one iterable each -> the model's."""

    def rows(self, tomogram: Tomogram, options: PickOptions | None = None) -> Iterator[Heatmap]:
        """Finished rows of heatmap, strip by strip."""

    def heatmap(
        self, volume: Volume, options: PickOptions | None = None, *, voxel_spacing: float | None = None, **how: Any
    ) -> Heatmap:
        """The whole heatmap in memory."""

    def pick(
        self, volume: Volume, thresholds: Mapping[str, float] | None = None, options: PickOptions | None = None,
        *, voxel_spacing: float | None = None, **how: Any,
    ) -> Found:  # fmt: skip
        """Scored picks above the thresholds, best first."""


class ByPicker:
    """What every model does in the same way, which is the command's: by a `Picker`."""

    def rows(self: Model, tomogram: Tomogram, options: PickOptions | None = None) -> Iterator[Heatmap]:
        """Finished rows of heatmap, strip by strip; what is unlike the training is logged."""
        rows, unlike = Picker(self, options or PickOptions()).rows(tomogram)
        _tell(tomogram.run, unlike)
        return rows

    def heatmap(
        self: Model, volume: Volume, options: PickOptions | None = None, *,
        voxel_spacing: float | None = None, **how: Any,
    ) -> Heatmap:  # fmt: skip
        """The whole heatmap in memory; arguments are those of `pick`."""
        from .found import as_tomogram

        return join_rows(self.rows(as_tomogram(volume, voxel_spacing), with_fields(options or PickOptions(), how)))

    def pick(
        self: Model, volume: Volume, thresholds: Mapping[str, float] | None = None,
        options: PickOptions | None = None, *, voxel_spacing: float | None = None, **how: Any,
    ) -> Found:  # fmt: skip
        """Scored picks above the thresholds, best first; what is unlike the training is logged too.

        Networks that were made ready are kept from call to call.

        Args:
            volume: a (z, y, x) array, a tomogram, or the path of a volume.
            thresholds: by object, in place of those that `options` mean.
            options: how to pick.
            voxel_spacing: of an array [Å]; of a file, in place of its header's.
            how: fields of `PickOptions`, in place of those of `options`.

        Raises:
            TomopickError: a volume that cannot be read or has no voxel spacing, options that do not fit.
        """
        from .found import Found, as_tomogram

        tomogram, options = as_tomogram(volume, voxel_spacing), with_fields(options or PickOptions(), how)
        options = replace(options, thresholds={**options.thresholds, **(thresholds or {})})
        picks, unlike = Picker(self, options).pick(tomogram)
        _tell(tomogram.run, unlike)
        return Found(picks, tuple(unlike), _heatmap=lambda: join_rows(Picker(self, options).rows(tomogram)[0]))

    def __repr__(self: Model) -> str:
        names = ", ".join(o.name for o in self.objects)
        cuts = "/".join(self.thresholds)
        size = f" of {len(self.detectors)}" if len(self.detectors) > 1 else ""
        return f"<{type(self).__name__}{size} '{self.name}': {names}; at {self.facts.voxel_spacing:g} Å; for {cuts}>"


def _tell(run: str, unlike: Iterable[str]) -> None:
    for line in unlike:
        log.warning(f"run {run}: {line}" if run else line)


class Picker:
    """A model set up once for many runs; several are joined first: `Ensemble.of`.

    Where its engines run on a GPU a tomogram goes up once, in `prepare`, and everything is done there that is done to
    whole volumes; only maxima come down. Its rows of heatmap come down for whoever asks for them.

    Args:
        model: to pick with.
        options: how to pick.
        on_device: whether volumes go to the device; None: where it is a GPU.
    """

    def __init__(self, model: Model, options: PickOptions, on_device: bool | None = None):
        self.model: Model = model.overridden(options.overrides) if options.overrides else model
        self.options = options
        self.detectors = self.model.detectors
        self.objects = self.model.objects
        names = [o.name for o in self.objects]
        for name, value in options.thresholds.items():
            if name not in names:
                raise SelectionError(
                    f"`thresholds={name}={value:g}`: no model knows '{name}'; {near_miss(name, names)}"
                )
            if not 0 <= value <= 1:
                raise SelectionError(f"`thresholds={name}={value:g}`: scores lie between 0 and 1; choose one there")
        for name in options.min_distances:
            if name not in names:
                raise SelectionError(f"`min_distances`: no model knows '{name}'; {near_miss(name, names)}")
        self.peaks = with_distances(self.model.peaks, options.min_distances)
        self.score_maps: ScoreMaps = self.model.score_maps
        whose = self.model.name or "this model"
        self.thresholds = {**thresholds_for(self.model.thresholds, options.metric, whose), **options.thresholds}
        stated, wanted = self.detectors[0].method.exclusion, options.exclude
        self.exclusion = Exclusion.of(self.objects, self.model.thresholds, self.thresholds, stated, wanted)
        device = self.device = choose_device(options.device)
        engine = EngineSpec(options.engine, options.precision)
        self.predictors: list[Predictor] = [d.predictor(device, options.views, engine) for d in self.detectors]
        able = all(p.engine.tensors_on == device for p in self.predictors)
        self.on_device = able and (device.type == "cuda" if on_device is None else on_device)

    def engines(self) -> list[str]:
        """What the networks run on, each named once, such as `openvino bf16 on cpu`."""
        return list(dict.fromkeys(str(p.engine) for p in self.predictors))

    def differences(self) -> list[str]:
        """Where the members disagree on what can only be one: what is used, one line each."""
        peaks = self.model.peaks
        found = []
        if any(d.method.peaks != peaks for d in self.detectors):
            found.append(f"the models find peaks in different ways; used is that of {self.detectors[0].name}: {peaks}")
        stated = {(o.name, o.radius) for d in self.detectors for o in d.objects}
        names = [name for name, _ in stated]
        used = [f"{o.name} {o.radius_angstrom:g} Å" for o in self.objects if names.count(o.name) > 1]
        if used:
            found.append(f"the models know other radii; used are those of the first that knows one: {', '.join(used)}")
        return found

    def fingerprint(self, tomo_type: str | None = None) -> str:
        """Changes with the weights, the recipe, the version, the type of tomogram, and what else decides the picks."""
        moved = [self.model.facts.displacement] if self.options.offset == "fitted" else None
        settings = {"tomo_type": tomo_type, **self.options.settings()}
        facts = [__version__, [self.model.checksum], self.thresholds, settings, moved]
        facts += [{k: m.to_json() for k, m in self.score_maps.items()}] if self.score_maps else []
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def rows(
        self, tomogram: Tomogram | Prepared, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Iterator[Heatmap], list[str]]:
        """Finished rows of (averaged) heatmap, and what is unlike the training."""
        rows, found = self._rows(tomogram, progress)
        return on_host(rows), found

    def _rows(
        self, tomogram: Tomogram | Prepared, progress: Callable[[int, int], None]
    ) -> tuple[Iterator[Heatmap], list[str]]:
        parts, found = self._parts(tomogram, progress, range(len(self.detectors)))
        return self.model.blend(parts), found

    def prepare(self, tomogram: Tomogram, members: Iterable[int] | None = None) -> Prepared:
        """The tomogram as the numbered members' networks see it (None: all); may run in another thread.

        Raises:
            TomopickError: a member cannot take it.
        """
        if self.on_device and fits(tomogram.grid, self.device):
            try:
                with RECORDING:
                    return self._seen(uploaded(tomogram, self.device), members)
            except torch.OutOfMemoryError:
                pass  # not in the handler: the error holds on to the memory that it was raised in
            log.warning(
                f"run {tomogram.run}: not enough memory for the volume on {self.device}: it is kept on the host"
            )
        return self._seen(tomogram, members)

    def _seen(self, tomogram: Tomogram, members: Iterable[int] | None) -> Prepared:
        """See `prepare`; where the tomogram lies."""
        if is_inverted(self.options.invert, tomogram.run):
            tomogram = tomogram.inverted()
        seen: dict[int, tuple[Array, Grid]] = {}
        found: list[str] = []
        # Members that see grey values alike share one normalised copy of the volume.
        copies: dict[Any, tuple[Array, Grid]] = {}
        for i in range(len(self.detectors)) if members is None else members:
            detector = self.detectors[i]
            key = (detector.method.normalize, detector.facts.voxel_spacing)
            if key not in copies:
                copies[key] = detector.prepare(tomogram)
            seen[i] = copies[key]
            found += [line for line in detector.findings(tomogram, seen[i][0]) if line not in found]
        return Prepared(tomogram.run, tomogram.grid, seen, tuple(found), tomogram.void)

    def parts(
        self, tomogram: Tomogram | Prepared, progress: Callable[[int, int], None], members: Iterable[int]
    ) -> tuple[list[Iterator[Heatmap]], list[str]]:
        """Finished rows of each of the numbered members, not averaged, and what is unlike their training."""
        parts, found = self._parts(tomogram, progress, members)
        return [on_host(rows) for rows in parts], found

    def _parts(
        self, tomogram: Tomogram | Prepared, progress: Callable[[int, int], None], members: Iterable[int]
    ) -> tuple[list[Iterator[Heatmap]], list[str]]:
        seen = tomogram if isinstance(tomogram, Prepared) else self.prepare(tomogram, members)
        parts: list[Iterator[Heatmap]] = []
        for i, (values, grid) in seen.members.items():
            predictor = self.predictors[i]
            counting = replace(predictor, progress=predictor.progress if parts else progress)
            wanted = None if seen.places is None else seen.places.wanted
            parts.append(predict_rows(replace(counting, wanted=wanted), seen.run, values, grid))
        return parts, list(seen.found)

    def pick(
        self,
        tomogram: Tomogram | Prepared,
        progress: Callable[[int, int], None] = lambda done, total: None,
        keep: Callable[[Heatmap], None] | None = None,
    ) -> tuple[Picks, list[str]]:
        """Picks of one tomogram, best first, and what is unlike the training.

        Args:
            tomogram: to pick.
            progress: told tiles done and of all.
            keep: given each strip of heatmap as it is finished.
        """
        keep_below = self.options.keep_below and not self.positions_depend_on_threshold
        floor = heights(self.thresholds, self.score_maps)
        for name, height in floor.items():
            if keep_below:
                floor[name] = min(height, LOWEST_SCORE)
            elif name in self.score_maps:  # a little lower, for two ways of rounding decide on its last digits
                floor[name] = max(LOWEST_SCORE, height - 1e-6)
        seen = tomogram if isinstance(tomogram, Prepared) else self.prepare(tomogram)
        found, picks = list(seen.found), mapped(self._found_at(seen, floor, progress, keep), self.score_maps)
        picks = picks if keep_below or not self.score_maps else picks.above(self.thresholds)
        picks = self.exclusion(picks)
        if seen.places is not None:
            picks = seen.places.keep(picks)
        if keep_below:  # whoever reads them must know which were kept
            picks = picks.with_column(THRESHOLD, np.array([self.thresholds[name] for name in picks.names.tolist()]))
        return picks, found

    def _found_at(
        self,
        seen: Prepared,
        floor: Mapping[str, float],
        progress: Callable[[int, int], None],
        keep: Callable[[Heatmap], None] | None,
    ) -> Picks:
        """Picks of a tomogram, on the device as far as its memory reaches."""
        try:
            rows = self._rows(seen, progress)[0]
            return self.picks_at(watched(rows, keep) if keep else rows, seen, floor)
        except torch.OutOfMemoryError:
            if keep or not seen.on_device:  # what was kept cannot be taken back
                raise
        torch.cuda.empty_cache()
        log.warning(f"run {seen.run}: not enough memory on {self.device} for heatmaps: they are made on the host")
        return self.picks_at(self._rows(seen.on_host(), progress)[0], seen, floor)

    @property
    def positions_depend_on_threshold(self) -> bool:
        """Whether the decoder finds other positions with another threshold, and not only more or fewer."""
        return self.peaks.positions_depend_on_threshold

    def picks_at(self, rows: Iterable[Heatmap], tomogram: Tomogram | Prepared, floor: Mapping[str, float]) -> Picks:
        """Picks of finished rows down to the heights `floor`; their scores are heights, not yet mapped."""
        picks = decode_rows(rows, self.peaks, self.objects, floor, tomogram.run)
        if self.options.offset == "fitted":
            picks = picks.shifted(-np.array(self.model.facts.displacement))
        # Where the volume is no multiple of the stride, the last cells reach beyond it.
        return picks.select(tomogram.holds(picks.positions))

    def counts(self, picks: Picks) -> dict[str, int]:
        """Picks at or above the threshold, by object."""
        kept = picks.above(self.thresholds)
        return {name: len(kept.of(name)) for name in self.thresholds}
