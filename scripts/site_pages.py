"""Pages of the site that are made from the code while it is built: command line, recipes, Python, tutorials.

mkdocs calls `on_files` and `on_page_markdown` (`hooks` in mkdocs.yml); scripts/docs runs it.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
PAGES = {f"reference/{what}.md": what for what in ("commands", "recipes", "settings", "python")}


def commands() -> str:
    """Every verb with its help, which has its options, their defaults and examples."""
    from tomopick.cli import HELP_ORDER, main

    lines = ["# The command line", "", f"```\n{_help(main, 'tomopick')}\n```"]
    for heading, verbs in HELP_ORDER.items():
        lines += ["", f"## {heading}"]
        for verb in verbs:
            lines += ["", f"### tomopick {verb}", "", f"```\n{_help(main.commands[verb], f'tomopick {verb}')}\n```"]
    return "\n".join(lines)


def _help(command: click.Command, name: str) -> str:
    with click.Context(command, info_name=name, terminal_width=110, max_content_width=110) as context:
        return command.get_help(context)


def recipes() -> str:
    """Every recipe with its source, what it is good for, and its values."""
    from tomopick.recipes import get, names
    from tomopick.recipes.catalogue import ENTRIES

    lines = [
        "# The recipes",
        "",
        "Every field can be set, as `section.field=value` ([settings](../training.md#settings)).",
    ]
    for name in names():
        recipe = get(name)
        lines += ["", f"## {name}", "", f"{ENTRIES[name].good_for[:1].upper()}{ENTRIES[name].good_for[1:]}.", ""]
        lines += [f"Source: {recipe.source}", "", "```json", json.dumps(recipe.to_json(), indent=1), "```"]
    return "\n".join(lines)


def settings() -> str:
    """Every setting of training, picking and simulation, with its default and what it does."""
    from tomopick.core.types import PickableObject
    from tomopick.picking import exclusion, normalize, peaks, tiling
    from tomopick.picking.options import PickOptions
    from tomopick.picking.places import Places
    from tomopick.simulation import MicroscopeSpec, RestorationSpec, SimulationSpec, SpecimenSpec

    spec = importlib.util.spec_from_file_location("settings_table", ROOT / "scripts" / "settings_table.py")
    assert spec is not None and spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    parts = {
        "Training: `train ... section.field=value`": table.SECTIONS,
        "Picking: `pick ... section.field=value`": (
            ("tiling", tiling.TilingSpec, tiling.LargestTiles),
            ("peaks", peaks.LocalMaxima),
            ("normalization", normalize.RobustNormalization, normalize.ZScore, normalize.FixedLimits),
            ("exclusion", exclusion.Exclusion),
        ),
        "Simulation: `simulate ... section.field=value`": (
            ("", SimulationSpec), ("specimen", SpecimenSpec), ("microscope", MicroscopeSpec),
            ("restoration", RestorationSpec),
        ),
        "In Python: arguments": (("PickOptions", PickOptions), ("Places", Places), ("PickableObject", PickableObject)),
    }  # fmt: skip
    lines = [
        "# Settings",
        "",
        "Names, defaults and meanings, from the code; a recipe may set others ([recipes](recipes.md)).",
    ]
    for heading, sections in parts.items():
        lines += ["", f"## {heading}", table.tables(sections)]
    return "\n".join(lines)


def python() -> str:
    """Every public name with its signature and what its docstring says."""
    import tomopick

    lines = ["# Python", "", f"```text\n{inspect.getdoc(tomopick)}\n```"]
    for name in sorted(tomopick.__all__, key=lambda n: (n[0].isupper(), n.lower())):
        value = getattr(tomopick, name)
        lines += ["", f"## {name}", "", *_described(value, name)]
        if inspect.isclass(value) and not issubclass(value, Exception):
            for member, what in _members(value):
                lines += ["", f"### {name}.{member}", "", *_described(what, member)]
    return "\n".join(lines)


def _members(kind: type) -> list[tuple[str, Any]]:
    """Public methods and properties that have a docstring, in the order of the source."""
    members = [(n, v) for n, v in vars(kind).items() if not n.startswith("_") and inspect.getdoc(_plain(v))]
    return [(n, v) for n, v in members if inspect.isfunction(_plain(v)) or isinstance(v, property)]


def _plain(value: Any) -> Any:
    return getattr(value, "__func__", value)


def _described(value: Any, name: str) -> list[str]:
    text = inspect.getdoc(_plain(value)) or ""
    try:
        shown = "" if isinstance(value, property) else str(inspect.signature(_plain(value)))
    except ValueError:
        shown = ""
    lines = [f"```python\n{name}{shown}\n```", ""] if shown else []
    first, _, rest = text.partition("\n\n")
    return [*lines, first, *(["", f"```text\n{rest}\n```"] if rest else [])]


def tutorial(path: Path) -> str:
    """A notebook as a page: its text, its code, what the code prints and shows."""
    lines: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        lines += [source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```", ""]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).strip()
                lines += [f'<img alt="what the code above shows" src="data:image/png;base64,{picture}">', ""]
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                lines += [f"```text\n{text.rstrip()}\n```", ""]
    return "\n".join(lines)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    made = {where: globals()[what]() for where, what in PAGES.items()}
    made |= {f"tutorials/{p.stem}.md": tutorial(p) for p in sorted((ROOT / "examples").glob("*.ipynb"))}
    for where, text in made.items():
        files.append(File.generated(config, where, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave docs/ in the repository: a notebook is a tutorial here, anything else its path.

    A picture that has a dark one beside it (NAME.jpg, NAME-dark.jpg) is shown in the colours of the page.
    """
    markdown = re.sub(r"\]\(\.\./examples/(\w+)\.ipynb\)", r"](tutorials/\1.md)", markdown)
    markdown = re.sub(r"!\[([^\]]*)\]\((\w+)\.jpg\)", _in_both_colours, markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./(?!training|tutorials)[^)]*\)", r"\1", markdown)


def _in_both_colours(found: re.Match[str]) -> str:
    text, name = found[1], found[2]
    if not (ROOT / "docs" / f"{name}-dark.jpg").is_file():
        return found[0]
    return f"![{text}]({name}.jpg#only-light)![{text}]({name}-dark.jpg#only-dark)"
