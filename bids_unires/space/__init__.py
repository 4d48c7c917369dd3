"""Where things lie, in voxels and in mm.

- `affines`, `rigid`: affine matrices and rigid motions.
- `grid`, `boxes`, `mean_space`: grids of voxels, boxes around them, the space midway between scans.
- `volume`, `labels`: images and segmentations in memory.
- `arrays`: arrays out of tensors and lists.
"""
