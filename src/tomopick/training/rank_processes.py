"""The processes of one training: started here, a device each, or by torchrun; one that ends ends all."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any

import torch
from torch import distributed
from torch._C._distributed_c10d import TCPStore
from torch.distributed.rendezvous import rendezvous

from ..core.errors import TomopickError
from ..core.messages import reason_of
from ..core.signals import cores_here, ended_how, ending_at_once, environment_of_child
from .ranks import ALONE, RankLost, Ranks

log = logging.getLogger("tomopick")

LED = "TOMOPICK_LED"  # set for the processes that `leading` starts
_SILENCE = timedelta(hours=6)  # after which one that does not answer counts as lost: validations take their time
_BETWEEN = 0.2  # looks at whether those that were started are there [s]
_TO_END = 30.0  # that the others have to end by themselves [s]


def rank_here() -> int | None:
    """Which rank of a training of several processes this one was started as; None of one alone."""
    return int(os.environ["RANK"]) if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ else None


def device_here(devices: Sequence[str]) -> str:
    """Of the devices that were named the one for this rank; of `auto` and `cuda` the GPU with its number here."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if len(devices) > 1 or devices[0] not in ("auto", "cuda"):
        return devices[local % len(devices)]
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{local % n}" if n else devices[0]


@contextmanager
def among_ranks(device: str) -> Iterator[Ranks]:
    """Among the ranks that torchrun, or a process that leads, has started with this one; one alone where neither has.

    What a rank that does not lead ends with is told to the one that does.

    Raises:
        TomopickError: the others are not there.
    """
    rank = rank_here()
    if rank is None:
        yield ALONE
        return
    with ending_at_once():  # torchrun asks for it where another rank was refused before it came here
        size, store = int(os.environ["WORLD_SIZE"]), _store()
    if LED in os.environ:
        threading.Thread(target=_end_with_the_leader, daemon=True).start()
    try:
        with _connected(rank, size, device, store, lambda: _told(store, size), ending_at_once()) as ranks:
            yield ranks
    except RankLost:
        raise
    except TomopickError as error:
        if rank:
            with suppress(RuntimeError):
                store.set(f"ended/{rank}", str(error))
        raise


def _store() -> Any:
    if LED in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, int(os.environ["WORLD_SIZE"]), False, _SILENCE)
        store.set(f"there/{os.environ['RANK']}", "")
        return store
    return next(rendezvous("env://"))[0]


def _end_with_the_leader() -> None:
    """Its end is that of our input; a rank alone would wait for hours."""
    with suppress(OSError):
        sys.stdin.buffer.read()
    os._exit(2)


def _told(store: Any, size: int) -> str:
    """What a rank has ended with, as far as it could say so."""
    time.sleep(_BETWEEN)
    with suppress(RuntimeError):
        for rank in range(size):
            if store.check([f"ended/{rank}"]):
                return f"process {rank} of {size}: {store.get(f'ended/{rank}').decode()}"
    return "another process of this training has ended; what was kept is there for `resume`"


@contextmanager
def _connected(
    rank: int, size: int, device: str, store: Any, told: Any, meeting: AbstractContextManager[None] | None = None
) -> Iterator[Ranks]:
    """A rank among the others; `meeting` them, it may have other signal handlers."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(torch.device(device))
    try:
        kind = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        with meeting or nullcontext():
            distributed.init_process_group(kind, store=store, rank=rank, world_size=size, timeout=_SILENCE)
    except (RuntimeError, ValueError) as error:
        reason = reason_of(error)
        raise RankLost(f"the {size} processes of this training cannot talk to each other ({reason})") from error
    try:
        yield Ranks(rank, size, distributed.group.WORLD, told)
    finally:
        with suppress(RuntimeError):
            distributed.destroy_process_group()


@dataclass(frozen=True)
class _Follower:
    """A process that was started as a rank."""

    rank: int
    device: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def end(self) -> str:
        """How it has ended; empty where it has not, or as it should."""
        code = self.process.poll()
        if code in (None, 0):
            return ""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        last = lines[-1].removeprefix("error: ") if lines else ""
        how = last if code == 2 and last else ended_how(code) + (f": {last}" if last else "")
        return f"process {self.rank} on {self.device}: {how}"


@contextmanager
def leading(devices: Sequence[str], command: Sequence[str]) -> Iterator[Ranks]:
    """Leads a rank on each device: this process on the first, on each other one that is started by `command`.

    Processors share the cores, unless OMP_NUM_THREADS says otherwise.

    Raises:
        TomopickError: one of them has ended; the others are ended too.
    """
    size = len(devices)
    store = TCPStore("127.0.0.1", 0, size, True, _SILENCE, wait_for_workers=False)
    followers = [_started(i, devices, command, store.port) for i in range(1, size)]
    if not devices[0].startswith("cuda") and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores_here() // size))
    done = False
    try:
        while not all(store.check([f"there/{f.rank}"]) for f in followers):
            if lost := _lost(followers):
                raise RankLost(lost)
            time.sleep(_BETWEEN)
        watch = threading.Thread(target=_watch, args=(followers, lambda: done), daemon=True)
        watch.start()
        with _connected(0, size, devices[0], store, lambda: _end_of(followers)) as ranks:
            yield ranks
        _wait(followers)
    finally:
        done = True
        for follower in followers:
            follower.process.kill()
            follower.process.wait()


def _started(rank: int, devices: Sequence[str], command: Sequence[str], port: int) -> _Follower:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(devices), "MASTER_PORT": port}
    more = {**{name: str(value) for name, value in place.items()}, "MASTER_ADDR": "127.0.0.1", LED: "1"}
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment_of_child(devices[rank], len(devices), **more),
        start_new_session=True,  # the terminal's Ctrl-C is for us; we tell the others when to stop
    )
    return _Follower(rank, devices[rank], process, errors)


def _lost(followers: Sequence[_Follower]) -> str:
    return next((how for follower in followers if (how := follower.end())), "")


def _end_of(followers: Sequence[_Follower]) -> str:
    """The end of one of them, which may still be on its way."""
    until = time.monotonic() + 5
    while not (how := _lost(followers)) and time.monotonic() < until:
        time.sleep(_BETWEEN)
    return f"{how or 'another process of this training does not answer'}; what was kept is there for `resume`"


def _wait(followers: Sequence[_Follower]) -> None:
    until = time.monotonic() + _TO_END
    for follower in followers:
        with suppress(subprocess.TimeoutExpired):
            follower.process.wait(max(0.0, until - time.monotonic()))


def _watch(followers: Sequence[_Follower], done: Any) -> None:
    """Ends this process where one that has died leaves it waiting for ever, as a GPU's back end may."""
    while not done():
        if _lost(followers):
            time.sleep(_TO_END)
            if not done():
                log.error(_end_of(followers))
                os._exit(2)
        time.sleep(1.0)
