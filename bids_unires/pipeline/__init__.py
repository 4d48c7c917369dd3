"""The story of one run, top to bottom."""
