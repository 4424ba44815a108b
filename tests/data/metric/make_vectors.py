"""The CZII challenge's score of small scenes, reckoned slowly: `python tests/data/metric/make_vectors.py`.

Nothing of tomopick, NumPy or SciPy is in here: whole numbers, fractions and loops over all pairs, from the definition
alone. Positions lie on a lattice, so that many pairs are exactly one reach apart, picks double and particles touch.

Source: the metric of Kaggle's czii-cryo-et-object-identification: a particle is found where a pick of its kind lies
within half its radius; picks beyond the number of found particles are false; counts are summed over the runs;
F-beta with beta 4; the mean of the kinds by weight.
"""

import csv
import random
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
# name -> radius [Å], weight in the score: the challenge's own.
OBJECTS = {
    "apo-ferritin": (60, 1),
    "beta-amylase": (65, 0),
    "beta-galactosidase": (90, 2),
    "ribosome": (150, 1),
    "thyroglobulin": (130, 2),
    "virus-like-particle": (135, 1),
}
SCENES, RUNS = 12, ("A", "B")


def scene(number: int) -> list[tuple[str, str, str, int, int, int]]:
    """Rows of (side, run, object, z, y, x) [Å]."""
    draw = random.Random(number)
    rows = []
    for run in RUNS:
        for name, (radius, _) in OBJECTS.items():
            step = radius // 6  # reach is three steps: (1, 2, 2) steps are exactly one reach
            side = draw.choice((4, 8, 14))
            for what, most in (("truth", 6), ("pick", 9)):
                for _ in range(draw.randint(0, most)):
                    rows.append((what, run, name, *(step * draw.randint(0, side) for _ in "zyx")))
    return rows


def counts(rows: list, name: str) -> tuple[int, int, int]:
    """Found particles, false picks, missed particles."""
    tp = fp = fn = 0
    reach = Fraction(OBJECTS[name][0], 2)
    for run in RUNS:
        sides = {w: [r[3:] for r in rows if r[:3] == (w, run, name)] for w in ("truth", "pick")}
        found = 0
        for particle in sides["truth"]:
            if any(sum((a - b) ** 2 for a, b in zip(particle, pick)) <= reach**2 for pick in sides["pick"]):
                found += 1
        tp, fp, fn = tp + found, fp + len(sides["pick"]) - found, fn + len(sides["truth"]) - found
    return tp, fp, fn


def f_beta(tp: int, fp: int, fn: int, beta: int = 4) -> Fraction:
    """0 where there is nothing to divide by."""
    precision = Fraction(tp, tp + fp) if tp + fp > 0 else Fraction(0)
    recall = Fraction(tp, tp + fn) if tp + fn > 0 else Fraction(0)
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below else Fraction(0)


def main() -> None:
    """Writes the scenes and what they score."""
    with open(HERE / "scenes.csv", "w", newline="") as points, open(HERE / "scores.csv", "w", newline="") as scores:
        to_points, to_scores = csv.writer(points, lineterminator="\n"), csv.writer(scores, lineterminator="\n")
        to_points.writerow(["scene", "side", "run", "object", "z", "y", "x"])
        to_scores.writerow(["scene", "object", "tp", "fp", "fn", "fbeta4", "score"])
        for number in range(SCENES):
            rows = scene(number)
            to_points.writerows([number, *row] for row in rows)
            table = {name: counts(rows, name) for name in OBJECTS}
            total = sum(f_beta(*table[name]) * weight for name, (_, weight) in OBJECTS.items())
            score = total / sum(weight for _, weight in OBJECTS.values())
            for name, found in table.items():
                to_scores.writerow([number, name, *found, repr(float(f_beta(*found))), repr(float(score))])


if __name__ == "__main__":
    main()
