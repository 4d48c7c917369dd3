from __future__ import annotations

import numpy as np

from bids_unires.work.allotment import peak_memory


def test_the_peak_holds_what_was_there_once() -> None:
    size = 2**28
    values = np.ones(size, dtype=np.uint8)
    assert values.all()
    del values
    assert peak_memory() >= size
