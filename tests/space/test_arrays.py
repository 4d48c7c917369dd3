"""Arrays, tensors and lists say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bids_unires.space.arrays import array_of, image_of
from bids_unires.space.grid import Grid
from bids_unires.space.volume import LabelVolume, Volume

SPELLINGS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda values: values,
    "tensor": lambda values: torch.as_tensor(values.copy()),
    "tensor with gradient": lambda values: torch.tensor(
        values, dtype=torch.float64
    ).requires_grad_(),
    "list": lambda values: values.tolist(),
    "other byte order": lambda values: values.astype(values.dtype.newbyteorder()),
    "view": lambda values: np.flip(np.flip(values).copy()),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_array(spelling: str) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    spelled = SPELLINGS[spelling](values)
    for found in (array_of(spelled, np.float32), image_of(spelled, np.float32)):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_volumes_and_grids_take_every_spelling(spelling: str) -> None:
    spell = SPELLINGS[spelling]
    values, affine = np.arange(24).reshape(2, 3, 4), np.diag([1, 2, 3, 1])
    for kind in (Volume, LabelVolume):
        volume = kind(spell(values), spell(affine))
        np.testing.assert_array_equal(volume.data, values)
        assert volume.affine.dtype == np.float64
        assert volume.grid == Grid((2, 3, 4), spell(affine))


def test_no_copy_is_made_without_need() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    assert np.shares_memory(Volume(values, np.eye(4)).data, values)
    tensor = torch.zeros(2, 3, 4)
    assert np.shares_memory(array_of(tensor, np.float32), tensor.numpy())


def test_a_grid_keeps_an_affine_of_its_own() -> None:
    affine = np.eye(4)
    grid = Grid((2, 3, 4), affine)
    affine[0, 3] = 5
    assert grid.affine[0, 3] == 0


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4, 1)])
def test_an_image_has_three_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three axes"):
        Volume(np.zeros(shape, np.float32), np.eye(4))


@pytest.mark.parametrize("values", ["head", [[1, 2], [3]], None])
def test_what_is_no_number_is_refused(values: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        image_of(values, np.float32)
