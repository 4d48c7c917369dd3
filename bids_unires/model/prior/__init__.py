"""The prior of the images.

- `total_variation`: joint total variation, and its quadratic bound.
- `weight`: the weight of the prior (lambda) from settings, contrast and noise.
"""
