"""What every test needs of the process that runs it, and which tests a run leaves out."""

import signal

import hypothesis
import pytest

from telling import heard
from tomopick.core import crowding

crowding.CROWDED = 2.0  # how crowded the machine of the tests is decides nothing

pytest_plugins = ["pytester"]

# How long an example takes is the machine's matter, and of what else runs there.
hypothesis.settings.register_profile("tomopick", deadline=None)
hypothesis.settings.load_profile("tomopick")

# A shell starts its background jobs with Ctrl-C ignored, and children inherit that; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # `nohup` ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    """Slow tests run with --all, where -m speaks of them, and where they are named one by one."""
    if config.getoption("--all") or "slow" in config.getoption("-m") or any("::" in a for a in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture
def told():
    """The lines that the library tells during the test."""
    with heard() as lines:
        yield lines
