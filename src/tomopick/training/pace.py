"""How long a training takes: when it is looked at, how many steps fit a time, and what is said about that."""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
from dataclasses import replace

import torch

from ..core.crowding import Waiting
from ..core.messages import counted
from ..core.progress import duration
from .loop import MOST_COUNTED, TrainSpec, TrainState

log = logging.getLogger("tomopick")

MEASURED = 10  # steps after which the rest is reckoned
SLOW = 2  # the first steps, which do not count
SOON = 120.0  # [s] until the first validation, at most
LOOKS = 8  # validations that make a curve, at least
SHARE = 0.1  # of the time that validations may take
SETTLED = 60.0  # [s] of steps after which it is asked again whether they fit the time
ADRIFT = 0.08  # of the whole time, by which the end may be missed before the steps are fitted anew


class Pace:
    """Watches the clock of one training; what decides the validations is kept in the state's notes.

    Args:
        state: of the training.
        spec: how it is trained; `validate_every` of 0 leaves the interval to this.
        trial: only to measure the first steps: nothing is validated and nothing said.
        ahead: batches that other processes make before the first step; steps that find theirs made tell nothing.
    """

    def __init__(self, state: TrainState, spec: TrainSpec, trial: bool = False, ahead: int = 0) -> None:
        self.state, self.spec, self.trial = state, spec, trial
        self.first, self.enough = SLOW + ahead, MEASURED + ahead
        self._last = time.monotonic()
        self._seconds: list[float] = []
        self._waiting = Waiting()

    def step_done(self) -> None:
        """Called after each step, and once more after what was done between two (which then does not count)."""
        if len(self._seconds) + 1 in (self.first, self.enough):
            _wait(self.state)
        now = time.monotonic()
        self._seconds.append(now - self._last)
        self._last = now

    def paused(self) -> float:
        """Seconds since the last step, which are not the next one's."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        return passed

    @property
    def seconds(self) -> float | None:
        """Of a step, patches included; None before enough were taken."""
        taken = self._seconds[self.first :]
        return sum(taken) / len(taken) if len(self._seconds) >= self.enough else None

    def due(self, step: int) -> bool:
        """Whether the weights are to be validated after this step."""
        if self.trial or step == self.spec.steps:
            return not self.trial
        if self.spec.validate_every:
            return step % self.spec.validate_every == 0
        notes = self.state.notes
        if "due" not in notes and self.seconds is not None:
            every = max(1, min(math.ceil(self.spec.steps / LOOKS), int(SOON / self.seconds)))
            notes["due"], notes["every"] = max(step, every), every
        return step >= notes.get("due", self.spec.steps)

    def validated(self, step: int, seconds: float) -> None:
        """After a validation that took so long: when the next one is, so that they do not take too much of the time."""
        if "every" not in self.state.notes:
            return
        each = self.seconds or seconds
        least = math.ceil(seconds * (1 - SHARE) / SHARE / each)
        every = max(self.state.notes["every"], least)
        self.state.notes["every"], self.state.notes["due"] = every, step + every

    def told(self, step: int) -> None:
        """Says once how long the rest will take."""
        if len(self._seconds) == self.enough and step < self.spec.steps and not self.trial:
            assert self.seconds is not None
            left = duration(self.seconds * (self.spec.steps - step) / (1 - SHARE))
            log.info(f"{self.seconds:.2g} s a step: about {left} left; {_memory():.1f} GB of memory so far")
            if line := self._waiting.line():
                log.warning(line)


class Deadline:
    """Whether a training still ends when it is to: other work comes to the machine and leaves it.

    Args:
        end: when that is, of the monotonic clock.
        step: that was taken last.
    """

    def __init__(self, end: float, step: int) -> None:
        self.end = end
        self.whole = end - time.monotonic()
        # Long enough that validations have their usual share of it.
        self.settled = max(SETTLED, self.whole * SHARE)
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._first, self._began = step, time.monotonic()

    def missed(self, steps: int, step: int) -> bool:
        """Whether `steps` in all end too soon or too late, by how long the last ones took, validations included."""
        now = time.monotonic()
        if step == self._first or step >= steps or now - self._began < self.settled:
            return False
        each = self._each(step, now)
        missed = abs(each * (steps - step) - self._left(now)) > max(ADRIFT * self.whole, each)
        if not missed:
            self._begin(step)
        return missed

    def fitted(self, spec: TrainSpec, step: int) -> TrainSpec:
        """The training whose steps end in time, with some left for what comes behind them."""
        now = time.monotonic()
        steps = min(MOST_COUNTED, step + max(1, int(self._left(now) / self._each(step, now))))
        log.info(f"the pace has changed: {counted(steps, 'step')} fit the time, not {spec.steps}")
        self._begin(step)
        return replace(spec, steps=steps)

    def _left(self, now: float) -> float:
        return self.end - now - self.whole * SHARE / 2

    def _each(self, step: int, now: float) -> float:
        return (now - self._began) / (step - self._first)


def fitted(spec: TrainSpec, seconds_a_step: float, seconds_left: float, step: int) -> TrainSpec:
    """The training that fits a time: its steps, and a warm-up of a tenth of them where it would be longer.

    Args:
        spec: as the recipe has it.
        seconds_a_step: measured.
        seconds_left: until it is to end, the last validation included.
        step: how many were taken already.
    """
    steps = min(MOST_COUNTED, step + max(1, int(seconds_left * (1 - SHARE) / seconds_a_step)))
    found = replace(spec, steps=steps, warmup_steps=min(spec.warmup_steps, math.ceil(steps / 10)))
    log.info(f"{counted(steps, 'step')} fit the time; warm-up {found.warmup_steps}")
    return found


def announce(spec: TrainSpec, shape: tuple[int, ...], labels: dict[str, int], runs: int, parameters: int) -> None:
    """Says, before the first step, what will be done."""
    known = ", ".join(f"{n} {name}" for name, n in labels.items())
    log.info(
        f"{counted(spec.steps, 'step')} of {counted(spec.batch_size, 'patch')} of {'x'.join(map(str, shape))} voxels; "
        f"learns from {known} in {counted(runs, 'volume')}; {parameters:,} parameters"
    )
    if spec.warmup_steps > max(1, spec.steps / 10):
        log.warning(
            f"the warm-up of {spec.warmup_steps} steps is more than a tenth of {spec.steps}: the learning rate reaches "
            f"its top late or never; set train.warmup_steps={math.ceil(spec.steps / 10)} or train longer"
        )


def _wait(state: TrainState) -> None:
    """For a GPU is told of steps long before it has taken them."""
    device = next(state.network.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory() -> float:
    """The largest resident memory of this process so far [GB]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
