"""One self-contained page about picks: to look at, to set thresholds with, and to send by e-mail."""

from .page import write_report
from .tables import Report

__all__ = ["Report", "write_report"]
