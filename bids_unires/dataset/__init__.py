"""BIDS in and out: files and folders on disk.

- `query`, `scans`, `filters`, `ignored`, `labels`, `slice_labels`, `entities`: what to work on.
- `metadata`, `encoding`: sidecars are found and read; `acquisition`: the slice gap, axis and
  profile that they tell.
- `reading`, `nifti`, `orientation`: images and segmentations are read and checked.
- `naming`, `sidecar`, `description`, `transforms`, `writing`: what is written, and how.
- `derivatives`: what the participant level wrote is found again.
- `layout`, `validation`, `content`: the dataset as a whole.
"""
