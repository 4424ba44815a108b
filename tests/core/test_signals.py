"""Being asked to end."""

import os
import signal

import pytest

from tomopick.core.signals import ASKING, Terminated, ending_cleanly, held_interrupt


@pytest.mark.parametrize("number", ASKING)
def test_who_is_asked_to_end_cleans_up_once(number):
    before = signal.getsignal(number)
    cleaned = []
    with pytest.raises(Terminated), ending_cleanly():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # asked again while cleaning up
            cleaned.append(True)
    assert cleaned and signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with ending_cleanly(), held_interrupt() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert asked() is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, *ASKING])
def test_a_step_is_finished_first(number):
    with ending_cleanly():
        before = signal.getsignal(number)
        with held_interrupt() as asked:
            os.kill(os.getpid(), number)
            assert asked() is (KeyboardInterrupt if number == signal.SIGINT else Terminated)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before
