"""What happens to one participant: read `workflow` from top to bottom.

- `acquired`: scans and segmentations are read, with what their sidecars say about the scanner.
- `slice_order`: the order in which slices were acquired.
- `alignment`: scans are aligned to each other, and to a template if asked.
- `reconstructed`: the images, and what the fit found of every scan.
- `derivatives`: the files that are written; `provenance`, `head_coverage`: what their sidecars say.
- `reporting`: the page.
"""
