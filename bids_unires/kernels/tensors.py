"""Conversion to torch tensors: from tensors, arrays and nested lists."""

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
        Numbers of any shape ``(...)``. A tensor of floating-point numbers is returned as it is,
        other tensors as float32. Arrays and nested lists are copied to the CPU: arrays of float64
        keep their type, all others become float32.

    Examples
    --------
    >>> floating_tensor([1, 2]).dtype, floating_tensor(np.zeros(2)).dtype
    (torch.float32, torch.float64)
    """
    if isinstance(values, Tensor):
        return values if values.is_floating_point() else values.float()
    given = getattr(values, "dtype", None)
    kept = given is not None and given.kind == "f" and given.itemsize == 8
    # Tensors support neither negative strides nor a foreign byte order.
    return torch.from_numpy(np.array(values, dtype=np.float64 if kept else np.float32, order="C"))
