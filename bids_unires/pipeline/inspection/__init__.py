"""Look at the scans before anything is computed: what each is worth, and what looks wrong.

- `slices`: damaged slices, and motion between slices.
- `information`: how much each scan tells of the image that is wanted.
- `measures`: what is measured of one scan.
- `inspection`: compare the scans of a participant, and rank them.
- `table`: the text and JSON of `--dry-run`.
"""
