"""The metrics that a model has thresholds for, by the one spelling of each; all that picking needs of scoring."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import SelectionError

# A peak's score where nothing could be measured: F1 wants picks that are about as likely right as wrong, F-beta 4 gains
# from any pick that is right once in twenty times (it must be more often than F / 17, docs/conventions.md section 3).
DEFAULT_THRESHOLDS = {"f1": 0.3, "czii": 0.05}
SHARED = 0.5  # of the smaller radius: nearer picks of two objects are of one density
POSITIVES = "positives"  # where not all particles were picked: the product of recall and precision
METRICS = tuple(DEFAULT_THRESHOLDS)  # that every model has thresholds for; `precision=P` may come on top


def metric_name(metric: str) -> str:
    """The one spelling of a metric that thresholds are kept for: `f1`, `czii`, `precision=0.9`, `positives`.

    Raises:
        SelectionError: it is none of these.
    """
    return metric if metric in (*DEFAULT_THRESHOLDS, POSITIVES) else f"precision={wanted_precision(metric):g}"


def wanted_precision(metric: str) -> float:
    """P of `precision=P`.

    Raises:
        SelectionError: another metric, or P not between 0 and 1.
    """
    name, _, number = metric.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if name != "precision" or not 0 < value <= 1:
        raise SelectionError(f"metric '{metric}' is none of czii, f1, positives and precision=P with 0 < P <= 1")
    return value


def thresholds_for(known: Mapping[str, Mapping[str, float]], metric: str, whose: str) -> Mapping[str, float]:
    """The thresholds that a model keeps for a metric.

    Args:
        known: by metric and object.
        metric: that is asked for.
        whose: name of the model, for the message.

    Raises:
        SelectionError: the metric is none, or the model was not calibrated for it.
    """
    name = metric_name(metric)
    if name not in known:
        raise SelectionError(
            f"{whose}: no thresholds for {name}; it has {', '.join(sorted(known))}; measure them first with "
            f"calibrate `metric={name}`"
        )
    return known[name]
