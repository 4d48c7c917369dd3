"""Conversion to numpy arrays: from arrays, tensors on any device, and nested lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

if TYPE_CHECKING:
    # Reading and writing files must not load torch.
    from torch import Tensor

Numbers: TypeAlias = "ArrayLike | Tensor"


def array_of(values: Numbers, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """The values as an array; it shares memory with them if possible.

    Parameters
    ----------
    values
        Array, tensor of torch on any device, number or nested list of numbers, of any shape
        ``(...)``.
    dtype
        Type of the array; None for the type of the values.

    Raises
    ------
    TypeError, ValueError
        If the values are not numbers, or nested lists differ in length.

    Examples
    --------
    >>> array_of([[1, 2], [3, 4]], np.float32).shape
    (2, 2)
    """
    detach = getattr(values, "detach", None)
    return np.asarray(values if detach is None else detach().cpu(), dtype=dtype)


def image_of(values: Numbers, dtype: DTypeLike) -> NDArray[Any]:
    """The values as an array ``(X, Y, Z)``.

    Raises
    ------
    ValueError
        If there are more or fewer than three axes.
    """
    image = array_of(values, dtype)
    if image.ndim != 3:
        raise ValueError(f"an image needs three axes (X, Y, Z), got the shape {image.shape}")
    return image
