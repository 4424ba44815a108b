"""`python -m tomopick`."""

from .cli import main

main()
