"""What can be known at the start is said at the start: before anything is read, and for every verb that writes."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from small import MODELS, copy_of, folder
from tomopick import recipes
from tomopick.cli import main, settings
from tomopick.core.errors import OutputError, TomopickError
from tomopick.core.files import require_writable
from tomopick.simulation import SimulationSpec

# No project or model is there: a verb that began to read would say so instead.
WRITES = {
    "pick": ["pick", "no-model", "no-input", "--out", "OUT"],
    "train": ["train", "light", "no-input", "OUT"],
    "export": ["export", "no.csv", "OUT", "--to", "imod"],
    "init": ["init", "no-input", "OUT"],
    "show": ["show", "no.mrc", "no.csv", "--out", "OUT"],
    "report": ["report", "no.csv", "no-input", "--out", "OUT"],
    "evaluate": ["evaluate", "no.csv", "no.csv", "--report", "OUT"],
    "doctor": ["doctor", "no-input", "--pictures", "OUT"],
    "simulate": ["simulate", "OUT", "--shape", "48,64,64"],
    "demo": ["demo", "--out", "OUT"],
    "convert": ["convert", "no.pth", "OUT"],
    "export-model": ["export-model", "no-model", "OUT"],
    "ensemble": ["ensemble", "no-model", "no-model", "OUT"],
    "soup": ["soup", "no-model", "no-model", "OUT"],
    "merge": ["merge", "no.csv", "no.csv", "--out", "OUT"],
    "curate": ["curate", "no-input", "no.csv", "--out", "OUT"],
}


def said(words):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("verb", sorted(WRITES))
def test_a_place_where_nothing_can_be_written_is_refused_first(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    text = said([word.replace("OUT", "file/x") for word in WRITES[verb]])
    assert text.startswith("error: file/x: cannot be written (") and "is no folder" in text
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and Path("file").read_text() == "mine"


NAMES = {
    "pick": ["pick", "no-model", "no-input", "--out", "o"],
    "import": ["import", "no.csv", "no-input"],
    "export": ["export", "no.csv", "o", "--to", "copick"],
    "curate": ["curate", "no-input", "no.csv", "--out", "o"],
}


@pytest.mark.parametrize("option", ["--session-id", "--user-id"])
@pytest.mark.parametrize("verb", sorted(NAMES))
def test_names_that_copick_would_change_are_refused_first(tmp_path, monkeypatch, verb, option):
    monkeypatch.chdir(tmp_path)
    what = option[2:].removesuffix("-id")
    text = said([*NAMES[verb], option, f"my_{what}"])
    assert f"{what} 'my_{what}' would be renamed by copick" in text and f"write 'my-{what}'" in text
    assert not list(tmp_path.iterdir())


def test_places(tmp_path):
    require_writable(tmp_path / "new" / "a" / "b")
    (tmp_path / "file").write_text("")
    require_writable(tmp_path / "file")
    with pytest.raises(OutputError, match="is no folder"):
        require_writable(tmp_path / "file" / "a" / "b")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(OutputError, match="is no folder"):
        require_writable(tmp_path / "gone" / "a")
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="no permission"):
            require_writable(tmp_path / "shut" / "a")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_are_refused(number):
    for words in (
        ["pick", "m", "i", "--out", "o", "--threshold", f"ball={number}"],
        ["pick", "m", "i", "--out", "o", "--min-distance", f"ball={number}"],
        ["pick", "m", "i", "--out", "o", "--inside", "a", "--within", number],
        ["show", "a", "b", "--out", "o", "--min-score", number],
        ["simulate", "o", "--vary", number],
    ):
        assert "finite number" in said(words) or "is not in the range" in said(words)


# What can be mistyped: the line that answers it, and the command; `place` is a folder of volumes, `model` a model.
TYPOS = {
    "no such command 'trian'": "trian light place m",
    "no such option '--step'": "train light place m --step 5",
    "no recipe 'lihgt'; did you mean 'light'?": "train lihgt place m --object ball:40",
    "no recipe 'ligth'; did you mean 'light'?": "recipes ligth",
    "published under the name 'souup'; did you mean 'soup'": "train souup place m --as-published",
    "'soup' is a method of several recipes": "train soup place m",
    "TrainSpec has no field 'stpes'; did you mean 'steps'?": "train light place m train.stpes=3",
    "Recipe has no field 'tarin'; did you mean 'train'?": "train light place m tarin.steps=3",
    "Recipe has no field 'steps'; did you mean 'train.steps'?": "train light place m steps=3",
    "TrainSpec.steps cannot be 'many'; expected a whole number": "train light place m train.steps=many",
    "ReweightedMSE has no field 'gama'": "train semietpicker place m --as-published loss.gama=2",
    "palce: there is no such file or folder; did you mean 'place'": "train light palce m",
    "plce: there is no such file or folder; did you mean 'place'": "train light place m --unlabelled plce",
    "no model 'defualt'": "train light place m --init-from defualt",
    "nosuch.mrc: there is no such file; expected the density of 'nosuch'": "train light m --from-map nosuch.mrc",
    "--object ball:4O: expected NAME:RADIUS": "train light place m --object ball:4O",
    "--add :5: expected NAME:RADIUS": "train light place m --init-from default --add :5",
    "--add ball:5: 'ball:4' was given before; expected one radius": "train light place m --add ball:4 --add ball:5",
    "--object ball:5: 'ball:4' was given before": "pick default place --out o --object ball:4 --object ball:5",
    "--from-map n.mrc,radius=-3: radius is '-3'; expected a number of Å": "train light m --from-map n.mrc,radius=-3",
    "--from-map n.mrc,mas=3: expected [NAME=]FILE[,radius=Å][,mass=kDa]": "train light m --from-map n.mrc,mas=3",
    "--add ball:-4: expected NAME:RADIUS": "train light place m --init-from default --add ball:-4",
    "--region A=1: expected RUN=": "train light place m --region A=1",
    "device 'cdua' cannot be used": "train light place m --device cpu,cdua",
    "no scheduler 'slrum'; did you mean 'slurm'?": "train light place m --on slrum",
    "no model 'defautl': neither": "pick defautl place --out o",
    "pace: there is no such file or folder; did you mean 'place'": "pick default pace --out o",
    "'a=2': there is a=1 before; give one": "pick default place --out o --threshold a=1 --threshold a=2",
    "device 'gpu' cannot be used": "pick default place --out o --device gpu",
    "metric 'f11' is none of": "pick default place --out o --metric f11",
    "TilingSpec has no field 'ovelrap'; did you mean 'overlap'?": "pick default place --out o tiling.ovelrap=3",
    "LocalMaxima has no field 'distance'": "pick model place --out o peaks.distance=3",
    "'tilling.overlap=3' cannot be changed of a trained model": "pick default place --out o tilling.overlap=3",
    "is not one of 'auto', 'torch'": "pick default place --out o --engine opnvino",
    "'hlaf' is not one of 'half'": "pick default place --out o --precision hlaf",
    "'1-2' is no span": "pick default place --out o --z-range 1-2",
    "pcks: there is no such file or folder": "evaluate pcks place",
    "defaul: there is no such file or folder; did you mean 'default'": "evaluate defaul place",
    "lpace: there is no such file or folder": "evaluate model lpace",
    "mdoel: there is no such file or folder; did you mean 'model'": "evaluate model place --against mdoel",
    "metric 'f12' is none of": "report model place --out r.html --metric f12",
    "picks.cvs: there is no such file or folder": "report picks.cvs place --out r.html",
    "no model folder to write thresholds into": "calibrate modl place",
    "no model 'fold9'": "calibrate model place --folds fold9",
    "plac: there is no such file or folder": "doctor plac",
    "no model 'moodel'": "doctor place moodel",
    "a.mcr: there is no such file or folder": "show a.mcr --out a.png",
    "b.csv: there is no such file or folder": "show place b.csv --out a.png",
    "picsk: there is no such file or folder": "curate picsk place --out c",
    "no model 'modle'": "curate place place --out c --model modle",
    "pikcs: there is no such file or folder": "view pikcs place",
    "no model 'mdl'": "suggest mdl place",
    "no model 'surroundngs': neither": "mask surroundngs place",
    "device 'cud' cannot be used": "mask surroundings place --device cud",
    "SpecimenSpec has no field 'copeis'; did you mean 'copies'?": "simulate s specimen.copeis=3",
    "device 'cuad' cannot be used": "simulate s --device cuad",
    "n.mrc: there is no such file; expected the density of 'a'": "simulate s --density a=n.mrc",
    "and no 'raduis=7'; did you mean 'radius'?": "simulate s --density a=place,raduis=7",
    "--shape '96,256' is not z,y,x": "simulate s --shape 96,256",
    "no model 'defult'": "demo --out d --model defult",
    "no model 'seed9'": "ensemble model seed9 out",
    "copik.json: there is no such file or folder": "soup model out --project copik.json",
    "pcks_b: there is no such file or folder": "merge place pcks_b --out agreed",
    "pickss: there is no such file or folder": "export pickss a.star --to relion5",
    "--to relion6: no such format": "export place a.star --to relion6",
    "s.star: there is no such file; expected picks": "import s.star place",
    "no format 'reliom5'": "import s.star place --from reliom5",
    "plaec: there is no such file or folder": "import s.star plaec",
    "tmograms: ": "init tmograms project --object ball:40",
    "no tomogram type 'denoisd' can be simulated": "simulate s --tomo-type denoisd",
    "b.ckpt: there is no such file or folder": "convert b.ckpt --as topcup_released m2",
    "'topcup_relaesed' is not one of 'bpd_released'": "convert place --as topcup_relaesed m2",
    "'onxn' is not one of 'onnx'": "export-model default a.onnx --to onxn",
    "nthing: there is no such file or folder": "finish nthing",
    "no model 'defalt'": "export-model defalt a.onnx --to onnx",
    "nothing: ": "status nothing",
}
TYPE = """
import json, sys
from click.testing import CliRunner
from tomopick.cli import main
HEAVY = {"torch", "scipy", "copick", "zarr", "matplotlib", "monai", "openvino", "pandas"}
for line, words in json.load(sys.stdin).items():
    done = CliRunner().invoke(main, words.split())
    if done.exit_code != 2 or line not in done.output or len(done.output.split("\\n")) > 6:
        print(words, done.output, done.exception, sep="\\n  ")
    if heavy := HEAVY & set(sys.modules):
        sys.exit(f"{words}: {heavy}")
