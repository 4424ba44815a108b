"""Parts of a plan in processes, by stand-ins for the trainings."""

import os
import signal
import sys
import threading
import time

import pytest

from tomopick.core.errors import TomopickError
from tomopick.core.signals import Terminated, ending_cleanly
from tomopick.recipes.side_by_side import DEATHS, train_parts


def by(code, place):
    """The command of a part: `code`, which knows its number as `part`, its device, and a `note` to append to."""
    start = "import os, sys, time, pathlib; part, device, place = int(sys.argv[1]), *sys.argv[2:]\n"
    start += "note = lambda text: pathlib.Path(place, f'{part}.txt').open('a').write(f'{text}\\n')\n"
    return lambda part, device: [sys.executable, "-c", start + code, str(part), device, str(place)]


def notes(place):
    return {int(path.stem): path.read_text().split() for path in place.glob("*.txt")}


def test_each_device_has_one_part_at_a_time(tmp_path):
    # A part holds its device, which is a folder that cannot be made twice, and waits until the other device is held.
    code = """
held = pathlib.Path(place, device)
held.mkdir()
other = pathlib.Path(place, {'cuda:0': 'cuda:1', 'cuda:1': 'cuda:0'}[device])
if part <= 2:
    while not other.exists(): time.sleep(0.01)
    pathlib.Path(place, f'{part}.met').touch()
    while not pathlib.Path(place, f'{3 - part}.met').exists(): time.sleep(0.01)
held.rmdir(); note(device)
"""
    train_parts([1, 2, 3], ["cuda:0", "cuda:1"], by(code, tmp_path))
    found = notes(tmp_path)
    assert sorted(found) == [1, 2, 3] and found[1] != found[2]


def test_one_that_dies_is_begun_again(tmp_path, told):
    code = "note(os.getpid())\nif part == 2 and len(open(f'{place}/2.txt').readlines()) < 2: os.kill(os.getpid(), 9)"
    train_parts([1, 2], ["cpu"], by(code, tmp_path))
    assert {part: len(lines) for part, lines in notes(tmp_path).items()} == {1: 1, 2: 2}
    assert told == ["warning: part 2: its process ended (killed by SIGKILL); it goes on with what it has kept"]


def test_one_that_dies_again_and_again_ends_all(tmp_path):
    with pytest.raises(TomopickError, match=rf"part 1: its process ended {DEATHS} times \(killed by SIGKILL\)"):
        train_parts([1], ["cpu"], by("note(1); os.kill(os.getpid(), 9)", tmp_path))
    assert len(notes(tmp_path)[1]) == DEATHS


def test_one_that_refuses_ends_all_with_its_line(tmp_path, told):
    code = """
if part == 1:
    while not pathlib.Path(place, '2.txt').exists(): time.sleep(0.01)
    print('half way', file=sys.stderr)
    print('error: a.mrc: not an MRC file', file=sys.stderr); sys.exit(2)
import signal
signal.signal(signal.SIGTERM, lambda *_: (note('saved'), sys.exit(143)))
note('began'); time.sleep(60)
"""
    with pytest.raises(TomopickError, match=r"^part 1: a.mrc: not an MRC file$"):
        train_parts([1, 2], ["cpu", "cpu"], by(code, tmp_path))
    assert notes(tmp_path)[2] == ["began", "saved"]
    assert "part 1: half way" in told


def test_who_asks_to_end_asks_the_parts_too(tmp_path):
    code = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (note('saved'), sys.exit(143)))
note('began'); time.sleep(60)
"""

    def ask():
        while not notes(tmp_path):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    with ending_cleanly(), pytest.raises(Terminated):
        train_parts([1], ["cpu"], by(code, tmp_path))
    assert notes(tmp_path)[1] == ["began", "saved"]
