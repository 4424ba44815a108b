"""What becomes of trained models: several as one, thresholds of your own, other programs' formats."""
