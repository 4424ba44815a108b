"""The public face: everything from `tomopick` itself, arrays welcome, wrong arguments answered in one line."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tomopick as tp
from small import BALL, RING, TINY, folder, memory, tomogram, trained, untrained
from small import recipe as small_recipe
from tomopick import recipes
from tomopick.cli import main
from tomopick.picking.folder import LearnedFrom

ROOT = Path(__file__).parent.parent
CPU = {"device": "cpu", "engine": "torch"}


@pytest.fixture(scope="module")
def model():
    return tp.load(trained())


def test_an_array_a_tomogram_and_a_file_are_picked_alike(model, tmp_path):
    volume, _ = tomogram("A", 3)
    found = model.pick(volume.values, voxel_spacing=10.0, **CPU)
    tp.write_mrc(tmp_path / "A.mrc", volume.values, 10.0)
    for other in (
        model.pick(volume, **CPU),
        model.pick(tmp_path / "A.mrc", **CPU),
        model.pick(str(tmp_path / "A.mrc"), **CPU),
    ):
        np.testing.assert_array_equal(other.picks.positions, found.picks.positions)
        np.testing.assert_array_equal(other.picks.scores, found.picks.scores)
    assert len(found) == len(found.picks) > 5 and repr(found) == f"Found({len(found)} ball)"
    assert model.pick(tmp_path / "A.mrc", **CPU).picks.run == "A"
    heat = found.heatmap()
    assert heat.objects == ("ball",) and heat.values.max() <= 1
    light = model.pick(-volume.values, voxel_spacing=10.0, **CPU)
    assert any("contrast looks inverted" in line for line in light.warnings)


def test_a_model_is_shown_in_one_line(model):
    text = repr(model)
    assert "ball" in text and "10 Å" in text and "\n" not in text and len(text) < 300
    pair = tp.Ensemble.of([model, replace(model, name="other")])
    assert repr(pair).startswith("<Ensemble of 2 ")


def test_what_one_works_with_is_shown_in_one_line(tmp_path):
    volume, picks = tomogram()
    project = memory(("A",))
    tp.write_mrc(tmp_path / "A.mrc", volume.values, volume.grid)
    folder = tp.open_project(tmp_path, objects=["ball:40"])
    z, y, x = volume.values.shape
    for value, said in (
        (volume, f"<Tomogram 'A': {z} x {y} x {x} voxels (z, y, x) of 10 Å, denoised>"),
        (picks, f"<Picks of 'A': {len(picks)} ball>"),
        (project, "<MemoryProject memory: ball>"),
        (folder, f"<FolderProject {tmp_path}: ball>"),
        (tp.Picks.empty("A"), "<Picks of 'A': none>"),
    ):
        assert repr(value) == said
    assert repr(recipes.get("light")).startswith("<Recipe 'light': UNetSpec") and "\n" not in repr(recipes.get("light"))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m: m.pick(np.zeros((8, 8, 8))), r"an array has no voxel spacing .* voxel_spacing=10.0"),
        (lambda m: m.pick(np.ones((8, 8)), voxel_spacing=10.0), r"shape \(8, 8\) .* expected a volume"),
        (lambda m: m.pick("nowhere.mrc"), r"nowhere\.mrc: there is no such file"),
        (lambda m: m.pick(np.ones((8, 8, 8)), voxel_spacing=-1), r"`voxel_spacing=-1`: expected a positive number"),
        (lambda m: m.pick(tomogram()[0], voxel_spacing=7.0), "has a voxel spacing of 10 Å; leave `voxel_spacing` out"),
        (lambda m: m.pick(tomogram()[0], metrik="f1"), "no argument 'metrik'; did you mean 'metric'"),
        (lambda m: tp.load("defualt"), "did you mean 'default'"),
        (lambda m: tp.load(3), "found int where a model is expected"),
        (lambda m: tp.pick(m, "tomograms/", "picks"), "found str 'tomograms/' where a project is expected; open"),
        (lambda m: tp.fit("lihgt", memory(), "model"), "no recipe 'lihgt'; did you mean 'light'"),
        (lambda m: tp.fit("light", "vols", "model"), "found str 'vols' where a project is expected"),
        (lambda m: tp.fit("light", memory(), "model", sede=1), "no argument 'sede'; did you mean 'seed'"),
        (lambda m: tp.fit(3, memory(), "model"), "found int where a recipe or its name is expected"),
        (lambda m: tp.Runs(memory(), "A"), r"`Runs.names=A`: expected a list of runs, such as \['A'\]"),
        (lambda m: tp.Runs(memory(), ["Z"]).check(), "no run 'Z'"),
        (lambda m: tp.score([1], tomogram()[1], [BALL]), "`picks` is list; expected Picks"),
        (lambda m: tp.score(tp.Picks.empty("A"), tp.Picks.empty("A"), [BALL]), "the truth holds no particle"),
        (lambda m: tp.simulate((8, 8, 8), "x", run=2), "no argument 'run'; did you mean 'runs'"),
        (lambda m: tp.combine([m, m], "x", wieghts="grid"), "no argument 'wieghts'; did you mean 'weights'"),
        (lambda m: tp.calibrate("nowhere", memory()), "no model 'nowhere'"),
    ],
)  # fmt: skip
def test_wrong_arguments_get_one_clear_line(call, line, model):
    with pytest.raises(tp.TomopickError, match=line) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_runs_are_picked_as_the_command_does(model, tmp_path):
    project = tp.open_project(folder(tmp_path / "tomograms"))
    results = list(tp.pick(model, project, tmp_path / "picks", **CPU))
    assert [(r.run, r.status) for r in results] == [("A", "picked"), ("B", "picked")]
    alone = model.pick(project.tomogram("A"), **CPU).picks
    text = (tmp_path / "picks" / "A.csv").read_text()
    assert len(text.splitlines()) == len(alone) + 1
    (again,) = tp.pick(trained(), tp.Runs(project, ["B"]), str(tmp_path / "picks"), **CPU)
    assert (again.run, again.status) == ("B", "skipped")


def test_what_is_unlike_the_training_is_told_before_a_batch_as_by_the_command(model, tmp_path, told):
    project = tp.MemoryProject([BALL])
    project.write_tomogram(tomogram("A", 0, spacing=40.0)[0])
    list(tp.pick(model, project, tmp_path / "picks", **CPU))
    said = next(line for line in told if "40 Å" in line).removeprefix("warning: ")
    folder(tmp_path / "coarse", ("A",), picks=False, spacing=40.0)
    command = ["pick", str(trained()), str(tmp_path / "coarse"), "--out", str(tmp_path / "p"), "--device", "cpu"]
    assert said in CliRunner().invoke(main, command).stderr.replace("--voxel-spacing", "`voxel_spacing`")


def test_scores_of_one_run_and_of_many(model):
    project = memory()
    truth = tp.Runs(project).labelled()
    picks = {run: model.pick(project.tomogram(run), **CPU).picks for run in project.runs()}
    scores = tp.score(picks, truth, project.objects)
    assert 0 < scores.f1 <= 1 and scores.interval[0] <= scores.f1 <= scores.interval[1]
    assert json.loads(json.dumps(scores.to_json())) == json.loads(scores.json_text()) and "mean F1" in scores.text()
    assert repr(scores).startswith("Scores(czii ")
    one = tp.score(picks["A"], truth["A"], project.objects)
    assert one.czii.objects["ball"] == tp.score({"A": picks["A"]}, {"A": truth["A"]}, [BALL]).czii.objects["ball"]
    unnamed = replace(picks["A"], run="")  # found in an array
    assert tp.score(unnamed, truth["A"], project.objects).f1 == one.f1
    with pytest.raises(tp.TomopickError, match="picks are of runs B and the truth of runs A; name the runs alike"):
        tp.score({"B": picks["B"]}, {"A": truth["A"]}, project.objects)


def test_a_training_from_the_top(tmp_path, told):
    project = memory(("A", "B"))
    project.objects = (BALL, RING)
    small = ["tiling.shape=32,32,32", "tiling.overlap=8", *TINY]
    how = {"overrides": small, "val_runs": ["B"], "seed": 3, "objects": ["ball"], "device": "cpu"}
    made = tp.fit("light", tp.Runs(project, ["A"]), str(tmp_path / "m"), **how)
    again = tp.load(tmp_path / "m")
    assert made.checksum == again.checksum and made.facts.provenance["seed"] == 3
    assert made.facts.learned_from == (LearnedFrom("memory", ("A",), ("B",)),)
    assert (tmp_path / "m" / "training.png").stat().st_size > 1000
    # Of what is learned alone: nobody asked for rings.
    assert "warning: only 14 picks of ball to learn from" in told and not any("ring" in line for line in told)


def test_models_of_models_and_their_files(tmp_path):
    one, two, project = trained(), tmp_path / "two", memory(("D", "E"))
    two.mkdir()
    untrained().save(two)
    pair = tp.combine([one, two], tmp_path / "pair", device="cpu")
    assert isinstance(tp.load(tmp_path / "pair"), tp.Ensemble) and len(pair.detectors) == 2
    mean = tp.soup(
        [one, replace(tp.load(one), name="twin")], tmp_path / "soup", on=tp.Runs(project, ["D"]), device="cpu"
    )
    assert mean.thresholds["f1"]["ball"] > 0
    result = tp.calibrate(tmp_path / "soup", project, device="cpu")
    assert tp.load(tmp_path / "soup").thresholds["f1"]["ball"] == result.thresholds["ball"].threshold
    (path,) = tp.export(tp.Runs(project, ["D"]), tmp_path / "d.star", to="relion5", objects=["ball"])
    assert path.read_text().startswith("data_") or "data_" in path.read_text()
    (network,) = tp.export(mean, tmp_path / "net", to="torchscript")
    assert network.suffix == ".pt" and network.stat().st_size > 1000


def test_a_page_of_a_model_and_of_picks(model, tmp_path):
    project = memory(("D", "E"))
    by_model = tp.report(model, tmp_path / "model.html", on=tp.Runs(project, ["D"]), **CPU)
    picks = {run: model.pick(project.tomogram(run), **CPU).picks for run in project.runs()}
    by_picks = tp.report(picks, tmp_path / "picks.html", on=project, title="By hand")
    assert "<html" in by_model.read_text() and "By hand" in by_picks.read_text()
    with pytest.raises(tp.TomopickError, match="no picks of D, E; name the runs alike"):
        tp.report({"X": picks["D"]}, tmp_path / "x.html", on=project)


def test_types_are_shipped():
    assert (Path(tp.__file__).parent / "py.typed").is_file()


# --- what is shown to newcomers ---------------------------------------------------------------------------------------
README = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S))
CELLS = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
NOTEBOOK = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")


@pytest.mark.parametrize("shown", [README, NOTEBOOK], ids=["README", "notebook"])
def test_what_is_shown_imports_from_the_top_alone(shown):
    names = []
    for node in ast.walk(ast.parse(shown)):
        names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
    assert "tomopick" in names and not [name for name in names if name.startswith("tomopick.")]


def test_readme_runs(tmp_path, monkeypatch, capsys):
    protein = replace(BALL, name="my-protein")
    folder(tmp_path / "tomograms", ("TS_07", "TS_08"), objects=(protein,), objects_json=False)
    monkeypatch.chdir(tmp_path)
    small = str(["tiling.shape=32,32,32", "tiling.overlap=8", *TINY])
    code = README.replace('["train.steps=1000", "train.lr=5e-4"]', small)
    assert small in code
    exec(compile(code, "README.md", "exec"), {})
    assert "TS_08 picked" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"tomograms", "picks", "model", "report.html"}


def test_a_training_asks_once_whether_a_radius_is_a_diameter_and_of_nothing_that_it_does_not_learn(tmp_path, caplog):
    """Balls of 40 Å side by side, said to be of 120."""
    project = tp.MemoryProject([replace(BALL, radius=120.0), replace(RING, radius=120.0)])
    for seed, run in enumerate("AB"):
        volume, picks = tomogram(run, seed, shape=(24, 96, 96), n=30)
        rings = tp.Picks(run, picks.positions + 5.0, np.full(len(picks), RING.name))
        project.add(volume, tp.Picks.join(run, [picks, rings]))
    options = tp.FitOptions("cpu", objects=[BALL.name])
    with caplog.at_level("WARNING", "tomopick"):
        tp.fit(small_recipe("train.steps=1"), [tp.Source(tp.Runs(project), val_runs=["B"])], tmp_path / "m", options)
    asked = [r.message for r in caplog.records if "the diameter?" in r.message]
    assert len(asked) == 1 and BALL.name in asked[0]
