"""Detail within thick slices, learned from the planes of the scans themselves.

- `learning`: learns the detail of scans and returns it as `LearnedDetail`.
- `term`: `LearnedDetail`, a scan with thin slices that the fit uses as one more scan.
- `planes`: planes of a scan, and pairs of thick and thin voxels to learn from.
- `network`: the network that predicts thin voxels from the thick voxels around them.
- `one_cycle`: the optimiser that trains it.
- `thin_slices`: predictions of thin voxels, collected from planes in several directions.
- `spline`: interpolation by quintic B-splines.
- `parameters`: size of the networks and steps of training.
"""
