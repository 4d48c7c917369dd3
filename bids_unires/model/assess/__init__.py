"""How well the images explain the scans, and how uncertain they are.

- `residuals`: residuals of every scan, and whether they look like noise.
- `uncertainty`: standard deviations of the images, by sampling.
- `calibration`: factors on these standard deviations, from simulated scans.
"""
