"""A fixed part of many runs: `3/8` is the third of eight parts, which are disjoint and together the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import SelectionError


@dataclass(frozen=True)
class _Array:
    """How a scheduler tells a task of an array which one it is: names of environment variables, or ""."""

    name: str
    index: str
    first: str = ""
    last: str = ""
    count: str = ""
    step: str = ""


ARRAYS = (
    _Array(
        "SLURM", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_STEP",
    ),
    _Array("PBS", "PBS_ARRAY_INDEX"),
    _Array("Torque", "PBS_ARRAYID"),
    _Array("LSF", "LSB_JOBINDEX", last="LSB_JOBINDEX_END", step="LSB_JOBINDEX_STEP"),
    _Array("SGE", "SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", step="SGE_TASK_STEPSIZE"),
)  # fmt: skip
AUTO = "auto"


@dataclass(frozen=True)
class Shard:
    """One part of several.

    Attributes:
        number: which one, from 1.
        of: how many there are.
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise SelectionError(f"`shard={self}`: parts are counted from 1 to their number; write for example 1/8")

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """`I/N`, or what the scheduler says: `auto`, `auto/N` where it does not tell how many, or only some are run.

        Raises:
            SelectionError: not of these forms, no task of an array, or an array that is not 1 to N.
        """
        number, slash, of = text.strip().partition("/")
        if number == AUTO:
            return _told(environment, _whole(of, text) if slash else None)
        if not slash:
            raise SelectionError(f"`shard={text}` is not I/N; write for example 3/8, or auto in an array of jobs")
        return cls(_whole(number, text), _whole(of, text))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def part(self, names: Iterable[str]) -> list[str]:
        """This part of the names, sorted; in whatever order they come, each is in one part and none is much larger."""
        return sorted(set(names))[self.number - 1 :: self.of]


def _whole(text: str, given: str) -> int:
    if not text.strip().isdecimal():
        raise SelectionError(f"`shard={given}`: '{text}' is no whole number; write for example 3/8, or auto/8")
    return int(text)


def _told(environment: Mapping[str, str], of: int | None) -> Shard:
    """The part that the scheduler's variables name."""

    def number(variable: str) -> int | None:
        value = environment.get(variable, "")
        return int(value) if value.isdecimal() else None

    for array in ARRAYS:
        index = number(array.index)
        # LSF counts jobs that are in no array as number 0, and SGE calls them "undefined".
        if index is None or (array.name == "LSF" and not number(array.last)):
            continue
        if of is not None:
            return Shard(index, of)
        first, last, count = (number(v) for v in (array.first, array.last, array.count))
        first = 1 if first is None else first
        if last is None:
            raise SelectionError(f"`shard=auto`: {array.name} does not say how many tasks there are; write auto/N")
        tasks = last - first + 1
        if first not in (0, 1) or (number(array.step) or 1) != 1 or (count or tasks) != tasks:
            raise SelectionError(
                f"`shard=auto`: this {array.name} array is not 1 to N ({first} to {last}, with gaps or not from 1), "
                "so its tasks cannot know how many parts there are; write auto/N"
            )
        return Shard(index - first + 1, tasks)
    raise SelectionError(
        f"`shard={AUTO}`: this is no task of an array of {', '.join(a.name for a in ARRAYS)}; write I/N, such as 1/8"
    )
