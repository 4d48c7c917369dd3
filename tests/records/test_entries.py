"""What a file may say of an entry, and what is taken for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.records.entries import affine


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 3)])
def test_matrices_that_are_not_finite_are_none(number: float, place: tuple[int, int]) -> None:
    matrix = np.eye(4)
    assert affine(matrix.tolist()) is not None
    matrix[place] = number
    assert affine(matrix.tolist()) is None


@pytest.mark.parametrize("value", [None, "4", 4, [], np.eye(3).tolist(), np.zeros((4, 4)).tolist()])
def test_what_is_no_matrix_of_a_place_is_none(value: object) -> None:
    assert affine(value) is None
