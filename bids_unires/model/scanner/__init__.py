"""The scanner's side of the model: what a scan measures of an image.

- `observation`: one scan as the solver sees it: data, noise precision, profile, pose, weights.
- `profile`: slice profiles; the slice gap is a part of them (`SliceProfile.gap`).
- `forward`: the forward operator A from an image to a scan.
- `coverage`: which voxels a scan measured, and which of its voxels lie on a grid.
- `interleave`: even slices brighter than odd ones, and how much.
- `slice_groups`: the order of slices, groups that moved together, and predictions of such scans.
- `rejected_slices`: which weight rejects a slice, and its interpolation from its neighbours.
- `interpolation_error`: the error of trilinear interpolation, as a loss of precision.
- `resampling`: scans interpolated on a grid.
"""
