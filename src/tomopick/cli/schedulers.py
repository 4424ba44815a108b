"""Submission scripts for a site's scheduler: a readable template each, and how it is submitted."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import SelectionError, TomopickError
from ..core.messages import near_miss
from ..core.text import read_text

GO_ON = 143  # exit code of who was asked to end, and has finished what it was at
KEYS = {
    "time": "[D-]H:MM:SS of a turn; what is not done by then goes on in another",
    "gpus": "of each task",
    "cpus": "of each task",
    "mem": "of each task, such as 32G",
    "array": "tasks that share the runs",
    "at_once": "tasks that run at the same time, at most",
    "partition": "or queue",
    "account": "or project",
    "qos": "quality of service",
    "after": "number of a job that must have succeeded first",
    "setup": "a file that each task sources first: modules, an environment",
    "more": "further options of the scheduler, as they are",
}
_BODY = """
# Written by tomopick. Submitted again as it is, it goes on where it was: finished runs are left alone.
cd {cwd} || exit 2
{setup}{before}{command} &
task=$!
# The scheduler asks this script to end; the task finishes what it is at, and says so with exit code {go_on}.
trap 'kill -TERM "$task" 2> /dev/null' TERM
wait "$task"
code=$?
while kill -0 "$task" 2> /dev/null; do
  wait "$task"
  code=$?
