"""Picks looked at and corrected by a person in a browser."""
