"""Tensors out of what a caller has: tensors, arrays, nested lists."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def floating_tensor(values: Tensor | ArrayLike) -> Tensor:
    """The values as a tensor of floating-point numbers.

    Parameters
    ----------
    values
        A tensor is taken as it is, whole numbers as float32. Of an array or of nested lists a
        copy is made on the CPU: arrays of float64 stay that, all else becomes float32.

    Examples
    --------
    >>> floating_tensor([1, 2]).dtype, floating_tensor(np.zeros(2)).dtype
    (torch.float32, torch.float64)
    """
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else values.float()
    given = getattr(values, "dtype", None)
    kept = given is not None and given.kind == "f" and given.itemsize == 8
    # Tensors know neither negative strides nor the other order of bytes.
    return torch.from_numpy(np.array(values, dtype=np.float64 if kept else np.float32, order="C"))
