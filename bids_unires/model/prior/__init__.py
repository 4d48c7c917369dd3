"""The prior: joint total variation and its weight."""
