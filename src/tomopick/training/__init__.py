"""Picks -> target heatmap -> patches -> weights: the mirror of picking."""
