"""Tensors out of arrays and lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_unires.kernels.tensors import floating_tensor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_of_floating_point_numbers_stays_itself(dtype: torch.dtype) -> None:
    tensor = torch.ones(2, dtype=dtype)
    assert floating_tensor(tensor) is tensor


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.5, 2.0]], torch.float32),
        (np.ones(2, np.int16), torch.float32),
        (np.ones(2, np.float16), torch.float32),
        (np.ones(2, ">f4"), torch.float32),
        (np.ones(2, ">f8"), torch.float64),
        (np.arange(3.0)[::-1], torch.float64),
        (np.broadcast_to(np.float32(1), (2, 2)), torch.float32),
        (torch.ones(2, dtype=torch.int32), torch.float32),
    ],
)
def test_the_precision_is_that_of_the_values(values: object, dtype: torch.dtype) -> None:
    tensor = floating_tensor(values)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor.numpy(), np.asarray(values))
