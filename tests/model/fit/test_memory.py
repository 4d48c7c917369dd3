"""Memory is estimated before a fit starts."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.errors import BadDataError
from bids_unires.model import Observation
from bids_unires.model.fit.memory import check_memory, memory_estimate
from bids_unires.space.grid import Grid


def test_the_memory_needed_grows_with_the_grid_and_the_contrasts() -> None:
    grid = Grid((400, 400, 400), np.eye(4))
    observation = Observation(np.ones((10, 10, 10), np.float32), np.eye(4))
    check_memory(grid, [[observation]], None)
    check_memory(grid, [[observation]], 2**33)
    for contrasts, limit, said in (
        ([[observation]], 2**31, "1 contrast needs"),
        ([[observation]] * 6, 2**33, "6 contrasts needs"),
    ):
        with pytest.raises(BadDataError, match=f"400 x 400 x 400 voxels for {said}"):
            check_memory(grid, contrasts, limit)


def test_standard_deviations_may_need_more() -> None:
    grid = Grid((400, 400, 400), np.eye(4))
    observation = Observation(np.ones((10, 10, 10), np.float32), np.eye(4))
    plain = memory_estimate(grid, [[observation]])
    sampled = memory_estimate(grid, [[observation]], sampled=True)
    assert sampled > plain
    check_memory(grid, [[observation]], plain + 2**30)
    with pytest.raises(BadDataError, match="400 x 400 x 400"):
        check_memory(grid, [[observation]], plain + 2**30, sampled=True)
