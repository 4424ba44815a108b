"""`--on`: a verb's work handed to the site's scheduler, as an array of tasks that share the runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ..core.errors import OutputError, SelectionError, TomopickError
from ..core.files import atomic_write
from ..core.messages import counted, listing
from .options import InvertCommand, echo, say, without_overrides
from .schedulers import KEYS, MORE, SCHEDULERS, Script, Submission, note_number, parts_line, still_queued, submit

PROGRAM = (sys.executable, "-m", "tomopick")


@dataclass(frozen=True)
class Stage:
    """A job of several that follow one another: it begins when the one before it has succeeded.

    Attributes:
        name: of the job, behind the verb's: `members`.
        parts: numbers of the parts that are left to do, a task each; none: one task, without parts.
        of: how many parts there are, those that are done among them.
        more: arguments in addition.
        instead: verb and arguments in place of those that were given.
    """

    name: str
    parts: tuple[int, ...] = ()
    of: int = 0
    more: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What a verb does in jobs.

    Attributes:
        place: beside which the scripts lie, in `PLACE-jobs/`.
        runs: that are shared; None: the verb has none to share.
        more: arguments in addition.
        before: lines of shell that come before the command.
        prepare: makes what all tasks share.
        stages: the jobs, where it is several; None: one job. There may be none left to do.
        done: options that are not handed on.
        note: said when all is submitted.
    """

    place: Path
    runs: Sequence[str] | None = None
    more: tuple[str, ...] = ()
    before: str = ""
    prepare: Callable[[], Any] = field(default=lambda: None)
    stages: tuple[Stage, ...] | None = None
    done: frozenset[str] = frozenset()
    note: str = ""


class OnCommand(InvertCommand):
    """A verb that takes `--on` and `--dry-run`; `plan` tells what its jobs do, from the verb's own parameters."""

    plan: Callable[..., Work]

    def __init__(self, *args: Any, plan: Callable[..., Work], **more: Any) -> None:
        super().__init__(*args, **more)
        self.plan = plan
        self.params += [
            click.Option(
                ["--on"], metavar="SCHEDULER[:KEY=VALUE,...]",
                help=f"Submit the work to slurm, pbs or lsf in place of doing it here (keys: {', '.join(KEYS)}); pick "
                "also goes to dask:tcp://HOST:PORT and dask:local=N. See docs/cluster.md.",
            ),
        ]  # fmt: skip
        self.looks_ahead = any(p.name == "dry_run" for p in self.params)  # without --on too, in its own way
        if not self.looks_ahead:
            self.params.append(
                click.Option(
                    ["--dry-run"], is_flag=True, help="With --on: print what would be submitted, and submit nothing."
                )
            )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps the arguments as they were given, to be given to the jobs."""
        ctx.meta["tomopick.arguments"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """The verb itself, or its submission."""
        on, dry = ctx.params.pop("on", None), ctx.params["dry_run"]
        if on is None and self.looks_ahead:
            return super().invoke(ctx)
        del ctx.params["dry_run"]
        if on is None:
            if dry:
                raise SelectionError("--dry-run shows what --on would submit; say where, for example --on slurm")
            return super().invoke(ctx)
        if on.startswith("dask:"):
            if self.name != "pick" or dry:
                raise SelectionError(f"--on {on}: Dask shares out the runs of pick, and has no script to show")
            ctx.params["dask"] = on.removeprefix("dask:")
            return super().invoke(ctx)
        batch = Submission.parse(on)
        if ctx.params.get("shard") is not None:
            raise SelectionError("--shard is what --on gives its tasks; leave one of them out")
        work = self.plan(**ctx.params)
        shared = {"on", "dry_run", "runs", "shard"} if work.runs is not None else {"on", "dry_run"}
        if work.runs is None and batch.tasks > 1:
            what = "is one task" if work.stages is None else "has a task a training, and at_once limits them"
            raise SelectionError(f"--on {batch.name}: {self.name} {what}; leave array={batch.tasks} out")
        kept = without_options(self, ctx.meta["tomopick.arguments"], shared | work.done)
        if work.stages is None:
            _hand_over(str(self.name), kept, work, batch, dry)
        else:
            _hand_over_stages(str(self.name), kept, work, batch, dry)


def _hand_over(verb: str, arguments: list[str], work: Work, batch: Submission, dry: bool) -> None:
    """Writes script and list of runs, and submits; a dry run only prints."""
    folder, name = _place(work, verb)
    command = [*PROGRAM, verb, *arguments, *work.more]
    tasks = 1
    if work.runs is not None:
        tasks = max(1, min(batch.tasks, len(work.runs)))
        if verb == "pick":
            command += ["--runs", f"@{folder / f'{name}.runs.txt'}"]
        else:
            command += ["--runs", str(len(work.runs))]
        command += ["--shard", f"auto/{tasks}"] if tasks > 1 else []
    script = Script(name, folder, tuple(command), tasks, work.before)
    text = script.text(batch, Path.cwd())
    if dry:
        click.echo(text, nl=False)
        return
    _mind_earlier(verb, folder, work, batch)
    work.prepare()
    if verb == "pick" and work.runs is not None:
        with atomic_write(folder / f"{name}.runs.txt") as file:
            file.write("".join(f"{run}\n" for run in work.runs))
    of = "" if work.runs is None else f" for {counted(len(work.runs), 'run')}"
    _submitted(script, text, batch, of)


def _hand_over_stages(verb: str, arguments: list[str], work: Work, batch: Submission, dry: bool) -> None:
    """Writes the scripts and submits them one after the other; a dry run only prints."""
    folder, name = _place(work, verb)
    if not dry:
        _mind_earlier(verb, folder, work, batch)
        work.prepare()
    after: tuple[str, ...] = ()
    for stage in work.stages or ():
        command = [*PROGRAM, *(stage.instead or (verb, *arguments)), *stage.more]
        before, n = "", len(stage.parts)
        if n and stage.parts == tuple(range(1, n + 1)) and n > 1:
            command += ["--shard", f"auto/{stage.of}"]
        elif n > 1:
            before = parts_line(batch, stage.parts, stage.of)
            command += [MORE]
        elif n:
            command += ["--shard", f"{stage.parts[0]}/{stage.of}"]
        script = Script(f"{name}-{stage.name}", folder, tuple(command), max(1, n), before, after)
        text = script.text(batch, Path.cwd())
        if dry:
            click.echo(f"# {script.path}\n{text}")
            after = (f"NUMBER-OF-{script.name}",)
        else:
            after = (_submitted(script, text, batch, f" of {stage.name}"),)
    if work.note and not (dry and work.stages):
        echo(work.note.replace("{after}", "".join(after)))


def _mind_earlier(verb: str, folder: Path, work: Work, batch: Submission) -> None:
    """Two jobs at one folder do no harm; but a training is claimed by one, and the other would fail.

    Raises:
        OutputError: a training's earlier job is still waiting or at work, and this one does not wait for it.
    """
    waited_for = batch.settings.get("after", "").split(":")
    earlier = [] if verb == "evaluate" else [n for n in still_queued(folder, batch) if n not in waited_for]
    if not earlier:
        return
    what = f"{work.place}: {'job' if len(earlier) == 1 else 'jobs'} {listing(earlier)} of an earlier submission"
    if verb == "train":
        cancel = f"{SCHEDULERS[batch.name].cancel} {' '.join(earlier)}"
        raise OutputError(f"{what}: still waiting or at work; let it end, or cancel it ({cancel}) and repeat")
    say(f"{what}: still waiting or at work; what both are at is done twice, to the same result")


def _submitted(script: Script, text: str, batch: Submission, of: str) -> str:
    """Writes a script and submits it; gives the job's number, which is told."""
    with atomic_write(script.path) as file:
        file.write(text)
    script.path.chmod(0o755)
    number = submit(script, batch)
    note_number(script.folder, batch, number)
    echo(f"{number}: {counted(script.tasks, 'task')}{of} on {batch.name}; {script.path}")
    return number


