"""Files of others are read in one place, which knows pipes, sizes, encodings and depths."""

import re
from pathlib import Path

import tomopick

SOURCE = Path(tomopick.__file__).parent
READS = re.compile(r"\.read_text\(|\.read_bytes\(|json\.loads?\(")
# What is read there is our own (package files, the kernel's, what this process wrote a moment ago or would write), or
# in pieces.
OWN = {
    "core/reading.py", "core/owners.py", "picking/memory.py", "picking/fleet.py", "look/page/page.py",
    "look/curation/server.py", "networks/engines/cache.py", "models/export.py", "cli/schedulers.py",
    "data/formats/imod.py", "data/formats/motl.py", "data/formats/base.py", "data/volumes/zarr3.py",
    "picking/output.py", "simulation/projects.py", "recipes/as_published.py", "core/crowding.py",
    "training/ranks.py", "cli/settings.py", "data/tables.py",
}  # fmt: skip


def test_nobody_else_reads_whole_files():
    found = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if READS.search(p.read_text())}
    assert found == OWN
