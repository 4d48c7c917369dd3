"""The participant level: reconstruct the images of one participant from its scans.

- `workflow`: the steps of the participant level, in order; start reading here.
- `acquired`: read scans and segmentations, and find how each scan was acquired.
- `screening`: a look at the slices, which turns a robust fit on where some are damaged.
- `slice_order`: the order in which the slices of a scan were acquired.
- `visits`: place the scans of all visits in one space, if requested.
- `lesion_look`: how small lesions look, which are put into the scans.
- `alignment`: align the scans to each other, and to a template if requested.
- `reconstructed`: the images, and the values that the fit estimated for each scan.
- `derivatives`: write the output files.
- `provenance`: the records in sidecars of how images were made.
- `head_coverage`: the share of the head that the scans of each contrast measured.
- `reporting`: the report page.
- `visits_reporting`: the page that shows visits beside each other.
"""
