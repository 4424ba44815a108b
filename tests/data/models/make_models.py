"""Trains the small models that tests pick with, and keeps what they find: `python tests/data/models/make_models.py`.

Folders that are there stay as they are: they are what an earlier version wrote, and every later one has to load them
and to find the same picks. To try a newer format as well, add a name below. What only a training needs is left out.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import small  # noqa: E402
from tomopick.picking.load import load_model  # noqa: E402

MODELS = {"ball": (small.BALL,), "ball_and_ring": (small.BALL, small.RING)}
OF_THE_TRAINING = ("last", "best", "top")


def picks_of(folder: Path) -> list[list]:
    """Of a volume that the model has not seen: [object, z, y, x, score]."""
    model = load_model(folder)
    found = model.pick(small.tomogram("X", 9, objects=model.objects)[0]).picks
    return [[n, *p, s] for n, p, s in zip(found.names.tolist(), found.positions.tolist(), found.scores.tolist())]


def main() -> None:
    """Makes what is missing."""
    for name, objects in MODELS.items():
        if (HERE / name).exists():
            continue
        with tempfile.TemporaryDirectory() as place:
            made = small.taught(Path(place) / name, objects)
            for part in OF_THE_TRAINING:
                shutil.rmtree(made / part)
            rows = [json.loads(line) for line in (made / "log.jsonl").read_text().splitlines()]
            (made / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[-10:]))
            (made / "picks.json").write_text(json.dumps(picks_of(made)) + "\n")
            shutil.copytree(made, HERE / name)


if __name__ == "__main__":
    main()
