"""One batch on a Dask cluster that is there already, or on one of this machine; a run is a task.

Tasks are told as names and options; each worker sets the models up once, writes what it makes, and answers with counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from ..core.errors import EngineError, TomopickError
from ..core.messages import reason_of
from ..core.records import FAILED, Records
from ..data.runs import Runs
from .fleet import Job
from .output import records_of
from .picker import Picker
from .runs import RunResult, try_run

_AHEAD = 2  # tasks a thread that the scheduler knows: more would be lost together
RETRIES = 2

_ready: dict[str, tuple[Picker, Runs, Records]] = {}  # of a worker's process, by the job
_turn = Lock()  # a worker may have several threads, the picker is one


def pick_on_dask(
    job: Job, runs: Sequence[str], address: str, stopped: Callable[[], bool] = lambda: False
) -> Iterator[RunResult]:
    """Picks the runs as tasks of a Dask cluster, in whatever order they are finished.

    Args:
        job: what to pick; its paths must mean the same on the workers.
        runs: of its project.
        address: of a scheduler, such as `tcp://host:8786`, or `local=N` for N processes here.
        stopped: asked again and again; once it answers yes, no more runs are begun.

    Raises:
        TomopickError: no such cluster, or its workers cannot import tomopick.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise EngineError("Dask is not installed; install it with: pip install 'tomopick[dask]'") from None
    text = job.text()
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    with ExitStack() as stack:
        client = _client(distributed, address, stack)
        failures = stack.enter_context(records_of(job.runs().project, Path(job.out)))
        left = iter(runs)
        names: dict[Any, str] = {}

        def more() -> Iterator[Any]:
            """As many tasks as there is room for."""
            room = _AHEAD * max(1, sum(client.nthreads().values())) - len(names)
            for _, run in zip(range(room), left):
                future = client.submit(_pick, text, run, key=f"tomopick-{mark}-{run}", retries=RETRIES, pure=False)
                names[future] = run
                yield future

        finished = distributed.as_completed(list(more()))
        for future in finished:
            run = names.pop(future)
            yield _result(future, run, failures)
            future.release()
            if stopped():
                client.cancel(list(names))
                return
            for other in more():
                finished.add(other)


def _client(distributed: Any, address: str, stack: ExitStack) -> Any:
    kind, _, number = address.partition("=")
    if kind == "local":
        if not number.isdecimal() or not int(number):
            raise TomopickError(f"dask:{address}: expected a number of processes, for example dask:local=4")
        cluster = distributed.LocalCluster(n_workers=int(number), threads_per_worker=1, dashboard_address=None)
        stack.enter_context(cluster)
        return stack.enter_context(distributed.Client(cluster))
    try:
        return stack.enter_context(distributed.Client(address, timeout=20))
    except (OSError, ValueError, TypeError) as error:
        reason = reason_of(error)
        raise TomopickError(f"dask:{address}: no Dask scheduler answers there ({reason})") from None


def _result(future: Any, run: str, records: Records) -> RunResult:
    error = future.exception()
    if error is None:
        told = future.result()
        return RunResult(**{**told, "messages": tuple(told["messages"])})
    if isinstance(error, ModuleNotFoundError | TomopickError):
        raise TomopickError(f"workers of the Dask cluster cannot begin: {error}") from None
    message = f"run {run}: {type(error).__name__}: {reason_of(error)}"
    records.write(run, FAILED, {"message": message})
    return RunResult(run, FAILED, messages=(message,))


def _pick(text: str, run: str) -> dict[str, Any]:
    """On a worker."""
    with _turn:
        if text not in _ready:
            job = Job.parse(text)
            runs = job.runs()
            _ready[text] = job.picker(), runs, records_of(runs.project, Path(job.out))
        job = Job.parse(text)
        return asdict(try_run(*_ready[text], run, job.out, job.overwrite))
