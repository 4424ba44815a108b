"""The notebooks of the examples run as they are, and hold what they show."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# What each one ends in, and at least how large that is [bytes].
ENDS = {
    "czii": ("submission.csv", 500),
    "from_map": ("model/weights.safetensors", 1e6),
    "my_protein": ("better/weights.safetensors", 1e6),
    "quickstart": ("quickstart/report.html", 1e5),
    "relion5": ("particles_ribosome.star", 300),
}
EVERY = [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem != "quickstart")) for p in NOTEBOOKS]


def runner():
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "scripts" / "run_notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(notebook):
    """What kinds of outputs each code cell has."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    return [[sorted(o.get("data", {o["output_type"]: 0})) for o in c["outputs"]] for c in cells]


def test_these_are_they():
    assert {p.stem for p in NOTEBOOKS} == set(ENDS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_holds_its_outputs_and_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(c["execution_count"] == i + 1 for i, c in enumerate(c for c in notebook["cells"] if "outputs" in c))
    assert text.count('"image/png"') >= 1 and len(text) < 1.5e6
    for place in ("/work", "/tmp", "/home", "/root", "/Users", "Traceback", "C:\\\\"):
        assert place not in text


@pytest.mark.parametrize("path", EVERY)
def test_it_runs_and_shows_the_same_kinds_of_things(path, tmp_path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    done = runner().run(notebook, tmp_path)
    assert shown(done) == shown(notebook)
    file, least = ENDS[path.stem]
    assert (tmp_path / file).stat().st_size > least
    assert Path.cwd() != tmp_path


def test_a_cell_that_fails_ends_the_run_where_it_began(tmp_path):
    here = Path.cwd()
    cell = {"cell_type": "code", "source": ["x = 1\n", "x / 0"], "outputs": [], "execution_count": None}
    with pytest.raises(ZeroDivisionError):
        runner().run({"cells": [cell]}, tmp_path)
    assert Path.cwd() == here


def test_prints_values_and_pictures_are_kept(tmp_path):
    source = "from PIL import Image\nprint('a\\nb')\nImage.new('L', (2, 2))"
    cells = [{"cell_type": "markdown", "source": ["# a"]}]
    cells += [{"cell_type": "code", "source": lines} for lines in ([source], ["y = 2\n", "y + 1"], ["y = 3"])]
    done = runner().run({"cells": cells}, tmp_path)["cells"]
    assert done[0] == cells[0]
    assert done[1]["outputs"][0]["text"] == ["a\n", "b\n"]
    assert done[1]["outputs"][1]["data"]["text/plain"] == ["<Image>"] and done[1]["outputs"][1]["data"]["image/png"]
    assert done[2]["outputs"][0]["data"] == {"text/plain": ["3"]} and done[2]["execution_count"] == 2
    assert done[3]["outputs"] == []
