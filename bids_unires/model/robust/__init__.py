"""Damaged slices: found, repaired or rejected (``--robust``).

- `rejection`: decides which slices are rejected and which repairs are made.
- `cross_validation`: predicts every slice by fits without it.
- `compare`: deviations of slices from their predictions, and the weights that follow.
- `repair`: repairs of brightness, position and stripes.
- `stripes`: stripes from spikes in k-space.
- `shift`: shifts of slices in their plane.
- `template`: displaced slices near the ends of a stack, by comparison with a template head.
- `verdict`: weights, deviations and repairs of the slices of a scan.
"""
