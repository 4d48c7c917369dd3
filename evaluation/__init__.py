"""Simulated cases with a known truth: how well each way of making 1 mm images does."""
