"""A whole training: recipe + projects -> detector in a model folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..core.claims import claimed
from ..core.errors import ModelError, RecipeError
from ..core.messages import counted, reason_of
from ..core.progress import MOST_MINUTES, bar
from ..core.signals import held_interrupt
from ..networks.engines import choose_device
from ..picking.cards import provenance, save_with_card
from ..picking.detector import Detector
from ..picking.ensemble import Ensemble
from ..picking.folder import ENSEMBLE, PLAN, read_log
from ..picking.load import load_detector, load_model
from ..scoring.metrics import DEFAULT_THRESHOLDS
from ..scoring.score_maps import heights
from .checkpoints import GATHERED, StepLog, keep_best, keep_weights, save_last, stale
from .dataset import Data, gather
from .distillation import objective_of
from .heap import kept_heap
from .loop import SELECT, TrainState, train
from .pace import MEASURED, Deadline, Pace, announce, fitted
from .patches import BATCHES_AHEAD, PatchSampler
from .ranks import ALONE, Ranks, batch_norms_over
from .recipe import Recipe
from .recorded import Recorder
from .resuming import begin_training, gone_on, refused_without_trace, require_place, write_recipe
from .sources import Source
from .tensor_patches import batches_on
from .transfer import fewer_steps, held_objects, holding, initialise, like, start_lasts, take_over
from .validate import measured, validate

log = logging.getLogger("tomopick")

_ONCE = 10.0  # [s] in which signals to several processes are one


@dataclass(frozen=True)
class FitOptions:
    """How a training is run; what is learned is the recipe's business.

    Attributes:
        device: `auto`, `cpu`, `cuda`, `mps`.
        seed: of weights and patches.
        workers: processes that make patches; 0: in the training process.
        resume: go on with an interrupted training in the same folder.
        init_from: model (folder or shipped name) to start from; head channels of objects it knows are kept.
        objects: names to learn; None: all that the projects define.
        add: names to learn beside all that `init_from` knows; where those have no labels its answers are.
        weights_folder: where to look for the weights that a recipe names in `imagenet`, before Hugging Face.
        minutes: that the training may take; its steps and warm-up follow from how long the first ones took.
        patience: it ends after so many validations in a row that brought no better score; 0: at its last step.
        draw: told, after each validation, the rows of the log and where a picture of them belongs.
        ranks: processes that share the training; all call `fit` alike, and the first alone writes.
    """

    device: str = "auto"
    seed: int = 0
    workers: int = 0
    resume: bool = False
    init_from: str = ""
    objects: Sequence[str] | None = None
    add: Sequence[str] = ()
    weights_folder: str = ""
    minutes: float | None = None
    patience: int = 0
    draw: Callable[[Sequence[Mapping[str, Any]], Path], None] | None = None
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes <= MOST_MINUTES:
            raise RecipeError(f"`minutes={self.minutes:g}`: expected more than 0 and at most {MOST_MINUTES:,}, a year")


def fit(recipe: Recipe, sources: Sequence[Source], out: str | Path, options: FitOptions | None = None) -> Detector:
    """Trains a recipe and writes the model folder.

    Args:
        recipe: the method.
        sources: projects to learn from, together.
        out: model folder to make; it exists already only to resume.
        options: how to run.

    Raises:
        TomopickError: data or options that do not fit, one line.
        OutputError: another process trains into the folder.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step in progress is finished and the state saved first, for `resume`.
    """
    options, out = options or FitOptions(), Path(out)
    options.ranks.require_batch(recipe.train.batch_size)
    if not options.ranks.leads:
        return _fit(recipe, sources, out, options)
    require_place(out, options.resume)
    with claimed(out), refused_without_trace(out, "recipe.json"):
        require_place(out, options.resume)
        return _fit(recipe, sources, out, options)


def _fit(recipe: Recipe, sources: Sequence[Source], out: Path, options: FitOptions) -> Detector:
    began, device = time.monotonic(), choose_device(options.device)
    start = load_detector(options.init_from) if options.init_from else None
    if start is not None:
        recipe = like(recipe, start)
    known = held_objects(start, options.add, options.objects)
    data = gather(recipe, sources, options.add or options.objects, options.seed, known, start is not None)
    recipe = replace(recipe, voxel_spacing=data.voxel_spacing)
    if start is not None:
        recipe = fewer_steps(recipe, start, data.objects, told=not options.minutes)
    torch.manual_seed(options.seed)
    network = recipe.network.build(len(data.objects))
    if start is None:
        initialise(network, recipe, options.weights_folder)
    else:
        take_over(network, recipe, data.objects, start)
    state = TrainState.start(network, recipe.train, device)
    state.ranks = ranks = options.ranks
    labels = {o.name: sum(int((v.picks.names == o.name).sum()) for v in data.train) for o in data.objects}
    if start is not None:
        state.notes["cuts"] = heights(start.thresholds["f1"], start.score_maps)
        state.averages["ema"].forgets_start = not start_lasts(start, labels)
    untrained = {metric: {o.name: cut for o in data.objects} for metric, cut in DEFAULT_THRESHOLDS.items()}
    detector = Detector(
        recipe.method, data.objects, network, untrained, data.facts, name=str(out), recipe_json=recipe.to_json()
    )
    made_with = provenance(options.seed, options.init_from) | dict(data.facts.provenance)
    detector = replace(detector, facts=replace(data.facts, provenance=made_with))
    if known and start is not None:
        detector = holding(detector, start, [o.name for o in known], data)
    if options.resume and ranks.leads:
        recipe = gone_on(state, recipe, detector, out, options.seed, data, options.minutes is not None)
    elif ranks.leads:
        begin_training(recipe, detector, state, out, options.seed, data)
    recipe = _as_led(recipe, ranks)
    state.spread()
    announce(recipe.train, recipe.patch.shape, labels, len(data.train), sum(p.numel() for p in network.parameters()))
    before = _before(recipe, detector, state, data) if start is not None and ranks.leads else None
    held = held_interrupt(once=0.0 if ranks.size == 1 else _ONCE)
    with held as interrupted, batch_norms_over(network, ranks), kept_heap(device):
        watched, ended = None, False
        if options.minutes and state.step < MEASURED:
            end = 60 * options.minutes + began
            timed = _timed(recipe, detector, state, data, out, options, end, interrupted)
            ended, recipe = timed is None, timed or recipe
            # The stages of a semi-supervised training are shares of its steps, which then stay.
            watched = None if recipe.objective.semi_supervised else Deadline(end, state.step)
        while not ended:
            detector = replace(detector, recipe_json=recipe.to_json())
            rows = fit_steps(recipe, detector, state, data, out, options)
            usable = partial(_usable, detector, state, data, recipe, out)
            leaves = partial(_misses, watched, recipe.train.steps, ranks)
            ended = _taken(rows, recipe, state, out, ranks, interrupted, leaves, usable)
            if not ended:
                assert watched is not None
                recipe = _kept(replace(recipe, train=watched.fitted(recipe.train, state.step)), out, ranks)
    _compare(state, before, SELECT[recipe.train.select], options.init_from)
    return finish(detector, data, out, device) if ranks.leads else detector


def _before(recipe: Recipe, detector: Detector, state: TrainState, data: Data) -> float | None:
    """What the model that a training starts from is worth, where it knows all that is validated."""
    wanted = {name for v in data.val for name in v.picks.names.tolist()}
    if state.step or not _judged(data) or not wanted <= state.notes.get("cuts", {}).keys():
        return None
    score, _, _ = validate(detector, state, data, recipe.train.select, recipe.objective.cut_by)
    log.info(f"before the first step: validation {SELECT[recipe.train.select]} {score:.3f}")
    return score


def _compare(state: TrainState, before: float | None, name: str, start: str) -> None:
    """Says where a training made nothing better."""
    best = state.notes.get("best")
    if before is not None and best is not None and best[0] < before:
        log.warning(
            f"validation {name} is {best[0]:.3f} at best and was {before:.3f} before the first step: the training "
            f"brought nothing; pick with {start}, or train on more picks"
        )


def _taken(
    rows: Generator[dict[str, Any]],
    recipe: Recipe,
    state: TrainState,
    out: Path,
    ranks: Ranks,
    interrupted: Callable[[], type[BaseException] | None],
    leaves: Callable[[int], bool],
    usable: Callable[[], None],
) -> bool:
    """Takes the steps; False where it `leaves` them behind one, for others.

    Interrupted it saves the state, and has what it reached made `usable`.
    """
    with closing(rows):  # which writes what is still held of the log
        for row in rows:
            stop = interrupted()
            if ranks.any(stop is not None):
                break
            if leaves(row["step"]):
                return False
        else:
            return True
    if not ranks.leads:
        return True
    save_last(state, out)
    usable()
    raise (stop or KeyboardInterrupt)(
        f"interrupted at step {row['step']} of {recipe.train.steps}; kept in {out}; "
        f"`tomopick finish {out}` makes a model of its best so far"
    )


def _misses(watched: Deadline | None, steps: int, ranks: Ranks, step: int) -> bool:
    """Whether the steps no longer fit the time that is watched."""
    return watched is not None and ranks.says(watched.missed(steps, step))


def _usable(detector: Detector, state: TrainState, data: Data, recipe: Recipe, out: Path) -> None:
    """Makes `best/` of a training that nothing has validated yet; who resumes it knows nothing of this."""
    if (out / "best" / "detector.json").is_file():
        return
    if _judged(data):
        log.info("validates what it has learned so far; interrupted once more, that is left out")
        *_, detector = validate(detector, state, data, recipe.train.select, recipe.objective.cut_by)
    keep_best(detector, state, out / "best")


def _as_led(recipe: Recipe, ranks: Ranks) -> Recipe:
    """The recipe as rank 0 goes on with it: it may be longer than it was begun, or fitted to a time."""
    return Recipe.from_json(ranks.says(recipe.to_json())) if ranks.size > 1 else recipe


def _timed(
    recipe: Recipe, detector: Detector, state: TrainState, data: Data, out: Path, options: FitOptions, end: float,
    interrupted: Callable[[], type[BaseException] | None],
) -> Recipe | None:  # fmt: skip
    """Takes the first steps and gives the recipe whose others fit the time until `end` (of the monotonic clock).

    None where another rank was interrupted meanwhile.
    """
    ahead = BATCHES_AHEAD * options.workers
    # However few steps it was meant to have, enough for the measurement are there.
    spec = replace(recipe.train, steps=max(recipe.train.steps, state.step + 2 * MEASURED + ahead))
    pace, trial = Pace(state, spec, trial=True, ahead=ahead), replace(recipe, train=spec)
    rows = fit_steps(trial, detector, state, data, out, options, pace)
    usable = partial(_usable, detector, state, data, recipe, out)
    if _taken(rows, recipe, state, out, options.ranks, interrupted, lambda step: pace.seconds is not None, usable):
        return None
    assert pace.seconds is not None
    recipe = replace(recipe, train=fitted(recipe.train, pace.seconds, end - time.monotonic(), state.step))
    return _kept(recipe, out, options.ranks)


def _kept(recipe: Recipe, out: Path, ranks: Ranks) -> Recipe:
    """The recipe as rank 0 has it, written for who resumes."""
    recipe = _as_led(recipe, ranks)
    return write_recipe(recipe, out) if ranks.leads else recipe


def _sampler(recipe: Recipe, data: Data, seed: int) -> PatchSampler:
    stride = recipe.network.stride
    return PatchSampler(data.train, data.objects, recipe.patch, recipe.target, recipe.augment, stride, seed)


def fit_steps(
    recipe: Recipe,
    detector: Detector,
    state: TrainState,
    data: Data,
    out: Path,
    options: FitOptions,
    pace: Pace | None = None,
) -> Generator[dict[str, Any]]:
    """The loop with its watchers: log, progress bar, validation, best, top and last weights."""
    spec = recipe.train
    pace = pace or Pace(state, spec, ahead=BATCHES_AHEAD * options.workers)
    draw = recipe.objective.sampler(_sampler(recipe, data, options.seed), data.unlabelled, spec.steps)
    on_gpu = (device := next(state.network.parameters()).device).type == "cuda"
    ranks = options.ranks
    stream = batches_on(device, draw, ranks.share(spec.batch_size), state.step, spec.steps, options.workers)
    objective = objective_of(recipe, data, options.init_from if options.add else "", ranks)
    # What ranks tell one another is not recorded.
    slope, stage = Recorder(objective) if on_gpu and ranks.size == 1 else None, state.stage
    rows = StepLog(out / "log.jsonl" if ranks.leads else None, spec, GATHERED if on_gpu else 1)
    judged, name = _judged(data), SELECT[spec.select]
    with bar(spec.steps, "train", "step", state.step) as shown, closing(rows):
        for report in train(state, objective, stream, spec, slope):
            pace.step_done()
            pace.told(report.step)
            row: dict[str, Any] = {"step": report.step, "loss": None, "lr": report.lr, "seconds": report.seconds}
            rows.add(row, report)
            if state.stage != "train":
                row["stage"] = state.stage
            if state.stage not in (stage, "train"):
                log.info(f"step {report.step} of {spec.steps}: {state.stage} begins")
            stage = state.stage
            due = ranks.says(pace.due(report.step))
            if due or rows.due():
                rows.fetch()
            if due and ranks.leads:
                detector = _kept_best(detector, state, data, row, recipe, out)
            if due or rows.due():
                rows.write(lasting=due)
            if due and ranks.leads:
                save_last(state, out)
                shown_score = f"{row['val_score']:.3f}" if judged else "-"
                score = f", validation {name} {shown_score}" if data.val else ""
                log.info(f"step {report.step} of {spec.steps}: loss {rows.loss:.2g}{score}; kept in {out}")
                if options.draw is not None:
                    options.draw(read_log(out / "log.jsonl"), out / "training.png")
                pace.validated(report.step, pace.paused())
            if due and ranks.size > 1:
                state.notes = ranks.says(state.notes)
            best = state.notes.get("best") if judged else None
            shown.update(1)
            shown.set_postfix_str(f"loss {rows.loss:.4f}" + (f", best {name} {best[0]:.3f}" if best else ""))
            yield row
            if due and judged and options.patience and stale(state) >= options.patience:
                log.info(
                    f"{counted(options.patience, 'validation')} brought nothing better: ends at step {report.step}"
                )
                return


def _judged(data: Data) -> bool:
    """Whether there is anything to validate by."""
    return any(len(v.picks) for v in data.val)


def _kept_best(
    detector: Detector, state: TrainState, data: Data, row: dict[str, Any], recipe: Recipe, out: Path
) -> Detector:
    """Validates the averaged weights and keeps them if they are good; gives the detector with their thresholds."""
    spec, cut_by = recipe.train, recipe.objective.cut_by
    if _judged(data):
        found = validate(detector, state, data, spec.select, cut_by)
        row["val_score"], row[f"val_{spec.select}"], detector = found
        state.notes["scores"] = [*state.notes.get("scores", []), row["val_score"]]
        state.notes["cuts"] = dict(detector.thresholds.get(cut_by, detector.thresholds["f1"]))
    # Where nothing is validated all score alike, and of equals the last weights are the best.
    keep_weights(state, row.get("val_score", 0.0), out, spec.keep_top, detector)
    return detector


def finish(detector: Detector, data: Data, out: Path, device: torch.device) -> Detector:
    """Best weights, thresholds for both metrics, displacement and model card into the folder."""
    best = out / "best" / "weights.safetensors"
    try:
        detector.network.load_state_dict(load_file(best))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = reason_of(error)
        raise ModelError(f"{best}: not the weights of this training ({reason}); train into a new folder") from error
    if data.val:
        detector = measured(detector, data, device)
    detector = replace(detector, network=detector.network.cpu().eval())
    return replace(detector, checksum=save_with_card(detector, out))


def finish_early(out: Path) -> Detector | Ensemble:
    """Makes an unfinished training's best weights so far its model, with the thresholds that were best for them.

    A finished one stays as it is: who was cut off may repeat it.

    Raises:
        ModelError: no training, or none that was validated yet, or several that are not all finished.
        OutputError: it is still being trained.
    """
    if any((out / name).is_file() for name in ("detector.json", ENSEMBLE, PLAN)):
        with claimed(out):
            made = load_model(out)
            log.info(f"{out}: is finished already")
            return made
    if not (out / "best" / "detector.json").is_file():
        raise ModelError(f"{out}: no training with a validation behind it; expected one that was interrupted later")
    with claimed(out):
        detector = Detector.load(out / "best", str(out))
        return replace(detector, checksum=save_with_card(detector, out))
