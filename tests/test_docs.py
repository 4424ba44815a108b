"""Pages that are made from the code are as the code is; links lead somewhere, and flags are flags."""

import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import click
import pytest

from tomopick import __all__ as PUBLIC
from tomopick import __version__, recipes
from tomopick.cli import HELP_ORDER, main
from tomopick.core.errors import ReadError

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]
OF = {
    verb: {o for p in command.params for o in [*p.opts, *p.secondary_opts]} for verb, command in main.commands.items()
}
OTHERS = {
    *("--help", "--version", "--all", "--install-browser"),  # of the program itself and of scripts/
    *("--settings", "--input_star", "--output_star", "--output_angpix", "--box", "--diameter", "--3d"),  # Warp's
    *(
        "--normalized_coords",
        "--coords_angpix",
        "--constraint",
        "--nproc-per-node",
    ),  # Warp's, a scheduler's, torchrun's
}
for script in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")]:
    OTHERS |= set(re.findall(r"""(?<=["' ])--[a-z][a-z0-9-]*""", script.read_text()))


def site():
    """The script that makes pages of the site."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(text):
    """What the headings of a page are linked by."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for heading in re.findall(r"^#+ (.+)$", plain, re.M):
        kept = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading)).strip().lower()
        yield re.sub(r"[-\s]+", "-", kept)


def test_the_settings_of_training_are_those_of_the_code():
    script = ROOT / "scripts" / "settings_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "training.md").read_text()
    for name in recipes.names():
        recipe = recipes.get(name)
        for part in (recipe.train, recipe.train.schedule, recipe.patch, recipe.target, recipe.loss, recipe.objective):
            assert is_dataclass(part)
            for f in fields(part):
                assert f"| `{f.name}` |" in page, (type(part).__name__, f.name)


def test_readme_links_every_page_and_no_other():
    text = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)\)", text))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    made = {f"{p}" for p in site().PAGES} | {f"tutorials/{p.stem}.md" for p in (ROOT / "examples").glob("*.ipynb")}
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if target in made:
            assert not anchor
            continue
        where = page.parent / target if target else page
        assert where.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in set(anchors(where.read_text())), f"{page.name}: {target}#{anchor}"


def test_every_page_is_in_the_site_s_contents_once():
    listed = re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    made = [*site().PAGES, *(f"tutorials/{p.stem}.md" for p in (ROOT / "examples").glob("*.ipynb"))]
    assert sorted(listed) == sorted([*(p.name for p in PAGES), *made])


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_flags_are_flags(page):
    text = page.read_text().replace("\\\n", " ")
    known = set().union(*OF.values()) | OTHERS
    for line in text.splitlines():
        if line.startswith(("docker ", "apptainer ", "python ", "sbatch ", "cd ", "pip ")):
            continue
        typed = re.match(r"(?:\$ )?tomopick (?:-q )?([a-z-]+)(.*)", line)
        named = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9_-]*", line.split("  #")[0]))
        allowed = OF[typed[1]] | {"--help"} if typed and typed[1] in OF else known
        assert named <= allowed, f"{page.name}: {line}: {sorted(named - allowed)}"
        assert not typed or typed[1] in {*OF, "VERB"} or line.endswith((".", ":")) or "`" in line, line


def commands_of(page):
    """The command lines of tomopick in a page's blocks of code, continued ones joined, without what a shell does."""
    for block in re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            typed = re.match(r"(?:\$ )?(tomopick (?:-q )?(?!VERB)[a-z].*)", line.strip())
            yield from filter(None, re.split(r"\s+#|;|\||>|&&", typed[1])[:1] if typed else ())


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_commands_of_pages_are_understood(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in commands_of(page):
        _, verb, *words = [word for word in shlex.split(line) if word != "-q"]
        try:
            main.commands[verb].make_context(verb, words)
        except click.exceptions.Exit:
            pass
        except (click.UsageError, ReadError) as error:  # a file that the page supposes may be missing, nothing else
            assert re.search(r"does not exist|there is no such|cannot be read", str(error)), f"{line}: {error}"


def test_the_help_lists_every_verb_once():
    listed = [verb for verbs in HELP_ORDER.values() for verb in verbs]
    assert sorted(listed) == sorted(main.commands)


def test_pages_of_the_site_that_are_made_from_the_code():
    made = site()
    commands, methods, python, settings = made.commands(), made.recipes(), made.python(), made.settings()
    for verb in main.commands:
        assert f"### tomopick {verb}\n" in commands
        assert all(flag in commands for flag in OF[verb] if flag.startswith("--"))
    assert all(f"## {name}\n" in methods for name in recipes.names()) and '"widths": [' in methods
    assert all(f"## {name}\n" in python for name in PUBLIC)
    assert "(n, 3)" in python and "TomopickError" in python
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*) \|$", settings, re.M)
    assert {"steps", "overlap", "crowding", "defocus", "keep_below"} <= {name for name, _, _ in rows}
    assert all(meaning for _, _, meaning in rows)
    assert "<object" not in settings and "object at 0x" not in settings


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_tests_that_pages_name_are_there(page):
    """What holds a promise is a file, and the tests named behind it are in it (`test_x_...`: some that begin so)."""
    where: list[Path] = []
    for name in re.findall(r"`((?:tests|benchmarks|scripts)/[\w/.-]+\.py|test_\w+(?:\.\.\.)?)`", page.read_text()):
        if "/" in name:
            where = [ROOT / name]
            assert where[0].is_file(), f"{page.name}: {name}"
        else:
            wanted = rf"^def {name[:-3]}" if name.endswith("...") else rf"^def {name}\("
            assert where and re.search(wanted, where[0].read_text(), re.M), f"{page.name}: {name}"


def test_a_notebook_is_a_page(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# A\\n", "b"]}, {"cell_type": "code", "source": ["x = 1"],'
        ' "outputs": [{"text": ["one\\n"]}, {"data": {"image/png": "QUJD", "text/plain": ["<Image>"]}}]}]}'
    )
    page = site().tutorial(path)
    assert page.startswith("# A\nb\n") and "```python\nx = 1\n```" in page and "```text\none\n```" in page
    assert 'src="data:image/png;base64,QUJD"' in page and "<Image>" not in page


def test_the_version_is_the_same_everywhere():
    for name, form in (("pyproject.toml", r'^version = "(.+)"$'), ("CITATION.cff", r"^version: (.+)$")):
        assert re.findall(form, (ROOT / name).read_text(), re.M) == [__version__], name
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == __version__


def test_the_site_is_built_and_fetches_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        fetched = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"?(https?:[^\" >]*)", page.read_text())
        assert fetched == [], page.name
