"""One batch in several processes: each sets the models up once and takes runs as it gets on; one that dies is replaced.

What the processes tell one another are names, options and counts, as lines of JSON; results are written by whoever
makes them.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..core.errors import TomopickError
from ..core.messages import counted
from ..core.records import FAILED, Records
from ..core.signals import ended_how, environment_of_child
from ..data import open_project
from ..data.runs import Runs
from .load import joined, load_model
from .options import PickOptions
from .output import records_of
from .picker import Picker
from .places import Places
from .runs import RunResult, pick_runs

log = logging.getLogger("tomopick")

AHEAD = 3  # runs that a worker knows: one is written, one predicted, one read
TRIES = 3  # a run at which workers die this often is given up
_BETWEEN = 0.5  # looks at whether to stop [s]
_CODE = "from tomopick.picking.fleet import work; work()"


@dataclass(frozen=True)
class Job:
    """A batch, as names and options alone, so that any process can be told it.

    Attributes:
        models: folders, or names of shipped models.
        source: what `open_project` opens.
        opening: how: its keywords.
        options: how to pick.
        out: folder of the picks and records.
        overwrite: replace what is there.
        tomo_type: which tomogram of each run, `TYPE[@spacing]`.
    """

    models: tuple[str, ...]
    source: str
    opening: Mapping[str, Any]
    options: PickOptions
    out: str
    overwrite: bool = False
    tomo_type: str | None = None

    @classmethod
    def parse(cls, text: str) -> Job:
        """What `text` gave."""
        data = json.loads(text)
        options = PickOptions(**{**_tuples(data["options"]), "places": Places(**_tuples(data["options"]["places"]))})
        return cls(**{**data, "models": tuple(data["models"]), "options": options})

    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    def runs(self) -> Runs:
        """The project, opened, with what is read of its runs."""
        return Runs(open_project(self.source, **self.opening), tomo_type=self.tomo_type)

    def picker(self) -> Picker:
        """The models, set up."""
        return Picker(joined([load_model(model) for model in self.models]), self.options)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as what they were."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def pick_with_workers(
    job: Job, runs: Sequence[str], devices: Sequence[str], stopped: Callable[[], bool] = lambda: False
) -> Iterator[RunResult]:
    """Picks the runs in as many processes as there are devices, in whatever order they are finished.

    A process that dies is replaced and its runs are given to others; a run at which several died has failed.

    Args:
        job: what to pick.
        runs: of its project.
        devices: where each process runs; a processor's are given equal shares of the cores.
        stopped: asked again and again; once it answers yes, only the runs that are being predicted are finished.

    Raises:
        TomopickError: a model or project that cannot be set up, or processes that end before they have done so.
    """
    with records_of(job.runs().project, Path(job.out)) as records:
        fleet = _Fleet(job, devices, records)
        try:
            yield from fleet.results(runs, stopped)
        finally:
            fleet.end()


@dataclass
class _Worker:
    """A process and the runs that it was given and has not answered for."""

    process: subprocess.Popen[str]
    device: str
    ready: bool = False
    runs: list[str] = field(default_factory=list)
    closed: bool = False

    def give(self, run: str) -> None:
        self.runs.append(run)
        self._tell(json.dumps(run))

    def close(self) -> None:
        """No more runs."""
        self.closed = True
        with suppress(OSError):
            _pipe(self.process.stdin).close()

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # it has died; its end is heard of by itself
            _pipe(self.process.stdin).write(line + "\n")
            _pipe(self.process.stdin).flush()


class _Fleet:
    """Workers, the runs that wait, and those that are tried alone because a worker died over them."""

    def __init__(self, job: Job, devices: Sequence[str], records: Records) -> None:
        self.job, self.records = job, records
        self.heard: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
        self.waiting: deque[str] = deque()
        self.suspects: deque[str] = deque()
        self.deaths: dict[str, int] = {}
        self.stopping = False
        self.listeners: list[threading.Thread] = []
        self.unready = 0  # workers that died one after the other before they were ready
        self.size = len(devices)
        self.workers = [self._start(device) for device in devices]

    def results(self, runs: Sequence[str], stopped: Callable[[], bool]) -> Iterator[RunResult]:
        """Each run's, as they come."""
        self.waiting.extend(runs)
        while self.workers:
            if stopped() and not self.stopping:
                self.waiting.clear()
                self.suspects.clear()
                self.stop()
            try:
                worker, line = self.heard.get(timeout=_BETWEEN)
            except queue.Empty:
                continue
            yield from self._answer(worker, json.loads(line)) if line else self._died(worker)

    def stop(self) -> None:
        """Workers finish the run that they predict, and end."""
        self.stopping = True
        for worker in self.workers:
            worker.close()
            worker.process.terminate()

    def end(self) -> None:
        """No worker is left behind; those that are at work finish the run that they predict."""
        try:
            self.stop()
            for worker in self.workers:
                worker.process.wait()
        finally:  # whoever does not want to wait for that
            for worker in self.workers:
                worker.process.kill()
            for listener in self.listeners:
                listener.join()

    def _start(self, device: str) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment_of_child(device, self.size),
        )
        worker = _Worker(process, device)
        worker._tell(self.job.text() if device == self.job.options.device else _on(self.job, device).text())
        for listen in (self._listen, self._pass_on):
            self.listeners.append(threading.Thread(target=listen, args=(worker,), daemon=True))
            self.listeners[-1].start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        with _pipe(worker.process.stdout) as answers:
            for line in answers:
                if line.endswith("\n"):  # else it was cut off
                    self.heard.put((worker, line))
        worker.process.wait()
        self.heard.put((worker, ""))

    def _pass_on(self, worker: _Worker) -> None:
        """What a worker warns of; its own standard error would be drawn over by our progress bar."""
        with _pipe(worker.process.stderr) as lines:
            for line in lines:
                log.warning(line.rstrip())

    def _answer(self, worker: _Worker, told: dict[str, Any]) -> Iterator[RunResult]:
        if "error" in told:
            raise TomopickError(told["error"])
        if "ready" in told:
            worker.ready, self.unready = True, 0
        else:
            worker.runs.remove(told["run"])
            yield RunResult(**{**told, "messages": tuple(told["messages"])})
        self._feed(worker)

    def _feed(self, worker: _Worker) -> None:
        """Gives it what it has room for: a suspect alone, others ahead."""
        if self.suspects and not worker.runs:
            worker.give(self.suspects.popleft())
        elif not (worker.runs and worker.runs[0] in self.deaths):
            while self.waiting and not self.suspects and len(worker.runs) < AHEAD:
                worker.give(self.waiting.popleft())
        if not worker.runs and not self.waiting and not self.suspects:
            worker.close()

    def _died(self, worker: _Worker) -> Iterator[RunResult]:
        """A worker has ended: as it was told to, or its runs go to others and another takes its place."""
        self.workers.remove(worker)
        lost, expected = worker.runs, self.stopping or (worker.closed and not worker.runs)
        worker.close()
        if expected:
            return
        if not worker.ready:
            self.unready += 1
            if self.unready >= TRIES * max(1, len(self.workers)):
                how = ended_how(worker.process.returncode)
                raise TomopickError(
                    f"{counted(self.unready, 'worker')} ended before they were ready ({how}); fewer `workers` need "
                    "less memory"
                )
        for run in lost:
            # Where there were several, any of them may have been the reason, or none: they are tried one by one.
            self.deaths[run] = self.deaths.get(run, 0) + (len(lost) == 1)
            if self.deaths[run] < TRIES:
                self.suspects.append(run)
                continue
            message = (
                f"run {run}: the process that picked it ended {TRIES} times ({ended_how(worker.process.returncode)}); "
                "perhaps for want of memory: use fewer `workers`, or a smaller tiling.shape"
            )
            with suppress(TomopickError):
                self.records.write(run, FAILED, {"message": message})
            yield RunResult(run, FAILED, messages=(message,))
        self.workers.append(self._start(worker.device))


