"""A unit of work: what became of it, and who is told how far it is."""
