"""What contributors and their tools rely on: the scripts, the tests' own manners, the pages at the top."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = sorted(Path(__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_do_not_import_tests(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(a.name for a in node.names)]
            tests = [name for name in names if any(part.startswith("test_") for part in name.split("."))]
            assert not tests, f"{path.name} imports {tests[0]}; what tests share is in a module of its own"


def test_a_commit_is_checked_as_by_hand():
    checks = re.findall(r"^\.venv/bin/.*$", (ROOT / "scripts" / "check").read_text(), re.M)
    hooks = re.findall(r"entry: (.*)}", (ROOT / ".pre-commit-config.yaml").read_text())
    assert len(checks) == 3 and hooks == checks


def test_slow_tests_run_where_they_are_asked_for(pytester):
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.slow\ndef test_slow(): pass\ndef test_quick(): pass")
    for arguments, passed, left_out in [
        ([], 1, 1), (["--all"], 2, 0), (["-m", "slow"], 1, 1), (["test_it.py::test_slow"], 1, 0)]:  # fmt: skip
        pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=passed, deselected=left_out)


def test_the_citation_is_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_contributing_is_one_screen_and_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= 50
    for name in re.findall(r"`?((?:scripts|tests|src|\.ci)/[\w./]+)", text):
        assert (ROOT / name).exists(), name