"""


def test_a_typo_is_answered_before_anything_heavy_is_loaded(tmp_path):
    copy_of(MODELS / "ball", tmp_path / "model")
    folder(tmp_path / "place", "A")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-c", TYPE], input=json.dumps(TYPOS), **how)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_words_that_are_listed_for_a_flag_are_those_that_are_known():
    from tomopick.models.export import NETWORK_FORMATS
    from tomopick.networks.engines.base import PRECISIONS
    from tomopick.networks.engines.choose import ENGINES
    from tomopick.recipes.weights import LAYOUTS

    def listed(verb, name):
        (option,) = (p for p in main.commands[verb].params if p.name == name)
        return list(option.type.choices)

    assert listed("pick", "engine") == ["auto", *ENGINES] and listed("pick", "precision") == list(PRECISIONS)
    assert listed("export-model", "to") == list(NETWORK_FORMATS) and set(listed("convert", "kind")) == set(LAYOUTS)


BAD = (
    *("train.stpes=3", "tarin.steps=3", "train.steps=many", "steps=3", "train.schedule.facotr=1", "loss.wieght=2"),
    *(
        "augment.spatial.rotat.p=1",
        "augment.spatial=Flpi",
        "network.widths=1,a",
        "tiling.ovelrap=3",
        "views",
        "loss=Dice",
    ),
    *("patch.shape=1,2", "voxel_spacing=abc", "train.lr.x=1", "target=Ball", "name=", "objective=Semi", "peaks.x=1"),
)
GOOD = ("train.steps=3", "train.schedule=StepDecay", "augment.spatial=none", "voxel_spacing=none", "loss.unlabelled=pu",
        "augment.intensity=Noise,Blur")  # fmt: skip
SIMULATED = ("specimen.copeis=3", "specimen.copies=9", "specimen.copies.a=x", "microscope.defocus=1,2,3", "shape=1,2,3")


def answer(method, assignment):
    try:
        method([assignment])
    except TomopickError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("name", recipes.names())
def test_a_stand_in_says_of_settings_what_the_recipe_says(name):
    recipe = recipes.get(name)
    data = json.loads(json.dumps(recipe.method.to_json()))
    for text in (*BAD, *GOOD):
        assert answer(partial(settings.require_settings, name), text) == answer(recipe.override, text)
    for text in ("tiling.ovelrap=3", "peaks.window=x", "tiling.overlap=16", "tiling=Tiles"):
        assert answer(partial(settings.require_settings_of_model, data), text) == answer(recipe.method.picking, text)


def test_a_stand_in_says_of_settings_what_a_simulation_says():
    spec = SimulationSpec((64, 64, 64))
    for text in (*SIMULATED, "specimen.copies.a=3", "microscope.defocus=25000"):
        assert answer(partial(settings.require_settings, settings.SIMULATION), text) == answer(spec.override, text)


def test_a_model_of_a_newer_version_is_left_to_whoever_reads_it():
    settings.require_settings_of_model({"class": "Recipe", "tiling": {"class": "NewTiles"}}, ["tiling.ovelrap=3"])
