"""Minimising the objective over images, poses and the weights of repeats."""
