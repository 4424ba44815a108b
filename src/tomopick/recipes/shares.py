"""What a plan learns from, and which runs each of its trainings gets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import SelectionError
from ..core.messages import untold
from ..data.labelled import picks_where_any
from ..data.runs import Runs
from ..training.fit import FitOptions
from ..training.sources import Source, plans_of
from ..training.transfer import require_addable
from .plans import Plan, Training

_SHUFFLE = 0x73756273  # tells the order of the runs from other random numbers of one seed


@dataclass(frozen=True)
class Grounds:
    """What a plan learns from.

    Attributes:
        sources: projects, together. The first one's runs are divided into folds and subsets; the others are learned
            from as they are. Those without labels come last.
        tomo_types: of each source: the types that are learned from together. The first of them is validated on.
        simulated: the project to pretrain on: all its runs, and its validation runs where some are named. Where none
            are, what is pretrained is chosen on the first source's.
    """

    sources: tuple[Source, ...]
    tomo_types: tuple[tuple[str, ...], ...]
    simulated: Source | None = None


def labelled_runs(source: Source) -> tuple[str, ...]:
    """The runs of a source that have picks, or those that were named, sorted."""
    if source.train_runs is not None:
        return tuple(sorted({*source.train_runs, *(source.val_runs or ())}))
    rest = [run for run in source.project.runs() if run not in source.unlabelled_runs]
    return tuple(sorted(picks_where_any(source.project, rest, source.picks)))


def unseen_runs(plan: Plan, grounds: Grounds, options: FitOptions) -> list[str]:
    """Runs of the first source that no training of a plan learns from; none where each is a fold of some."""
    if any(t.val_runs is not None for t in plan.members):
        return []
    return sorted(RunShares.of(plan, grounds, options).splits[0][1])


@dataclass(frozen=True)
class RunShares:
    """Which runs each training gets; decided once, so that all see the same split.

    Attributes:
        plan: that is carried out.
        grounds: on what.
        splits: (training runs, validation runs) of each source.
        order: all labelled runs of the first source, shuffled.
    """

    plan: Plan
    grounds: Grounds
    splits: tuple[tuple[list[str], list[str]], ...]
    order: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, grounds: Grounds, options: FitOptions) -> RunShares:
        """Raises `SelectionError` where the runs do not suffice for the plan, or nothing can be added in it."""
        require_addable(options.add, any(t.simulated for t in plan.trainings))
        seed = min(t.seed for t in plan.trainings)
        folded = any(t.val_runs is not None for t in plan.trainings)
        with untold() if folded else nullcontext():
            splits = [(p.train, p.val) for p in plans_of(grounds.sources, seed)]
        train, val = splits[0]
        runs = sorted([*train, *val])
        order = np.random.default_rng((_SHUFFLE, seed)).permutation(len(runs))
        shares = cls(plan, grounds, tuple(splits), tuple(runs[i] for i in order))
        for training in plan.members:
            shares._check(training)
        if plan.weights == "grid" and not folded and not val:
            raise SelectionError(
                f"{plan.name} weighs its members on validation runs and there is none; name some with `val_runs`, or "
                "label another run"
            )
        return shares

    def _check(self, training: Training) -> None:
        train, val = self._first(training)
        if training.subset is not None and training.subset > len(self._pool(training)):
            n = len(self._pool(training))
            fitting = ",".join(str(max(1, k)) for k in sorted({n // 4, n // 2, n}) if k)
            raise SelectionError(
                f"{training.name}: {training.subset} runs to learn from are asked for, and there are {n} (those kept "
                f"for validation do not count); label more, or take fewer: `subset={fitting or 1}`"
            )
        types = self.grounds.tomo_types[0]
        if len(types) > 1 and training.tomo_type is None and not val and len(train) < 2:
            raise SelectionError(
                f"several tomogram types of the only labelled run {', '.join(train)}: none could be validated on "
                "without having been seen; label another run and name it with `val_runs`"
            )

    def _pool(self, training: Training) -> list[str]:
        """The first source's runs that a training may learn from, in the shuffled order."""
        return [run for run in self.order if run not in self._kept(training)]

    def _kept(self, training: Training) -> Sequence[str]:
        """The first source's runs that a training is validated on: of one that names none, those the user names."""
        if training.val_runs:
            return training.val_runs
        return self.splits[0][1] if training.val_runs is None or self.grounds.sources[0].val_runs else ()

    def _first(self, training: Training) -> tuple[list[str], list[str]]:
        """Training and validation runs of the first source."""
        return sorted(self._pool(training)[: training.subset]), list(self._kept(training))

    def sources(self, training: Training) -> list[Source]:
        """What a training learns from: a source for each type of each project."""
        if training.simulated:
            return self._simulated(training.subset)
        found = []
        for i, (source, types) in enumerate(zip(self.grounds.sources, self.grounds.tomo_types)):
            if not source.labelled:
                found.append(source)
                continue
            train, val = self._first(training) if not i else self.splits[i]
            kinds: Sequence[str | None] = types or (None,)
            if training.tomo_type is not None and training.tomo_type in types:
                kinds = (training.tomo_type,)
            alone = source.val_runs is None and not val and training.val_runs is None
            runs = replace(source.runs, names=train, tomo_type=kinds[0])
            found.append(replace(source, runs=runs, val_runs=None if alone else val))
            for kind in kinds[1:]:
                further = replace(runs, tomo_type=kind)
                found.append(replace(source, runs=further, val_runs=(), unlabelled_runs=()))
        return found

    def _simulated(self, subset: int | None) -> list[Source]:
        """What pretraining learns from, and the runs that it is chosen on: none where these are folds of the plan's.

        A subset are the first runs by name.
        """
        assert self.grounds.simulated is not None
        val_runs = self.grounds.simulated.val_runs or ()
        learned = replace(self.grounds.simulated, val_runs=val_runs, role="simulated")
        if subset is not None:
            kept = [run for run in labelled_runs(learned) if run not in (learned.val_runs or ())]
            learned = replace(learned, runs=replace(learned.runs, names=kept[:subset]))
        val, folded = self.splits[0][1], any(t.val_runs is not None for t in self.plan.trainings)
        if learned.val_runs or folded or not val:
            return [learned]
        first, types = self.grounds.sources[0], self.grounds.tomo_types[0]
        none = replace(first.runs, names=(), tomo_type=types[0] if types else None)
        chosen = replace(first, runs=none, val_runs=val, unlabelled_runs=())
        return [learned, chosen]

    def validation(self) -> Runs | None:
        """The runs that the ensemble is measured on: all folds', else those of the split."""
        source, types = self.grounds.sources[0], self.grounds.tomo_types[0]
        runs = sorted({run for t in self.plan.members for run in self._kept(t)})
        if not runs:
            return None
        return replace(source.runs, names=runs, tomo_type=types[0] if types else None)

    def to_json(self) -> dict[str, Any]:
        """By which an interrupted plan's data are known again."""
        kept = [[s.project.uri, *split] for s, split in zip(self.grounds.sources, self.splits)]
        types, made = [list(t) for t in self.grounds.tomo_types], self.grounds.simulated
        about = {"runs": kept, "tomo_types": types, "simulated": made.project.uri if made else None}
        picks = [source.picks for source in self.grounds.sources]
        return about | {"picks": picks, "of the simulated": [made.tomo_type, made.picks] if made else None}