done
{again}exit "$code"
"""


@dataclass(frozen=True)
class Scheduler:
    """How a scheduler is spoken to.

    Attributes:
        mark: what begins a line of its options.
        options: by setting, with the value as `{}`.
        always: options of every script; `{log}` is the path of its output, with `{job}` and `{task}` as its own words.
        array: of an array of tasks; `{n}`, and `{limit}` for how many at once.
        limit: its form.
        log: the path's words for job and task.
        index: the variable that holds the task's number.
        after: of a job that depends on others; `each` of them, and what stands between.
        submit: the command; the script's path or its text on standard input follows.
        number: of the job, in the command's answer.
        again: lines that give a task that was asked to end another turn.
        asked: the command that tells whether a job is queued or at work; its number follows.
        cancel: the command that takes one out.
        limits_itself: the scheduler sends no signal before the time is over, so that `timeout` does.
    """

    mark: str
    options: Mapping[str, str]
    always: tuple[str, ...]
    array: str
    limit: str
    log: tuple[str, str]
    after: str
    submit: tuple[str, ...]
    number: str
    index: str
    asked: tuple[str, ...]
    cancel: str
    each: tuple[str, str] = ("{}", ":")
    again: str = ""
    from_input: bool = False
    limits_itself: bool = False


SCHEDULERS = {
    "slurm": Scheduler(
        mark="#SBATCH",
        options={
            "time": "--time={}", "gpus": "--gres=gpu:{}", "cpus": "--cpus-per-task={}", "mem": "--mem={}",
            "partition": "--partition={}", "account": "--account={}", "qos": "--qos={}",
        },
        always=(
            "--job-name={name}", "--output={log}", "--open-mode=append", "--requeue", "--signal=B:TERM@120",
        ),
        array="--array=1-{n}{limit}",
        limit="%{}",
        log=("%A", "%a"),
        after="--dependency=afterok:{}",
        submit=("sbatch", "--parsable"),
        number=r"(\d+)",
        index="SLURM_ARRAY_TASK_ID",
        asked=("squeue", "--noheader", "--format=%T", "--jobs"),
        cancel="scancel",
        # One that was cancelled is not to come back.
        again='if [ "$code" = {go_on} ] && scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; then\n'
        '  scontrol requeue "$SLURM_JOB_ID"\nfi\n',
    ),
    "pbs": Scheduler(
        mark="#PBS",
        options={
            "time": "-l walltime={}", "gpus": "-l ngpus={}", "cpus": "-l ncpus={}", "mem": "-l mem={}",
            "partition": "-q {}", "account": "-A {}", "qos": "-l qos={}",
        },
        always=("-N {name}", "-o {log}", "-j oe", "-r y", "-V"),
        array="-J 1-{n}{limit}",
        limit="%{}",
        log=("", ""),
        after="-W depend=afterok:{}",
        submit=("qsub",),
        number=r"(\S+)",
        index="PBS_ARRAY_INDEX",
        asked=("qstat",),
        cancel="qdel",
        again='if [ "$code" = {go_on} ]; then\n  qrerun "$PBS_JOBID"\nfi\n',
        limits_itself=True,
    ),
    "lsf": Scheduler(
        mark="#BSUB",
        options={
            "time": "-W {}", "gpus": '-gpu "num={}"', "cpus": "-n {}", "mem": '-R "rusage[mem={}]"',
            "partition": "-q {}", "account": "-P {}", "qos": "-sla {}",
        },
        always=("-o {log}", "-r", "-wa TERM -wt 2", '-Q "{go_on}"'),
        array='-J "{name}[1-{n}]{limit}"',
        limit="%{}",
        log=("%J", "%I"),
        after='-w "{}"',
        each=("done({})", " && "),
        submit=("bsub",),
        number=r"<(\d+)>",
        index="LSB_JOBINDEX",
        asked=("bjobs", "-noheader", "-o", "stat"),
        cancel="bkill",
        from_input=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """A scheduler and what is asked of it: `slurm:time=4:00:00,gpus=1,array=64`."""

    name: str
    settings: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Submission:
        """Raises `SelectionError` for an unknown scheduler or setting."""
        name, _, rest = text.partition(":")
        if name not in SCHEDULERS:
            raise SelectionError(f"--on '{text}': no scheduler '{name}'; {near_miss(name, [*SCHEDULERS, 'dask'])}")
        settings = {}
        for part in filter(None, (p.strip() for p in rest.split(","))):
            key, equals, value = part.partition("=")
            if not equals or key not in KEYS:
                raise SelectionError(f"--on {name}: '{part}' is no setting; {near_miss(key, KEYS)}, each as key=value")
            settings[key] = value
        for key in ("gpus", "cpus", "array", "at_once"):
            if not settings.get(key, "1").isdecimal() or int(settings.get(key, "1")) < 1:
                raise SelectionError(f"--on {name}: {key}={settings[key]} is no whole number from 1")
        if "time" in settings:
            seconds_of(settings["time"])
        return cls(name, settings)

    @property
    def tasks(self) -> int:
        """That share the runs."""
        return int(self.settings.get("array", 1))


@dataclass(frozen=True)
class Script:
    """One job.

    Attributes:
        name: of the job and its files.
        folder: of script and output.
        command: what each task does.
        tasks: how many there are; their numbers are 1 to this.
        before: lines of shell that come before it.
        after: numbers of jobs that must have succeeded.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    tasks: int = 1
    before: str = ""
    after: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Of the script."""
        return self.folder / f"{self.name}.sh"

    def text(self, batch: Submission, cwd: Path) -> str:
        """The script."""
        how, settings = SCHEDULERS[batch.name], batch.settings
        job, task = how.log
        ending = "-".join(p for p in (job, task if self.tasks > 1 else "") if p)
        log = f"{_literal(self.folder, batch.name)}/" + (f"{self.name}-{ending}.log" if ending else "")
        words = {"name": f"tomopick-{self.name}", "log": shlex.quote(log), "go_on": str(GO_ON)}
        lines = [_filled(line, words) for line in how.always]
        limit = how.limit.format(settings["at_once"]) if "at_once" in settings else ""
        if self.tasks > 1:
            lines.insert(0, _filled(how.array, {**words, "n": str(self.tasks), "limit": limit}))
        elif batch.name == "lsf":
            lines.insert(0, f'-J "{words["name"]}"')
        lines += [form.format(_stated(batch, key)) for key, form in how.options.items() if key in settings]
        if numbers := (*self.after, *_listed(settings, "after")):
            lines.append(how.after.format(how.each[1].join(how.each[0].format(number) for number in numbers)))
        lines += _listed(settings, "more")
        command = shlex.join(self.command).replace(f"'{MORE}'", f'"{MORE}"')
        if how.limits_itself and "time" in settings:
            command = f"timeout --preserve-status --signal=TERM {max(60, seconds_of(settings['time']) - 120)} {command}"
        setup = f". {shlex.quote(str(Path(settings['setup']).absolute()))}\n" if "setup" in settings else ""
        parts = {
            "cwd": shlex.quote(str(cwd)), "setup": setup, "before": self.before, "command": command,
            "again": _filled(how.again, words), **words,
        }  # fmt: skip
        return "#!/bin/bash\n" + "".join(f"{how.mark} {line}\n" for line in lines) + _filled(_BODY, parts)


MORE = "${more[@]}"  # what a script adds to its command


def parts_line(batch: Submission, parts: Sequence[int], of: int) -> str:
    """The line of a script by which each task of an array takes one of some parts: `more` says which."""
    numbers, index = " ".join(map(str, parts)), SCHEDULERS[batch.name].index
    return f'parts=({numbers}); more=(--shard "${{parts[{index} - 1]}}/{of}")\n'


def submit(script: Script, batch: Submission) -> str:
    """Hands the script over; gives the job's number.

    Raises:
        TomopickError: there is no such scheduler here, or it refuses.
    """
    how = SCHEDULERS[batch.name]
    if shutil.which(how.submit[0]) is None:
        raise TomopickError(
            f"--on {batch.name}: there is no '{how.submit[0]}' here; submit on a machine that has it: {script.path}"
        )
    command = [*how.submit, *([] if how.from_input else [str(script.path)])]
    given = script.path.read_text() if how.from_input else None
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    found = re.search(how.number, done.stdout)
    if done.returncode or not found:
        reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise TomopickError(f"{script.path}: {how.submit[0]} refuses it ({reason})")
    return found[1]


_PATIENCE = 30.0  # for the scheduler's answer [s]
_NUMBERS = "numbers.txt"  # beside the scripts: the scheduler and the number of each job, a line each


def note_number(folder: Path, batch: Submission, number: str) -> None:
    """Writes down that a job was submitted."""
    with (folder / _NUMBERS).open("a") as file:
        file.write(f"{batch.name} {number}\n")


def still_queued(folder: Path, batch: Submission) -> list[str]:
    """Numbers of earlier jobs of a folder that the scheduler still has: waiting, or at work."""
    how, kept = SCHEDULERS[batch.name], folder / _NUMBERS
    if not kept.is_file() or shutil.which(how.asked[0]) is None:
        return []
    lines = [line.split() for line in read_text(kept, "numbers of jobs").splitlines()]
    numbers = dict.fromkeys(line[1] for line in lines if len(line) == 2 and line[0] == batch.name)
    return [number for number in numbers if _is_there(how, number)]


def _is_there(how: Scheduler, number: str) -> bool:
    try:
        done = subprocess.run([*how.asked, number], capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:  # then submitting will fail too, and say why
        return False
    # LSF also knows those that have ended; the others no longer know such a number, or say nothing.
    return done.returncode == 0 and bool({*done.stdout.split()} - {"DONE", "EXIT"})


def seconds_of(text: str) -> int:
    """`[D-]H:MM:SS`, `H:MM:SS` or minutes, as SLURM reads them."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+)(?::(\d+))?", text)
    if not found:
        raise SelectionError(f"time={text}: expected [D-]H:MM:SS, for example 4:00:00")
    days, hours, minutes, seconds = (int(n or 0) for n in found.groups())
    if found[2] and not found[4] and not found[1]:  # MM:SS
        hours, minutes, seconds = 0, hours, minutes
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _stated(batch: Submission, key: str) -> str:
    """A setting as the scheduler reads it."""
    value = batch.settings[key]
    if key != "time" or batch.name == "slurm":
        return value
    seconds = seconds_of(value)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}" if batch.name == "lsf" else f"{hours}:{minutes:02d}:{seconds % 60:02d}"


def _literal(folder: Path, scheduler: str) -> str:
    """A folder in a line of options, in which SLURM has words of its own.

    Raises:
        SelectionError: a line cannot hold it.
    """
    text = str(folder)
    if "\n" in text or "\\" in text:
        raise SelectionError(f"{text!r}: schedulers take no path with a line break or a backslash; name another folder")
    return text.replace("%", "%%") if scheduler == "slurm" else text


def _listed(settings: Mapping[str, str], key: str) -> tuple[str, ...]:
    return (settings[key],) if key in settings else ()


def _filled(text: str, words: Mapping[str, str]) -> str:
    """The words in their places; other braces are the shell's."""
    return re.sub(r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), text)
