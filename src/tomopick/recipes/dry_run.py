"""What a plan would do, told before anything is trained: runs, steps, time and memory of each training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.types import PickableObject
from ..networks.engines import autocast, choose_device, place
from ..picking.load import load_detector
from ..training.fit import FitOptions
from ..training.objectives import normalisable
from ..training.recipe import Recipe
from ..training.transfer import start_of, steps_from
from .as_published import runs_of
from .plans import Plan
from .shares import Grounds

_STATE_BYTES = 5 * 4  # a parameter: itself, its gradient, two moments and a running average


@dataclass(frozen=True)
class Planned:
    """One training of a plan.

    Attributes:
        name: of its folder.
        recipe: the method.
        train, val, unlabelled: how many runs (of each tomogram type) it has.
        steps: of training.
        start: what it starts from: a training, a model, a file of weights or timm's name for them; "" for new weights.
        seconds: of its steps on this device; validations and reading come on top.
        memory: of a step [bytes].
    """

    name: str
    recipe: str
    train: int
    val: int
    unlabelled: int
    steps: int
    start: str
    seconds: float
    memory: float


@dataclass(frozen=True)
class _Cost:
    """Of one patch: seconds and bytes; and bytes of the network's state."""

    seconds: float
    patch: int
    state: int

    @classmethod
    def of(cls, recipe: Recipe, n_objects: int, device: torch.device) -> _Cost:
        """Measured by one step on an empty patch, or on two where batches have so many, after one that does not count.

        Raises:
            RecipeError: the patches are too small to be normalised at the network's coarsest level.
        """
        network, n = place(recipe.network.build(n_objects), device).train(), min(2, recipe.train.batch_size)
        patch = torch.zeros((n, 1, *recipe.patch.shape), device=device)
        held: dict[int, int] = {}

        def hold(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        began = 0.0
        for _ in range(2):
            held.clear()
            began = time.perf_counter()
            seen = torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor)
            with seen, autocast(device), normalisable(network, patch.shape):
                logits = network(patch)
                outputs = (logits,) if isinstance(logits, torch.Tensor) else logits
                loss = sum(output.float().square().mean() for output in outputs)
            assert isinstance(loss, torch.Tensor)
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        parameters = sum(p.numel() for p in network.parameters())
        return cls((time.perf_counter() - began) / n, sum(held.values()) // n, parameters * _STATE_BYTES)


def look_ahead(plan: Plan, grounds: Grounds, options: FitOptions) -> list[Planned]:
    """Every training of a plan with what it learns from and costs here; nothing is written.

    Raises:
        TomopickError: as carrying the plan out would at once.
    """
    device = choose_device(options.device)
    model = load_detector(options.init_from) if options.init_from else None
    measured: dict[str, _Cost] = {}
    # By the models that the trainings make; "": the one that is given.
    known: dict[str, Sequence[PickableObject]] = {} if model is None else {"": model.objects}
    found = []
    for training, train, val, unlabelled, objects in runs_of(plan, grounds, options, model):
        recipe = training.recipe
        if training.start in known:
            recipe = steps_from(recipe, known[training.start], objects)
        known[training.name] = objects
        # Trainings differ in much else that costs nothing.
        key = f"{recipe.network} {recipe.patch.shape} {recipe.train.batch_size > 1} {len(objects)}"
        cost = measured.get(key) or _Cost.of(recipe, len(objects), device)
        measured[key] = cost
        spec, patches = recipe.train, float(recipe.train.batch_size)
        seconds = cost.seconds * patches * spec.steps
        if recipe.objective.semi_supervised:  # an unlabelled patch beside each labelled one, and the teacher's views
            seconds *= 2.5
            patches *= 2
        memory = cost.patch * patches + cost.state
        start = training.start or options.init_from or start_of(recipe, options.weights_folder)
        row = (training.name, recipe.name, train, val, unlabelled, spec.steps, start)
        found.append(Planned(*row, seconds, memory))
    return found


def table(rows: Sequence[Planned]) -> str:
    """The trainings as text, with their sum."""
    from tabulate import tabulate

    header = ["training", "recipe", "runs", "validated on", "unlabelled", "steps", "starts from", "hours", "GiB a step"]
    shown = [
        [r.name, r.recipe, r.train, r.val, r.unlabelled, f"{r.steps:,}", r.start or "-", _hours(r.seconds),
         f"{r.memory / 2**30:.1f}"]
        for r in rows
    ]  # fmt: skip
    total = _hours(sum(r.seconds for r in rows))
    text = tabulate(shown, headers=header, disable_numparse=True, colalign=("left", "left", *["right"] * 4, "left"))
    return f"{text}\n\n{len(rows)} training(s), about {total} h of steps here; reading and validation come on top"


def _hours(seconds: float) -> str:
    """Two digits are as much as one step can tell."""
    hours = float(f"{seconds / 3600:.2g}")
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:g}"
