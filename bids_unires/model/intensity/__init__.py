"""Intensities: noise, contrast between head and air, and brightness of the scans.

- `noise`: noise level and contrast of a scan, by the next four modules.
- `histogram`: histograms of intensities and thresholds.
- `rice_mixture`: mixture of two Rice distributions, for magnitude images.
- `smooth_blocks`: noise of blocks of smooth anatomy.
- `hounsfield`: air, soft tissue and padding of CT.
- `relative_fields`: smooth brightness differences between repeats.
- `correlation_ratio`: the intensity of one contrast that goes with those of other contrasts.
- `scan_state`: a scan, and all that is known of it during a fit.
- `preprocessing`: from repaired scans to what the solver starts with.
"""
