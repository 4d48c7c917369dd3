"""Arrays of numpy out of what a caller has: arrays, tensors of any device, nested lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    # Reading and writing files goes without torch.
    from torch import Tensor

Numbers: TypeAlias = "ArrayLike | Tensor"


def array_of(values: Numbers, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """The values as an array, on the same memory where that is possible.

    Parameters
    ----------
    values
        Array, tensor of torch on any device, number or nested list of numbers.
    dtype
        Of the array; None for that of the values.

    Raises
    ------
    TypeError, ValueError
        If these are no numbers, or their lengths differ.

    Examples
    --------
    >>> array_of([[1, 2], [3, 4]], np.float32).shape
    (2, 2)
    """
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach().cpu(), dtype=dtype)


def image_of(values: Numbers, dtype: DTypeLike) -> NDArray[Any]:
    """The values as an array with three axes.

    Raises
    ------
    ValueError
        If there are more or fewer axes.
    """
    image = array_of(values, dtype)
    if image.ndim != 3:
        raise ValueError(f"an image needs three axes (X, Y, Z), got the shape {image.shape}")
    return image
