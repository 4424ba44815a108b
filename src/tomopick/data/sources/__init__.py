"""Where tomograms and picks lie."""
