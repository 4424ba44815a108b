"""How good picks are, and where to cut them."""
