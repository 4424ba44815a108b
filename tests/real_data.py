"""Other people's data, for tests that use it where it is: each has a twin on data of our own."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("TOMOPICK_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data at {DATA}; set TOMOPICK_DATA")


def real(name: str) -> Path:
    """A file or folder of it; skips the test where it is not."""
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not here; TOMOPICK_DATA says where the data are")
    return DATA / name
