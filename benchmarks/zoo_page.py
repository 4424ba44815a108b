"""The page of the methods and its picture, from the rows that `zoo.py` leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tomopick.core.files import atomic_write
from tomopick.recipes.catalogue import LISTED_COLUMNS, listed

PICTURE = "methods.png"
BASE = "matched filter"
_NO_NETWORK = {"matched filter": "-"}
TITLES = {"single": "one network", "views": "with views", "ensemble": "ensemble", "soup": "weights averaged"}
Row = Mapping[str, Any]


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of each recipe, variant and device the row of the largest budget, of equal ones the last, in the order they came.

    A second of one device is not one of another.
    """
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row["recipe"], row["variant"], row["device"])
        if key not in best or row.get("budget", 0) >= best[key].get("budget", 0):
            best[key] = row
    orders = {name: list(dict.fromkeys(row[name] for row in best.values())) for name in ("device", "recipe")}
    orders["variant"] = list(TITLES)
    return sorted(best.values(), key=lambda row: [order.index(row[name]) for name, order in orders.items()])


def write_page(rows: Sequence[Row], page: Path) -> None:
    """Both tables into the page, each between its two marks, and the picture beside it."""
    shown = latest(rows)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    for name, made in (("methods", methods()), ("results", table(shown))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        made = f"{begin}\n{made}\n{end}"
        text = head + made + rest.partition(end)[2] if found else f"{text}\n{made}\n"
    with atomic_write(page) as file:
        file.write(text)
    picture(shown, page.with_name(PICTURE))


def methods() -> str:
    """What each method is good for, its published score, its cost and whose checkpoints it takes, in Markdown."""
    head = (*LISTED_COLUMNS[:-1], "weights of its authors")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, *cells, weights in listed():
        convert = f"`tomopick convert FILE OUT --as {name}`: {weights}" if weights != "-" else "-"
        lines.append(f"| {' | '.join([f'`{name}`', *cells, convert])} |")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown."""
    lines = [f"![How well each method picks, against what it costs]({PICTURE})", ""]
    lines += [
        "| on | recipe | variant | parameters | TFLOP a volume | steps | budget [s] | F4 | F1 | AP | s a run | GB |",
        "|---|---|---|--:|--:|--:|--:|---|---|---|--:|--:|",
    ]
    for row in rows:
        scores = " | ".join(_score(row, name) for name in ("F4", "F1", "AP"))
        budget = f"{row['budget']:g}" if row.get("budget") else "-"
        lines.append(
            f"| {_short(row)} | `{row['recipe']}` | {_title(row)} | {row['parameters']:,} | {row['tflop']:.3g} | "
            f"{row['steps'] or '-'} | {budget} | {scores} | {row['pick_seconds']:.1f} | {row['memory_gb']:.1f} |"
        )
    devices = sorted({(row["device"], "x".join(map(str, row["tomogram"]))) for row in rows})
    lines += ["", "Measured on " + "; ".join(f"{device}, tomograms of {shape}" for device, shape in devices) + "."]
    taught = [row for row in rows if row["variant"] == "single" and row.get("patch")]
    patches = [f"`{row['recipe']}` on {_short(row)} {'x'.join(map(str, row['patch']))} by {row['batch']}"
               for row in taught]  # fmt: skip
    return "\n".join([*lines, *(["Patches and batches: " + ", ".join(patches) + "."] if patches else [])])


def _short(row: Row) -> str:
    return str(row["device"]).partition(" (")[0].removeprefix("NVIDIA ")


def _title(row: Row) -> str:
    return _NO_NETWORK.get(row["recipe"], TITLES[row["variant"]])


def _score(row: Row, name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.3f} ({low:.3f} to {high:.3f})"


def picture(rows: Sequence[Row], file: Path) -> None:
    """F4 with its interval by row; F4 against arithmetic; and how the loss of each network fell."""
    figure, (bars, cost, loss) = pyplot.subplots(1, 3, figsize=(15, 0.3 * len(rows) + 2.6), layout="constrained")
    colours = dict(zip(dict.fromkeys(row["recipe"] for row in rows), pyplot.get_cmap("tab20").colors * 2))
    marks = dict(zip(TITLES, "osD^"))
    dashes = dict(zip(dict.fromkeys(map(_short, rows)), ("-", "--", ":", "-.") * len(rows)))
    for i, row in enumerate(rows):
        low, high = row["F4_interval"]
        style = {"color": colours[row["recipe"]], "marker": marks[row["variant"]], "linestyle": "none"}
        bars.errorbar(row["F4"], i, xerr=[[max(0, row["F4"] - low)], [max(0, high - row["F4"])]], capsize=2, **style)
        if row["tflop"]:
            cost.plot(row["tflop"], row["F4"], **style)
            cost.annotate(row["recipe"], (row["tflop"], row["F4"]), (3, 3), textcoords="offset points", fontsize=7)
        if row["variant"] == "single" and row.get("curve"):
            for stage, curve in enumerate(row["curve"]):
                first = row["curve"][0][0][1]
                at = [(stage + step / curve[-1][0]) / 2 for step, _ in curve]
                loss.plot(at, [value / first for _, value in curve], dashes[_short(row)], color=colours[row["recipe"]],
                          label=f"{row['recipe']}, {_short(row)}" if not stage else None)  # fmt: skip
    for row in rows:
        if row["recipe"] == BASE:  # of the runs of its device
            beside = [i for i, other in enumerate(rows) if other["device"] == row["device"]]
            bars.plot([row["F4"]] * 2, [min(beside) - 0.5, max(beside) + 0.5], color="0.6", linestyle=":")
    labels = [f"{row['recipe']}, {_title(row)}, {_short(row)}" for row in rows]
    bars.set(yticks=range(len(rows)), yticklabels=labels,
             xlabel="weighted F4 (95 % interval over runs)", xlim=(0, 1))  # fmt: skip
    bars.invert_yaxis()
    cost.set(xscale="log", xlabel="TFLOP a volume of 184 x 630 x 630", ylabel="weighted F4", ylim=(0, 1))
    cost.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    cost.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    cost.xaxis.set_minor_formatter(NullFormatter())
    loss.set(yscale="log", xlabel="share of the training (first half: pretraining)", ylabel="loss / loss at first")
    if loss.get_legend_handles_labels()[0]:
        loss.legend(fontsize=7)
    for axis in (bars, cost, loss):
        axis.grid(alpha=0.3)
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