def _place(work: Work, verb: str) -> tuple[Path, str]:
    """The folder of the scripts, and a name there that none has yet, nor any stage."""
    folder = work.place.absolute().with_name(f"{work.place.absolute().name}-jobs")
    stems = [path.stem for path in folder.glob(f"{verb}-*.sh")] if folder.is_dir() else []
    used = {"-".join(stem.split("-")[:2]) for stem in stems}
    return folder, next(f"{verb}-{i}" for i in range(1, len(used) + 2) if f"{verb}-{i}" not in used)


def without_options(command: click.Command, arguments: Sequence[str], names: set[str]) -> list[str]:
    """The arguments without some options and their values."""
    options = [p for p in command.params if isinstance(p, click.Option) and p.name in names]
    flags = {flag: bool(o.is_flag) for o in options for flag in o.opts}
    kept, skip, options_end = [], False, False
    for argument in arguments:
        options_end = options_end or argument == "--"
        flag = argument.partition("=")[0]
        if skip:
            skip = False
        elif not options_end and flag in flags:
            skip = not flags[flag] and "=" not in argument
        else:
            kept.append(argument)
    return kept


# --- what each verb does in jobs --------------------------------------------------------------------------------------


def pick_work(arguments: tuple[str, ...], out: Path, runs: list[str] | None, **choices: Any) -> Work:
    """The runs of the project are listed once, here; a model or project that does not do is refused here."""
    from ..core.records import expect
    from ..data import open_project
    from ..data.objects import write_objects
    from ..picking.load import joined, load_model
    from ..picking.output import records_of
    from ..picking.session import session_for
    from .options import named_runs

    places = without_overrides(arguments)[0]
    if len(places) < 2:
        raise TomopickError("pick needs a MODEL and an INPUT, in this order; see pick --help")
    *models, source = places
    opening = {key: choices[key] for key in ("voxel_spacing", "objects", "coordinate_offset")}
    project = open_project(source, **opening)
    wanted = project.runs() if runs is None else named_runs(runs, project, [project]) or []
    if not wanted:
        raise TomopickError(f"{source}: no runs to pick; expected at least one tomogram")
    model = joined([load_model(model) for model in models])

    def prepare() -> None:
        if not project.keeps_picks:
            write_objects(out / "objects.json", model.objects)
        if not choices["session_id"]:  # once, by us: every task finds it there
            session_for(project, out, choices["user_id"])
        expect(records_of(project, out).folder, wanted)

    return Work(out, wanted, prepare=prepare)


def simulate_work(out: Path, runs: int, positions: str | None, **_: Any) -> Work:
    """Each task makes its part of the runs; the project itself whoever comes first."""
    names = [f"SIM_{i:03d}" for i in range(runs)]
    if positions is not None:
        from ..simulation import twins

        names = list(twins(positions, runs))
    return Work(out, names)


def evaluate_work(**_: Any) -> Work:
    """One task; what it prints is in the job's output."""
    return Work(Path(os.curdir).absolute() / "evaluate")
