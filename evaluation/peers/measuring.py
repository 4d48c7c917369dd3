"""All measures of one image of a case."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from bids_unires.demo.score import resample
from bids_unires.space.volume import Volume
from evaluation.cases import Examination
from evaluation.lesions import Lesions
from evaluation.measures import measure
from evaluation.methods import measured
from evaluation.peers.cases import Stack
from evaluation.peers.scans import same_grid

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TISSUES = 4


def measures(made: Volume, stack: Stack) -> Mapping[str, float]:
    """Compute all measures of an image.

    Parameters
    ----------
    made
        The image; where its grid is not that of the truth, it is interpolated with a cubic spline.
    stack
        The case it was made of.

    Returns
    -------
    mapping
        What `evaluation.measures.measure` returns; ``tissues``, the mean error of the volumes of
        four tissues in percent; ``kept of SIZE`` and ``erased of SIZE``, share of their contrast
        that lesions keep (median) and share of lesions that are erased; ``lesions of SIZE``, their
        number; ``false``, the number of false spots.
    """
    head = stack.head
    truth = head.truth.data
    image = (
        made.data if same_grid(made, head.truth) else resample(made, head.truth.grid, np.eye(4), 3)
    )
    inside = measured(
        Examination((head.truth,), head.inside, ((stack.scan,),), ((np.eye(4),),), ((0.0,),))
    )
    lesions = Lesions(truth, head.mask, head.inside)
    found = {
        **measure(image, truth, inside),
        "tissues": tissue_error(image, truth, inside),
        "false": float(lesions.false_spots(image)),
    }
    for size, of_size in lesions.survival(image).items():
        found |= {f"lesions of {size}": float(of_size.count)}
        if of_size.count:
            found |= {f"kept of {size}": of_size.kept, f"erased of {size}": of_size.erased}
    return found


def tissue_error(image: Image, truth: Image, inside: Mask) -> float:
    """Mean error of the volumes of tissues, in percent of that in the truth.

    Tissues are four ranges of intensity, found in the truth by Otsu's criterion.
    """
    limits = threshold_multiotsu(truth[inside], classes=_TISSUES)
    true, found = (
        np.bincount(np.digitize(values[inside], limits), minlength=_TISSUES)
        for values in (truth, image)
    )
    return float(100 * np.mean(np.abs(found - true) / true))
