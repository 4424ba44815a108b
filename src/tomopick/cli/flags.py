"""The one table of flags: what the library calls a field, the command line calls by its flag.

Messages name fields as `field` or `field=value`, between backticks (as `Class.field` where two of them have other
flags); here the flags are put in their place.
"""

from __future__ import annotations

import re

import click

# The library's fields and arguments -> what is typed. Where a verb has another flag for one, it stands below.
FLAGS = {
    "FitOptions.objects": "--objects",
    "Runs.names": "--runs",
    "agree": "--agree",
    "add": "--add",
    "all_labelled": "--all-labelled",
    "at": "--at",
    "at_thresholds": "--at-thresholds",
    "beyond": "--beyond",
    "border": "--border",
    "bound": "--bound",
    "coordinate_offset": "--coordinate-offset",
    "coords_angpix": "--coords-angpix",
    "densities": "--density",
    "device": "--device",
    "drop_outside": "--drop-outside",
    "engine": "--engine",
    "decided": "--decided",
    "exclude": "--exclude",
    "folds": "--folds",
    "format": "--from",
    "index_map": "--index-map",
    "inside": "--inside",
    "init_from": "--init-from",
    "invert": "--invert",
    "keep_below": "--keep-below",
    "labelled_in": "--labelled-in",
    "layout": "--star-layout",
    "like.tomo_type": "--like-tomo-type",
    "maps": "--from-map",
    "metric": "--metric",
    "min_distances": "--min-distance",
    "min_score": "--min-score",
    "minutes": "--minutes",
    "name": "--as",
    "names": "--names",
    "objects": "--object",
    "only": "--objects",
    "orient_to": "--orient-to",
    "outside": "--outside",
    "origin": "--dynamo-origin",
    "negatives": "--negatives",
    "out": "--out",
    "overwrite": "--overwrite",
    "picks": "--picks",
    "pixel_size": "--tilt-series-pixel-size",
    "port": "--port",
    "precision": "--precision",
    "preset": "--preset",
    "regions": "--region",
    "resume": "--resume",
    "runs": "--runs",
    "session_id": "--session-id",
    "shape": "--shape",
    "shard": "--shard",
    "simulated": "--pretrain",
    "simulated.picks": "--pretrain-picks",
    "simulated.tomo_type": "--pretrain-tomo-type",
    "simulated.val_runs": "--pretrain-val-runs",
    "smooth": "--smooth",
    "subset": "--subset",
    "target": "--to",
    "thresholds": "--threshold",
    "tilt_series_pixel_size": "--tilt-series-pixel-size",
    "tilt_range": "--tilt-range",
    "to": "--to",
    "tomo_type": "--tomo-type",
    "tomograms": "--tomograms",
    "tomograms_star": "--tomograms-star",
    "truth": "--truth",
    "unlabelled": "--unlabelled",
    "unlabelled.tomo_type": "--unlabelled-tomo-type",
    "unlabelled_runs": "--unlabelled-runs",
    "user_id": "--user-id",
    "val_runs": "--val-runs",
    "views": "--tta",
    "voxel_spacing": "--voxel-spacing",
    "weights": "--weights",
    "weights_folder": "--pretrained-weights",
    "within": "--within",
    "workers": "--workers",
    "z_range": "--z-range",
}
OF_VERB = {
    "calibrate": {"models": "--folds", "picks": "--truth"},
    "convert": {"kind": "--as"},
    "ensemble": {"runs": "--project and --val-runs", "Runs.names": "--val-runs", "picks": "--truth"},
    "show": {"Runs.names": "--run"},
    "soup": {"runs": "--project and --val-runs", "Runs.names": "--val-runs", "picks": "--truth"},
    "train": {"Runs.names": "--train-runs"},
}

_FLAG = re.compile(r"--[a-z-]+")
FIELD = re.compile(r"`([\w.]+)(?:=([^`]*))?`")


def with_flags(text: str, verb: str | None = None) -> str:
    """The message as the command line says it: `tomo_type=wbp` becomes --tomo-type wbp.

    What the verb in progress has no flag for may be another's, which stands before it: import ... with `pixel_size`.

    Args:
        text: of the library.
        verb: whose flags; None: that of the command in progress.
    """
    verb = verb or _verb()
    known = {**FLAGS, **OF_VERB.get(verb or "", {})}
    there = _flags_of(verb)

    def typed(found: re.Match[str]) -> str:
        flag, value = known.get(found[1]), found[2]
        if flag is None or (there is not None and not set(_FLAG.findall(flag)) <= there):
            flag = _flag_of_another(text[: found.start()], found[1])
        if flag is None:
            return found[0]  # what cannot be typed is not advised
        return f"{flag} {value}" if value and value != "True" else flag

    return FIELD.sub(typed, text)


def _flag_of_another(before: str, field: str) -> str | None:
    """The flag of a field for the last verb that a text names and that has it."""
    for verb in re.findall(r"(?<![\w-])[a-z]+(?:-[a-z]+)?(?![\w-])", before)[::-1]:
        flag = {**FLAGS, **OF_VERB.get(verb, {})}.get(field)
        if flag is not None and set(_FLAG.findall(flag)) <= (_flags_of(verb) or set()):
            return flag
    return None


def _flags_of(verb: str | None) -> set[str] | None:
    """Those of a verb of the command in progress; None where there is no such."""
    context = click.get_current_context(silent=True)
    root = context.find_root().command if context else None
    command = root.commands.get(verb or "") if isinstance(root, click.Group) else None
    return None if command is None else {flag for param in command.params for flag in param.opts}


def _verb() -> str | None:
    context = click.get_current_context(silent=True)
    return context.info_name if context else None
