"""Jobs in worker processes, which end when the one that waits for them does, however that ends."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait as wait_for
from typing import Any

from ..core.errors import TomopickError

Tell = Callable[[str], None]
_POLL = 0.2  # [s] between looks at what the workers tell

_told: Any = None  # in a worker process: the queue that takes what it tells


def results(jobs: Sequence[Callable[[Tell], Any]], workers: int, tell: Tell) -> Iterator[Any]:
    """What the jobs give, in their order; a volume is large, so no more are begun than are soon written.

    Whoever stops early, or is interrupted, does not wait for what the workers are at: they end.

    Args:
        jobs: that can be pickled where there are several workers.
        workers: processes; with one, or one job, it is done in this process.
        tell: given what the jobs tell.

    Raises:
        TomopickError: a worker died.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job(tell)
        return
    context = get_context("spawn")  # forking a process with threads may hang
    queue = context.SimpleQueue()
    others = set(active_children())
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(queue,)) as pool:
        try:
            begun: deque[Future[Any]] = deque()
            for job in jobs:
                begun.append(pool.submit(_work, job))
                if len(begun) > workers:
                    yield _await(begun.popleft(), queue, tell)
            while begun:
                yield _await(begun.popleft(), queue, tell)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
            raise


def _start_worker(queue: Any) -> None:
    global _told
    _told = queue
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True, name="parent").start()


def _end_with(parent: int) -> None:
    """Ends this process when the parent is gone, even if it was killed and could not say so."""
    wait_for([parent])
    os._exit(1)


def _work(job: Callable[[Tell], Any]) -> Any:
    return job(_told.put)


def _await(future: Future[Any], queue: Any, tell: Tell) -> Any:
    """The future's result; meanwhile what the workers tell is passed on."""
    while True:
        done = wait([future], _POLL).done
        while not queue.empty():
            tell(queue.get())
        if done:
            break
    try:
        return future.result()
    except BrokenProcessPool:
        raise TomopickError("a worker process died, perhaps for want of memory; try fewer `workers`") from None