def work() -> None:
    """A worker: the job and then runs come in, results go out; it ends with its input, or when it is asked to."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; whoever started us says what to do
    signal.signal(signal.SIGTERM, lambda *_: asked.set())

    def tell(**facts: Any) -> None:
        with suppress(BrokenPipeError):
            answers.write(json.dumps(facts) + "\n")
            answers.flush()

    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    job = Job.parse(sys.stdin.readline())
    try:
        runs, picker = job.runs(), job.picker()
    except TomopickError as error:
        tell(error=str(error))
        return
    threading.Thread(target=_read_on, args=(told,), daemon=True).start()
    tell(ready=True)
    for result in pick_runs(picker, runs, _known(told), job.out, job.overwrite, asked.is_set):
        tell(**asdict(result))
    os._exit(0)  # a thread waits for more


def _read_on(told: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        told.put(json.loads(line))
    told.put("")


def _known(told: queue.SimpleQueue[str]) -> Iterator[str | None]:
    """Runs as they are told; None where the next is waited for."""
    while True:
        try:
            run = told.get_nowait()
        except queue.Empty:
            yield None
            run = told.get()
        if not run:
            return
        yield run


def devices_of(name: str, workers: int) -> list[str]:
    """Where each worker runs: `cuda:0,cuda:1` or `cuda:all` one a device at least; workers take turns on them."""
    import torch

    cards = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    names = cards if name == "cuda:all" or (name in ("auto", "cuda") and cards) else name.split(",")
    if not names:
        raise TomopickError("device 'cuda:all': there is no GPU here; use `device=cpu`")
    # Without `workers` only devices that were named one by one, or all of them, are as many processes.
    number = workers if name in ("auto", "cuda") else max(workers, len(names))
    return [names[i % len(names)] for i in range(number)] if number > 1 else [name]


def _on(job: Job, device: str) -> Job:
    return Job(**{**vars(job), "options": PickOptions(**{**vars(job.options), "device": device})})


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
