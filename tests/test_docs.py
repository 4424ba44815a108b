"""Pages that are made from the code are as the code is."""

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
