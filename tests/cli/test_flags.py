"""Fields in messages of the library are flags in those of the command line."""

import ast
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import tomopick
from tomopick.cli import main
from tomopick.cli.flags import FIELD, FLAGS, OF_VERB, with_flags

ROOT = Path(tomopick.__file__).parent
LIBRARY = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] != "cli"]
ROOMS = sorted({p.relative_to(ROOT).parts[0] for p in LIBRARY if p.parent != ROOT})
OF = {verb: {o for p in command.params for o in p.opts} for verb, command in main.commands.items()}
ALL = {flag for flags in OF.values() for flag in flags if flag.startswith("--")}


def texts(path, docstrings=True):
    """Every string of a file; of f-strings what stands between the values."""
    tree = ast.parse(path.read_text())
    parts = {n: "…".join(map(_text, n.values)) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)}
    found = {n: _text(n) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    within = {part for n in parts for part in n.values}
    if not docstrings:
        within |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return [text for n, text in {**parts, **found}.items() if text and n not in within]


def _text(node):
    value = getattr(node, "value", "")
    return value if isinstance(value, str) else ""


def test_flags_stand_for_fields():
    assert with_flags("say which with `tomo_type`: wbp@10", "pick") == "say which with --tomo-type: wbp@10"
    assert with_flags("`objects=ribosome`: no such", "pick") == "--object ribosome: no such"
    assert with_flags("name others with `picks`", "calibrate") == "name others with --truth"
    assert with_flags("give `runs`", "soup") == "give --project and --val-runs"
    assert with_flags("a `strange` word and `detector.json`", "pick") == "a `strange` word and `detector.json`"


def test_every_flag_of_the_table_exists():
    for flag in FLAGS.values():
        assert flag in ALL, flag
    for verb, table in OF_VERB.items():
        for text in table.values():
            assert set(re.findall(r"--[a-z-]+", text)) <= OF[verb], (verb, text)


@pytest.fixture(scope="module")
def fields():
    """Every field and argument of the library."""
    names = set()
    for path in LIBRARY:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names


def test_every_field_of_the_table_is_one(fields):
    assert {name.split(".")[-1] for name in set(FLAGS).union(*OF_VERB.values())} <= fields


@pytest.mark.parametrize("room", ROOMS)
def test_the_library_names_no_flags(room):
    for path in LIBRARY:
        if path.relative_to(ROOT).parts[0] == room:
            for text in texts(path):
                named = {flag for flag in re.findall(r"--[a-z][a-z-]*\b(?!_)", text) if flag in ALL}
                assert not named, f"{path}: '{text}' names {', '.join(named)}; write the field in backticks"


def test_what_texts_call_a_field_is_one(fields):
    for path in LIBRARY:
        for text in texts(path, docstrings=False):
            for field in FIELD.finditer(text):
                assert field[1].split(".")[-1] in fields, f"{path}: `{field[1]}` is no field"


def test_a_field_of_a_verb_that_is_named_before_it_is_that_verb_s_flag():
    with click.Context(main) as root, click.Context(main.commands["doctor"], parent=root, info_name="doctor"):
        assert with_flags("import them with `pixel_size` (in Å)") == "import them with --tilt-series-pixel-size (in Å)"
        assert with_flags("pick `min_distances=a=10`, or not") == "pick --min-distance a=10, or not"
        assert with_flags("nothing has `min_distances=a=10`") == "nothing has `min_distances=a=10`"


def test_flags_of_each_context(tmp_path):
    context = click.Context(main.commands["calibrate"], info_name="calibrate")
    with context:
        assert with_flags("name them with `picks=OBJECT:USER/SESSION`") == "name them with --truth OBJECT:USER/SESSION"
    assert with_flags("name them with `picks`") == "name them with --picks"


def test_a_flag_that_the_verb_does_not_have_is_not_advised():
    for verb, command in main.commands.items():
        with click.Context(main) as root, click.Context(command, parent=root, info_name=verb):
            for field in FLAGS:
                named = re.findall(r"--[a-z-]+", with_flags(f"say it with `{field}=x`", verb))
                assert set(named) <= OF[verb], (verb, field)


SHARED = {"options.py", "early.py", "flags.py", "grounds.py", "on.py", "outputs.py", "places.py", "schedulers.py",
          "relion_external.py", "copick_plugin.py", "__init__.py"}  # fmt: skip


@pytest.mark.parametrize("path", sorted(p for p in (ROOT / "cli").glob("*.py") if p.name not in SHARED), ids=str)
def test_flags_that_a_verb_s_own_texts_name_are_its(path):
    verbs = set(re.findall(r'click\.command\("([a-z-]+)"', path.read_text())) & set(OF)
    verbs = verbs or {path.stem.partition("_")[0]} & set(OF)  # a verb's second file has its name in front
    mine = set().union(*(OF[verb] for verb in verbs))
    for text in texts(path, docstrings=False):
        for found in () if text.startswith("--") else re.finditer(r"--[a-z][a-z-]*\b", text):  # or it declares one
            before = text[: found.start()]
            others = [verb for verb in OF if re.search(rf"\b{verb}\b", before) and found[0] in OF[verb]]
            assert found[0] in mine or others or found[0] == "--help", f"'{text}' names {found[0]}"


EVERY_OPTION = [(verb, p) for verb, command in main.commands.items() for p in command.params if "--" in p.opts[0]]


def test_options_explain_themselves():
    """Each can be read without the flag's name before it: no riddles such as 'Of the phantom.', 'It computes in.'"""
    for verb, option in EVERY_OPTION:
        text = option.help or ""
        where = f"{verb} {option.opts[0]}: {text}"
        assert text.endswith(".") and len(text.split()) >= 4, where
        assert re.match(r"[A-Z]|[a-z0-9=]+:", text), where
        assert not re.match(r"(Of|On|Whose|It|Its|Their|That|Where an?) ", text), where


def test_defaults_are_shown():
    for verb, option in EVERY_OPTION:
        stated = isinstance(option.default, int | float | str) and option.default != "" and not option.is_flag
        assert not stated or option.show_default or "Default" in option.help, f"{verb} {option.opts[0]}"


@pytest.mark.parametrize("words, parts", [
    ("pick default x --min-dist 3", ["'--min-dist'", "did you mean '--min-distance'?", "tomopick pick --help"]),
    ("pick", ["missing argument", "tomopick pick --help"]),
    ("pick default x --out", ["'--out' requires an argument"]),
    ("train light a b --minutes soon", ["'--minutes'", "'soon' is no number", "tomopick train --help"]),
    ("train light a b --patience 1.5", ["'--patience'", "'1.5' is no whole number"]),
    ("train light a b --minutes -3", ["'--minutes'", "-3.0 is not in the range 0<x<=525600"]),
    ("view a b --with nothing", ["'--with'", "'nothing'", "neuroglancer", "tomopick view --help"]),
    ("export a --out b", ["'--out'; did you mean one of: '--object', '--to'", "(see `tomopick export --help`)"]),
    ("pikc", ["'pikc'", "did you mean 'pick'?", "tomopick --help"]),
    ("--nothing", ["'--nothing'", "tomopick --help"]),
])  # fmt: skip
def test_wrong_use_is_one_line(words, parts):
    done = CliRunner().invoke(main, words.split(), prog_name="tomopick")
    assert done.exit_code == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(part in line for part in parts), line


def test_nothing_at_all_is_answered_with_the_help():
    done = CliRunner().invoke(main, [])
    assert done.exit_code in (0, 2) and "Start here" in done.output and "error" not in done.output
