"""How messages say things."""

import logging

from tomopick.core.messages import SHOWN, counted, listing, near_miss, untold


def test_what_was_probably_meant():
    assert near_miss("bdp", ["bpd", "light"]) == "did you mean 'bpd'?"
    assert near_miss("TS_3", ["TS_1", "TS_2", "x"]) == "did you mean 'TS_2' or 'TS_1'?"
    assert near_miss("defocs", ["defocus", "defocus_error", "dose"]) == "did you mean 'defocus'?"
    assert near_miss("colour", ["b", "a", "a"]) == "there is a, b"
    assert near_miss("colour", []) == "there is none"


def test_lists_are_cut_where_nobody_reads_on():
    assert listing(range(SHOWN)) == ", ".join(map(str, range(SHOWN)))
    assert listing(range(SHOWN + 3)).endswith(f"{SHOWN - 1} and 3 more")


def test_numbers_of_things():
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_what_is_told_of_trials_is_not(told):
    log = logging.getLogger("tomopick")
    log.info("one")
    with untold():
        log.warning("two")
        with untold():
            log.info("three")
        log.info("four")
    log.warning("five")
    assert told == ["one", "warning: five"]
