"""Tomogram -> heatmap -> picks."""
