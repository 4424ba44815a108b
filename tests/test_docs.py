"""Pages that are made from the code are as the code is."""

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

from tomopick import recipes

ROOT = Path(__file__).parent.parent


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
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
