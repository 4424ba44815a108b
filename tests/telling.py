"""What the library tells, heard as the command line shows it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Ear(logging.Handler):
    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self.hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        self.hear(f"{level}{record.getMessage()}")


@contextmanager
def _listening(hear: Callable[[str], None]) -> Iterator[None]:
    log, ear = logging.getLogger("tomopick"), _Ear(hear)
    before = log.level
    log.addHandler(ear)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(ear)
        log.setLevel(before)


@contextmanager
def heard() -> Iterator[list[str]]:
    """The lines told meanwhile, warnings marked as such."""
    lines: list[str] = []
    with _listening(lines.append):
        yield lines


@contextmanager
def interrupted_at(start: str) -> Iterator[None]:
    """Ctrl-C is pressed as soon as a line is told that begins so."""

    def hear(line: str) -> None:
        if line.startswith(start):
            raise KeyboardInterrupt

    with _listening(hear):
        yield
