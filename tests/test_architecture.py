"""What keeps the house in shape: floors, sizes, public names, and the command line's flags."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import tomopick
from tomopick.cli import main

ROOT = Path(tomopick.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A room imports only from rooms further left; rooms between the same two signs do not import one another.
FLOORS = "core < data, networks < scoring, simulation < picking < training, look < models < recipes < cli"
FLOOR = {room: i for i, rooms in enumerate(FLOORS.split(" < ")) for room in rooms.split(", ")}
LONG_FILES: set[str] = set()  # more than 400 lines
LONG_FUNCTIONS: set[str] = set()  # more than 60 lines


def dotted(path: Path) -> str:
    """Below `tomopick`; a package is its __init__."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {dotted(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere in it, for type checking too, dotted below `tomopick`."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("tomopick").lstrip(".") for a in node.names if a.name.startswith("tomopick")}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = list(package[: len(package) - node.level + 1])
            elif (node.module or "").split(".")[0] == "tomopick":
                base = []
            else:
                continue
            base += [p for p in (node.module or "").split(".") if p and p != "tomopick"]
            below = [".".join([*base, a.name]) for a in node.names]
            found |= {name if name in MODULES else ".".join(base) for name in below}
    return found


def test_rooms():
    assert {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(FLOOR)
    assert len([p for p in ROOT.iterdir() if p.name != "__pycache__"]) <= 14


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_point_down(path):
    room = dotted(path).split(".")[0]
    for name in imports(path):
        other = name.split(".")[0]
        if room in FLOOR and other and other != room:
            assert FLOOR[other] < FLOOR[room], f"{dotted(path)} imports {name}"


def test_no_module_imports_itself_by_way_of_others():
    # A package's __init__ names the modules in it, and they import one another without it.
    graph = {name: {n for n in imports(path) if n} for name, path in MODULES.items() if name}
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path):
    text = path.read_text()
    name = str(path.relative_to(ROOT))
    assert len(text.splitlines()) <= 400 or name in LONG_FILES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60 or f"{name}:{node.name}" in LONG_FUNCTIONS, f"{node.name} has {length} lines"
            if name.startswith("recipes/"):
                assert length <= 45, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_printed_or_pickled_and_no_seed_is_global(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name != "print"
            assert name not in ("torch.save", "torch.load", "pickle.load", "pickle.dump", "np.random.seed")
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "a bare except"


@pytest.mark.parametrize("path", [p for p in FILES if "cli" not in p.parts], ids=dotted)
def test_what_is_told_goes_to_the_log(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getLogger", "logging.getLogger"):
            assert ast.unparse(node.args[0]) == "'tomopick'"
        if isinstance(node, ast.AnnAssign):
            assert ast.unparse(node.target) != "say", "a second channel"
        if isinstance(node, ast.arg):
            assert node.arg != "say", "a second channel"


@pytest.mark.parametrize(
    "path", [p for p in FILES if "__all__" in p.read_text()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_public_names(path):
    dotted = ".".join(["tomopick", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    module = importlib.import_module(dotted)
    # As ruff sorts: constants, then classes, then the rest.
    ordered = sorted(module.__all__, key=lambda n: (2 if n[0].islower() else 1 - n.isupper(), n))
    assert list(module.__all__) == ordered
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


SHARED = {"log"}  # every module's logger, which it does not hand on


def test_public_names_are_defined_once():
    """So that a name that is searched for is found: what only one module needs begins with an underscore."""
    homes: dict[str, list[str]] = {}
    for path in FILES[1:]:  # the first is the face, which calls its functions as the rooms do
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names = [t.id for t in targets if isinstance(t, ast.Name)]
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            for name in names:
                homes.setdefault(name, []).append(dotted(path))
    twice = {name: where for name, where in homes.items() if len(set(where)) > 1 and not name.startswith("_")}
    assert {name: where for name, where in twice.items() if name not in SHARED} == {}


def test_unknown_public_name():
    assert set(tomopick._HOMES) <= set(tomopick.__all__) and set(tomopick.__all__) <= set(dir(tomopick))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = tomopick.nothing


TYPED = "from tomopick.cli import main\nmain({})"


@pytest.mark.parametrize(
    ("how", "exit_code", "light"),
    [
        ("import tomopick", 0, ()),
        (TYPED.format(["--help"]), 0, ()),
        (TYPED.format(["trian", "light"]), 2, ()),  # a typo is answered at once
        (TYPED.format(["train", "light", "t/", "m/", "--step", "5"]), 2, ()),
        (TYPED.format(["pick", "defualt", "t/", "--out", "o/"]), 2, ("numpy",)),
    ],
)
def test_light_imports(how, exit_code, light):
    code = f"""
import sys
try:
    exec({how!r})
except SystemExit as end:
    assert (end.code or 0) == {exit_code}
heavy = {{"torch", "numpy", "scipy", "copick", "zarr", "matplotlib", "mrcfile"}} & set(sys.modules) - set({light})
sys.exit(f"imported {{sorted(heavy)}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_sources_cite_is_in_the_repository():
    cited = set()
    for path in FILES:
        text = path.read_text()
        assert not re.search(r"(?<!docs/)\b(methods|design|conventions)\.md", text), path
        cited |= set(re.findall(r"docs/(\w+\.md),?\s+section (\d+)", text))
    assert cited
    for name, section in cited:
        page = ROOT.parents[1] / "docs" / name
        assert re.search(rf"^## {section}\. ", page.read_text(), re.M), f"{name} section {section}"


@pytest.mark.parametrize(("module", "most"), [("picking.picker", 52), ("picking.load", 58)])
def test_nothing_that_picks_imports_how_anything_was_taught(module, most):
    code = f"import sys, tomopick.{module}; print(*(m for m in sys.modules if m.split('.')[0] == 'tomopick'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name.split(".") for name in done.stdout.split()]
    assert len(loaded) <= most
    assert not {"training", "look", "recipes", "models", "simulation"} & {name[1] for name in loaded if name[1:]}


def test_evaluation_needs_no_torch():
    code = "import sys, tomopick.scoring.compare, tomopick.scoring.scores; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LABELLED = ["--labelled-in", "--region"]
PROJECT = ["--coordinate-offset", "--object", "--voxel-spacing"]
FOREIGN = ["--index-map", "--names", "--pixel-size", "--tilt-series-pixel-size", "--tomograms-star"]
FLAGS = {
    "calibrate": [
        *["--device", "--dry-run", "--folds", "--json", "--map-scores", "--metric", "--runs", "--smooth"],
        *["--tomo-type", "--truth", "--tta", "--undo", *LABELLED, *PROJECT],
    ],
    "convert": ["--as", "--member", "--object"],
    "curate": [
        *[
            "--as",
            "--decided",
            "--device",
            "--light",
            "--metric",
            "--model",
            "--no-browser",
            "--out",
            "--picks",
            "--port",
            "--runs",
        ],
        *["--session-id", "--shard", "--threshold", "--tomo-type", "--truth", "--user-id", *PROJECT],
    ],
    "demo": ["--device", "--model", "--out", "--seed", "--shape"],
    "doctor": [
        "--all-labelled",
        "--examine",
        "--json",
        "--picks",
        "--pictures",
        "--runs",
        "--tomo-type",
        *LABELLED,
        *PROJECT,
    ],
    "ensemble": [
        *["--align", "--device", "--mean", "--metric", "--per-object", "--project", "--tomo-type", "--truth"],
        *["--tta", "--val-runs", "--weights", *LABELLED, *PROJECT],
    ],
    "evaluate": [
        *["--on", "--dry-run", "--shard"],
        *["--against", "--as", "--beta", "--device", "--distance-multiplier", "--drop-outside", "--exclude", "--json"],
        *[
            "--metric",
            "--objects",
            "--picks",
            "--report",
            "--runs",
            "--tomo-type",
            "--truth",
            "--tta",
            *FOREIGN,
            *LABELLED,
            *PROJECT,
        ],
    ],
    "export": [
        *[
            "--at-thresholds",
            "--coords-angpix",
            "--dynamo-origin",
            "--min-score",
            "--names",
            "--objects",
            "--overwrite",
            "--picks",
        ],
        *["--runs", "--session-id", "--star-layout", "--tilt-range", "--tilt-series-pixel-size", "--to", "--together"],
        *["--tomo-type", "--tomograms", "--tomograms-star", "--user-id", *PROJECT],
    ],
    "export-model": ["--bound", "--overwrite", "--to"],
    "import": [
        *["--as", "--drop-outside", "--dynamo-origin", "--from", "--index-map", "--names", "--overwrite"],
        *["--pixel-size", "--session-id", "--tilt-series-pixel-size", "--tomo-type", "--tomograms-star", "--user-id"],
        *PROJECT,
    ],
    "finish": [],
    "mask": [
        *["--device", "--objects", "--out", "--overwrite", "--runs", "--session-id", "--threshold", "--tomo-type"],
        *["--user-id", *PROJECT],
    ],
    "merge": [
        "--agree",
        "--coordinate-offset",
        "--object",
        "--objects",
        "--out",
        "--overwrite",
        "--picks",
        "--runs",
        "--within",
    ],
    "init": ["--keep-names", "--object", "--portal", "--preset", "--tomo-type", "--voxel-spacing"],
    "pick": [
        *["--exclude"],
        *["--on", "--dry-run"],
        *["--device", "--engine", "--invert", "--keep-below", "--metric", "--min-distance", "--offset"],
        *["--out", "--overwrite", "--precision", "--runs", "--save-heatmaps", "--session-id", "--shard"],
        *["--threshold", "--tomo-type", "--tta", "--user-id", "--workers", *PROJECT],
        *["--beyond", "--border", "--clean", "--inside", "--orient-to", "--outside", "--within", "--z-range"],
    ],
    "recipes": [],
    "soup": [
        *["--device", "--metric", "--norm", "--project", "--tomo-type", "--truth", "--tta", "--val-runs"],
        *["--weights", *LABELLED, *PROJECT],
    ],
    "report": [
        *["--as", "--device", "--embed", "--metric", "--objects", "--out", "--picks", "--runs", "--threshold"],
        *["--title", "--tomo-type", "--truth", "--tta", *FOREIGN, *LABELLED, *PROJECT],
    ],
    "suggest": ["--decided", "--device", "--json", "--metric", "--number", "--out", "--runs", "--tomo-type", *PROJECT],
    "status": ["--failed", "--watch"],
    "show": ["--at", "--min-score", "--out", "--picks", "--run", "--thickness", "--tomo-type", "--truth", *PROJECT],
    "simulate": [
        *["--on", "--dry-run"],
        *["--density", "--device", "--halves", "--positions", "--preset", "--runs", "--seed", "--shape", "--shard"],
        *["--templates", "--tomo-type", "--vary", "--workers"],
    ],
    "view": [
        *["--device", "--no-browser", "--picks", "--port", "--run", "--threshold", "--tomo-type", "--with", *PROJECT],
    ],
    "train": [
        *["--add", "--all-labelled", "--from-map", "--like", "--like-tomo-type", "--negatives", "--on", "--shard"],
        *["--as-published", "--device", "--drop-outside", "--dry-run", "--folds", "--init-from", "--invert"],
        *["--minutes", "--objects", "--patience", "--picks", "--pretrain", "--pretrain-picks", "--pretrain-tomo-type"],
        *["--pretrain-val-runs", "--pretrained-weights", "--resume", "--seed", "--seeds", "--subset", "--tomo-type"],
        *["--train-runs", "--unlabelled", "--unlabelled-runs", "--unlabelled-tomo-type", "--val-runs"],
        *["--workers", *LABELLED, *PROJECT],
    ],
}


def test_flags_are_pinned():
    found = {
        name: sorted(o for p in command.params if isinstance(p, click.Option) for o in p.opts)
        for name, command in main.commands.items()
    }
    assert found == {name: sorted(flags) for name, flags in FLAGS.items()}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_every_verb_has_help_with_an_example(name):
    command = main.commands[name]
    text = inspect.cleandoc(command.help or "")
    assert "Example" in text and f"tomopick {name}" in text
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
