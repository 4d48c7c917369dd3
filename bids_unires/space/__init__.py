"""Geometry: positions in voxels and in mm, and the images that have them.

- `affines`: affine matrices.
- `rigid`: rigid motions and their parameters.
- `grid`: grids of voxels.
- `boxes`: grids that enclose scans or masks, or that suit networks.
- `mean_space`: the mean space of several scans.
- `volume`: images and segmentations in memory.
- `labels`: resampling of segmentations.
- `arrays`: conversion of tensors and lists to arrays.
"""
