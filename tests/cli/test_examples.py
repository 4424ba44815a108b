"""What the help of every verb prints as an example is understood as it is printed."""

import inspect
import re
import shlex

import click
import pytest

from tomopick.cli import main


def examples(name):
    """The command lines of a verb's help, continued ones joined."""
    text = inspect.cleandoc(main.commands[name].help or "").replace("\\\n", " ")
    return [line.strip() for line in re.findall(rf"(?:^|\s)(tomopick {name}(?: .*)?)$", text, re.M)]


@pytest.mark.parametrize("name", sorted(main.commands))
def test_examples_are_understood(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples(name)
    assert found
    for line in found:
        command, args = main.commands[name], shlex.split(re.split(r"[;>|]", line)[0])[2:]
        try:
            command.make_context(name, args)
        except click.exceptions.Exit:
            pass
        except click.UsageError as error:  # a file that the example only supposes may be missing, nothing else
            assert "does not exist" in str(error), f"{line}: {error}"


def test_methods_and_recipes_are_one_list():
    from click.testing import CliRunner

    from tomopick import recipes
    from tomopick.recipes.plans import METHODS

    for name in sorted({*recipes.names(), *METHODS}):
        done = CliRunner().invoke(main, ["recipes", name])
        assert done.exit_code == 0 and name in done.output
    told = CliRunner().invoke(main, ["recipes", "soup"]).output
    assert "soup_tiny, soup_medium" in told.replace("soup_large, soup_medium, soup_tiny", "soup_tiny, soup_medium")
    assert "--as-published" in told
