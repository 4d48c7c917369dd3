"""Memory is estimated before a fit starts."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.errors import BadDataError
from bids_unires.model import Observation
from bids_unires.model.fit.memory import MemoryNeed, check_memory, has_room_for_lesions
from bids_unires.space.grid import Grid

GRID = Grid((400, 400, 400), np.eye(4))
SCAN = Observation(np.ones((10, 10, 10), np.float32), np.eye(4))


def test_the_memory_needed_grows_with_the_grid_and_the_contrasts() -> None:
    check_memory(MemoryNeed(GRID, 1, [SCAN]), None)
    check_memory(MemoryNeed(GRID, 1, [SCAN]), 2**33)
    for count, limit, said in (
        (1, 2**31, "1 contrast needs"),
        (6, 2**33, "6 contrasts needs"),
    ):
        with pytest.raises(BadDataError, match=f"400 x 400 x 400 voxels for {said}"):
            check_memory(MemoryNeed(GRID, count, [SCAN] * count), limit)


def test_standard_deviations_may_need_more() -> None:
    plain = MemoryNeed(GRID, 1, [SCAN])
    sampled = MemoryNeed(GRID, 1, [SCAN], samples_uncertainty=True)
    assert sampled.on_device > plain.on_device
    check_memory(plain, plain.on_device + 2**30)
    with pytest.raises(BadDataError, match="400 x 400 x 400"):
        check_memory(sampled, plain.on_device + 2**30)


def test_without_room_for_lesions_the_fit_does_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "bids_unires")
    need = MemoryNeed(GRID, 1, [SCAN], puts_lesions=True)
    plain = MemoryNeed(GRID, 1, [SCAN])
    assert need.of_process > plain.of_process
    assert has_room_for_lesions(need, None)
    assert has_room_for_lesions(need, need.of_process)
    assert has_room_for_lesions(plain, 0)
    assert not caplog.messages
    assert not has_room_for_lesions(need, plain.of_process)
    assert "small lesions" in caplog.text
