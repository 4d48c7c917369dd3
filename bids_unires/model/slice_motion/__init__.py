"""Motion of the head between the slices of a stack (``--slice-motion``).

- `solve`: images, and poses of groups of slices, in turn.
- `division`: whether a stack is split into (more) groups, and into which.
- `pose`: refined poses of groups.
- `single_scan`: a contrast with a single scan, whose slices are placed by other contrasts.
"""
