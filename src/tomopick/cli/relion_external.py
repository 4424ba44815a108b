"""RELION's "External" job: `tomopick-relion --o External/job012/ --in_mics Tomograms/job009/tomograms.star --j 4 ...`.

RELION gives its files and the parameters of the job's second page, and reads what became of it from files in the job's
folder. Source: 3dem/relion, pipeline_jobs.cpp (getCommandsExternalJob), pipeline_jobs.h (the words for its files) and
pipeline_control.h, version 5.0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ReadError, SelectionError, TomopickError
from ..core.files import atomic_write
from .options import say

# RELION's words for a table of particles, and for what names it together with its tomograms.
_PARTICLES, _TOGETHER = "ParticleGroupMetadata.star.relion", "TomoOptimisationSet.star.relion"
_SUCCESS, _FAILURE, _ABORTED = (f"RELION_JOB_EXIT_{end}" for end in ("SUCCESS", "FAILURE", "ABORTED"))
_ABORT = "RELION_JOB_ABORT_NOW"  # RELION's GUI puts it there
_FILES = ("in_mics", "in_mov", "in_coords", "in_parts", "in_3dref", "in_mask")
_POLL = 0.5  # [s]


@dataclass(frozen=True)
class _ExternalJob:
    """What RELION asks for.

    Attributes:
        out: folder of the job.
        star: tomograms.star.
        threads: of the job; 0: not said.
        model: to pick with.
        options: of `pick`, as given on the page of parameters.
    """

    out: Path
    star: Path
    threads: int
    model: str
    options: tuple[str, ...]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> _ExternalJob:
        """Raises `SelectionError` where RELION's own are missing."""
        given: dict[str, str] = {}
        rest: list[str] = []
        i = 0
        while i < len(arguments):
            name = arguments[i].removeprefix("--")
            if arguments[i].startswith("--") and name in (*_FILES, "o", "j", "pipeline_control", "model"):
                given[name] = arguments[i + 1] if i + 1 < len(arguments) else ""
                i += 2
            else:
                rest.append(arguments[i])
                i += 1
        if not given.get("o"):
            raise SelectionError("--o is missing: the job's folder, which RELION gives; run this from its External job")
        star = next((given[name] for name in _FILES if given.get(name)), "")
        if not star:
            raise SelectionError("no input: give RELION's tomograms.star as the job's input micrographs (--in_mics)")
        threads = given.get("j", "")
        return cls(Path(given["o"]), Path(star), int(threads) if threads.isdecimal() else 0,
                   given.get("model") or "default", tuple(rest))  # fmt: skip


def external_job() -> None:
    """The job, as RELION starts it; the exit code is 0 only where it succeeded."""
    arguments = sys.argv[1:]
    try:
        job = _ExternalJob.parse(arguments)
    except SelectionError as error:
        say(f"error: {error}")
        sys.exit(2)
    job.out.mkdir(parents=True, exist_ok=True)
    for name in (_SUCCESS, _FAILURE, _ABORTED):  # of an earlier turn
        (job.out / name).unlink(missing_ok=True)
    try:
        end = _run(job)
    except TomopickError as error:
        say(f"error: {error}")
        end = _FAILURE
    except BaseException:
        (job.out / _FAILURE).touch()
        raise
    (job.out / end).touch()
    sys.exit(end != _SUCCESS)


def _run(job: _ExternalJob) -> str:
    """Picks, writes particles, and the list of what there is; the name of the file that says how it ended."""
    tomograms, picks, particles = job.out / "tomograms", job.out / "picks", job.out / "particles.star"
    _link(job.star, tomograms)
    steps = [
        ["pick", job.model, tomograms, "--out", picks, *job.options],
        ["export", picks, particles, "--to", "relion5", "--tomograms", tomograms, "--tomograms-star", job.star,
         "--overwrite"],
    ]  # fmt: skip
    for step in steps:
        end = _tomopick(job, [str(part) for part in step])
        if end:
            return end
    nodes = ""
    for path in sorted(job.out.glob("particles*.star")):
        together = path.with_name(path.name.replace("particles", "optimisation_set", 1))
        with atomic_write(together) as file:
            file.write(f"data_\n\n_rlnTomoParticlesFile {path}\n_rlnTomoTomogramsFile {job.star}\n")
        nodes += f"{path} {_PARTICLES}\n{together} {_TOGETHER}\n"
    with atomic_write(job.out / "RELION_OUTPUT_NODES.star") as file:
        file.write("data_output_nodes\n\nloop_\n_rlnPipeLineNodeName #1\n_rlnPipeLineNodeTypeLabel #2\n" + nodes)
    return _SUCCESS


def _link(star: Path, folder: Path) -> None:
    """A folder of links to the tomograms, called by their names in RELION; its tables say paths from its project."""
    from ..data.formats import read_tomograms_star

    if not star.is_file():
        raise ReadError(f"{star}: there is no such file; expected RELION's tomograms.star, and its project folder here")
    folder.mkdir(parents=True, exist_ok=True)
    for row in read_tomograms_star(star).values():
        found = [Path(name) for name in row.files if Path(name).is_file()]
        if not found:
            listed = ", ".join(row.files) or "none is listed"
            raise ReadError(f"{star}: no reconstructed tomogram of {row.name} ({listed}); reconstruct it first")
        # Denoised ones come last, and are what most models know.
        link = folder / f"{row.name}{found[-1].suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(found[-1].absolute())


def _tomopick(job: _ExternalJob, arguments: list[str]) -> str:
    """A verb, in a process that can be ended; empty where it succeeded, else how the job ends."""
    threads: Mapping[str, str] = {"OMP_NUM_THREADS": str(job.threads)} if job.threads > 1 else {}
    process = subprocess.Popen([sys.executable, "-m", "tomopick", *arguments], env={**os.environ, **threads})
    while process.poll() is None:
        if (job.out / _ABORT).exists():
            process.terminate()
            process.wait()
            (job.out / _ABORT).unlink(missing_ok=True)
            return _ABORTED
        time.sleep(_POLL)
    return _FAILURE if process.returncode else ""


if __name__ == "__main__":
    external_job()
