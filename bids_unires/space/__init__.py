"""Where things lie: affine matrices, rigid motions, grids, boxes, volumes and labels."""
