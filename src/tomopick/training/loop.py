"""The one training loop, and the state that it carries from step to step (and through an interruption)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import nn

from ..core.errors import ModelError, RecipeError
from ..core.messages import reason_of
from ..core.reading import typed
from ..networks.engines import half_precision, place
from ..picking.folder import read_record
from .averaging import RunningAverage
from .patches import Batch
from .ranks import ALONE, Ranks
from .schedules import Cosine, Schedule

MOST_COUNTED = 1_000_000_000  # steps, or whatever else is counted of a training
SELECT = {"f1": "F1", "czii": "F4"}  # by what the best weights are told, and its name


@dataclass(frozen=True)
class TrainSpec:
    """How a network is trained.

    Attributes:
        steps: how many batches.
        batch_size: patches a batch.
        lr: largest learning rate of AdamW; reached after `warmup_steps`.
        lr_from_model: times that where the training starts from a model, which knows much already.
        steps_from_model: in place of `steps` where that model knows all of the objects; 0: as many. An override of
            `steps` alone holds there too.
        weight_decay: of AdamW.
        warmup_steps: in which the learning rate rises to `lr`.
        clip_norm: largest norm of the gradient.
        ema_decay: of the running average of weights, which is what is validated and kept. A model that it starts from
            counts in it as any step does where that knows all objects and fewer than 50 labels of each are learned
            from; else it is soon left out, as a random start is.
        validate_every: steps between validations; 0: the first within two minutes, then often enough for a curve and
            seldom enough to take a tenth of the time.
        keep_top: how many of the best weights are kept in `top/`.
        select: by what the best are told: `f1`, the mean over the objects of the best F1 at half a radius, or `czii`,
            the challenge's weighted F-beta 4.
        schedule: how the learning rate falls behind the warm-up.
    """

    steps: int = 3000
    batch_size: int = 8
    lr: float = 1e-3
    lr_from_model: float = 1.0
    steps_from_model: int = 0
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    validate_every: int = 0
    keep_top: int = 3
    select: str = "f1"
    schedule: Schedule = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "keep_top", "validate_every", "steps_from_model", "warmup_steps")
        for name in (name for name in counts if getattr(self, name) > MOST_COUNTED):
            raise RecipeError(f"train.{name} is {getattr(self, name):.3g}; it must be at most {MOST_COUNTED:,}")
        for name in ("validate_every", "steps_from_model"):
            if getattr(self, name) < 0:
                raise RecipeError(f"train.{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("steps", "batch_size", "keep_top"):
            if getattr(self, name) < 1:
                raise RecipeError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        if self.select not in SELECT:
            raise RecipeError(f"train.select is {self.select}; it can be {' or '.join(SELECT)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise RecipeError(f"train.lr is {self.lr:g}; it must be a positive number")
        if not (math.isfinite(self.lr_from_model) and self.lr_from_model > 0):
            raise RecipeError(f"train.lr_from_model is {self.lr_from_model:g}; it must be a positive number")
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(f"train.ema_decay is {self.ema_decay:g}; it must be from 0 to just below 1")
        if not self.clip_norm > 0:  # a negative one would turn every step around
            raise RecipeError(f"train.clip_norm is {self.clip_norm:g}; it must be a positive number (inf: no limit)")
        if not 0 <= self.weight_decay < math.inf or self.warmup_steps < 0:
            raise RecipeError(
                f"train.weight_decay is {self.weight_decay:g} and train.warmup_steps {self.warmup_steps}; neither may "
                "be below 0"
            )

    def from_model(self) -> TrainSpec:
        """As a training goes that starts from a model: at its learning rate for that, which is then the training's."""
        return replace(self, lr=self.lr * self.lr_from_model, lr_from_model=1.0)

    def for_known_objects(self) -> TrainSpec:
        """As a training goes that starts from a model that knows all of the objects: with the steps for that."""
        if not self.steps_from_model:
            return self
        steps = min(self.steps, self.steps_from_model)
        return replace(self, steps=steps, warmup_steps=min(self.warmup_steps, max(1, steps // 10)), steps_from_model=0)

    def lr_at(self, step: int, scores: Sequence[float] = ()) -> float:
        """Learning rate of a step, counted from 0, after validations of the given scores."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        progress = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.lr * warm * self.schedule(min(1.0, progress), scores)


class Notes(TypedDict, total=False):
    """What is remembered of a training's course; an entry is missing until there is something.

    `scores` of all validations so far, which a schedule may go by; `best`: score and step; `top`: the same of each of
    the weights that are kept; `cuts`: by object, the lowest height of a pick that was best for F1 when it was last
    validated; `data`: what decides the batches besides the recipe; `every` and `due`: steps from one validation to the
    next, and where the next is.
    """

    scores: list[float]
    best: tuple[float, int]
    top: list[tuple[float, int]]
    cuts: dict[str, float]
    data: dict[str, Any]
    every: int
    due: int


@dataclass
class TrainState:
    """Everything that changes during training; `save` and `load` carry it through an interruption.

    Attributes:
        network: on its device.
        optimizer: over the network's parameters.
        scaler: of the gradients, where the half type needs it (fp16).
        averages: running averages by name; `ema` is the one that is validated and kept.
        step: how many steps have been taken.
        stage: of objectives that have several (`train` where there is one).
        notes: of whoever watches, as JSON values.
        shapes: of the batches that the network is known to take; not kept.
        ranks: the processes that share the training; not kept, so that it goes on with any number of them.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averages: dict[str, RunningAverage]
    step: int = 0
    stage: str = "train"
    notes: Notes = field(default_factory=Notes)
    shapes: set[torch.Size] = field(default_factory=set)
    ranks: Ranks = ALONE

    @classmethod
    def start(cls, network: nn.Module, spec: TrainSpec, device: torch.device) -> TrainState:
        """The state before the first step."""
        network = place(network, device)
        # No decay on biases and norms: pulling them to zero only fights the normalisation.
        decayed = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=spec.lr, fused=True if device.type in ("cpu", "cuda") else None)
        scaler = torch.amp.GradScaler(device.type, enabled=half_precision(device) == torch.float16)
        return cls(network, optimizer, scaler, {"ema": RunningAverage.of(network, spec.ema_decay)})

    def save(self, folder: Path) -> None:
        """Writes tensors as safetensors and the rest as JSON into an existing folder; nothing is pickled."""
        data, facts = self._packed()
        (folder / "state.safetensors").write_bytes(data)  # not save_file: it hides that the disk is full
        (folder / "state.json").write_text(json.dumps(facts, indent=1))

    def spread(self) -> None:
        """All ranks take up what rank 0 has."""
        if self.ranks.size == 1:
            return
        data, facts = self._packed() if self.ranks.leads else (b"", {})
        facts, data = self.ranks.says(facts), self.ranks.sends(data)
        if not self.ranks.leads:
            self._take(_Facts.of(facts, "rank 0"), load(data))

    def _packed(self) -> tuple[bytes, dict[str, Any]]:
        tensors = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        for name, average in self.averages.items():
            tensors |= {f"average/{name}/{k}": v for k, v in average.tensors.items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{k}": v for k, v in slots.items()}
        data = save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})
        facts = {
            "step": self.step,
            "stage": self.stage,
            "notes": self.notes,
            "scaler": self.scaler.state_dict(),
            "averages": {
                k: {"decay": a.decay, "updates": a.updates, "forgets_start": a.forgets_start}
                for k, a in self.averages.items()
            },
        }
        return data, facts

    def load(self, folder: Path) -> None:
        """Takes up what `save` wrote.

        Raises:
            ModelError: a file is missing or belongs to another network.
        """
        try:
            path = folder / "state.json"
            self._take(_Facts.of(read_record(path), str(path)), load_file(folder / "state.safetensors"))
        except (OSError, LookupError, TypeError, RuntimeError, ValueError, ArithmeticError, SafetensorError) as error:
            reason = reason_of(error)
            raise ModelError(
                f"{folder}: cannot resume ({type(error).__name__}: {reason}); "
                "expected the state of this recipe: train into a new folder"
            ) from error

    def _take(self, facts: _Facts, tensors: Mapping[str, torch.Tensor]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            head, _, tail = key.partition("/")
            parts.setdefault(head, {})[tail] = value
        self.network.load_state_dict(parts["network"])
        for name, kept in facts.averages.items():
            # A later stage may have begun with averages that the first does not have; of() places them.
            average = RunningAverage.of(self.network, kept.decay, kept.forgets_start)
            average.updates = kept.updates
            for key, tensor in average.tensors.items():
                tensor.copy_(parts["average"][f"{name}/{key}"])
            self.averages[name] = average
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {}
        for key, value in parts.get("optimizer", {}).items():
            i, _, slot = key.partition("/")
            optimizer["state"].setdefault(int(i), {})[slot] = value
        self.optimizer.load_state_dict(optimizer)
        for parameter, slots in self.optimizer.state.items():  # laid out as it is, which fused steps insist on
            slots.update({k: _like(v, parameter) for k, v in slots.items()})
        self.scaler.load_state_dict(dict(facts.scaler))
        self.step, self.stage, self.notes = facts.step, facts.stage, cast(Notes, dict(facts.notes))


def _like(values: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Values with the strides of a parameter of their shape."""
    return torch.empty_like(parameter).copy_(values) if values.shape == parameter.shape else values


@dataclass(frozen=True)
class _Average:
    """What a state says of a running average beside its tensors."""

    decay: float
    updates: int
    forgets_start: bool


@dataclass(frozen=True)
class _Facts:
    """What a state says beside its tensors."""

    step: int
    stage: str
    notes: Mapping[str, Any]
    scaler: Mapping[str, Any]
    averages: Mapping[str, _Average]

    @classmethod
    def of(cls, record: Mapping[str, Any], path: str) -> _Facts:
        """Raises `ModelError` for what is of another type: steps, for one, are parts of the names of files."""
        facts: _Facts = typed(cls, record, path, ModelError)
        kinds = {"scores": tuple[float, ...], "top": tuple[tuple[float, int], ...], "best": tuple[float, int]}
        kinds |= {"data": Mapping[str, Any], "cuts": Mapping[str, float]}
        for name, kind in kinds.items():
            if name in facts.notes:
                typed(kind, facts.notes[name], f"{path}.notes.{name}", ModelError)
        if facts.step < 0 or any(step < 0 for _, step in facts.notes.get("top", [])):
            raise ModelError(f"{path}: a step below 0; train into a new folder")
        return facts


class Objective(Protocol):
    """One method; the training loop knows no other."""

    def loss(self, state: TrainState, batch: Batch) -> torch.Tensor:
        """Scalar loss of a batch that is already on the network's device."""


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        step: its number.
        value: the loss; on a GPU a scalar there, for asking for it waits until the step is done.
        lr: learning rate.
        seconds: that it took; on a GPU, to launch it.
    """

    step: int
    value: torch.Tensor | float
    lr: float
    seconds: float

    @property
    def loss(self) -> float:
        """The loss."""
        return float(self.value)


def require_finite(loss: float, step: int, spec: TrainSpec) -> float:
    """A step's loss; raises `RecipeError` where it is no longer a number."""
    if not math.isfinite(loss):
        raise RecipeError(f"the loss is {loss} at step {step}; expected a number: lower train.lr (it is {spec.lr:g})")
    return loss


# Takes the gradients of a batch's loss, and gives the loss.
Slope = Callable[[TrainState, Batch], torch.Tensor]


def train(
    state: TrainState, objective: Objective, batches: Iterable[Batch], spec: TrainSpec, slope: Slope | None = None
) -> Iterator[StepReport]:
    """Takes one step a batch and reports it; who wants to watch, validate or save does so between the reports.

    Args:
        state: of the training.
        objective: that is minimised.
        batches: one a step.
        spec: how it is trained.
        slope: takes the gradients, where another way than by the objective's loss is faster.

    Raises:
        RecipeError: the loss is no longer a number; on a GPU nobody looks at it before the report is asked for it.
    """
    device = next(state.network.parameters()).device
    for batch in batches:
        began = time.perf_counter()
        state.network.train()
        lr = spec.lr_at(state.step, state.notes.get("scores", ()))
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        if slope is None:
            loss = objective.loss(state, _of_all(batch.to(device), state.ranks, spec.batch_size))
            value: torch.Tensor | float = loss.detach()
            if device.type != "cuda":  # before a step is taken with it
                value = require_finite(float(value), state.step + 1, spec)
            state.optimizer.zero_grad(set_to_none=True)
            state.scaler.scale(loss).backward()
        else:
            value = slope(state, batch.to(device))
        state.ranks.sum_gradients(state.network)
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), spec.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        for average in state.averages.values():
            average.update(state.network)
        state.step += 1
        yield StepReport(state.step, value, lr, time.perf_counter() - began)


def _of_all(batch: Batch, ranks: Ranks, size: int) -> Batch:
    """The whole batch, of the ranks' shares."""
    return Batch(*(ranks.gathered(values, size) for values in batch)) if ranks.size > 1 else batch
