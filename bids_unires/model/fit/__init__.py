"""A fit from scans to images.

- `super_resolution`: `super_resolve` and `reconstruct`, from scans to a plan of the fit.
- `scans`: scans and contrasts as they are given to a fit.
- `placement`: poses of the scans and grid of the images before the fit.
- `head_part`: the part of the grid that shows the head, which is solved.
- `fine_voxels`: voxels of CT that are averaged before the fit.
- `memory`: the memory that a fit needs.
- `plan`: the fit on one device: rejected slices, learned detail, solver, uncertainty.
- `result`: what a fit returns.
- `interpolation`: scans interpolated without a fit.
"""
