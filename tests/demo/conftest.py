"""A template of balls: small enough to be deformed and scanned in a blink."""

import numpy as np
import pytest

from bids_unires.demo.phantom import TissueMaps


@pytest.fixture(scope="session")
def ball_maps() -> TissueMaps:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -30.0
    radius = 2.0 * np.linalg.norm(np.indices((31, 31, 31)) - 15, axis=0)
    white = np.clip((16 - radius) / 4 + 0.5, 0, 1).astype(np.float32)
    brain = (radius < 26).astype(np.float32)
    grey = np.clip((24 - radius) / 4 + 0.5, 0, 1).astype(np.float32) * brain - white
    t1w = brain * (0.3 + 0.3 * grey + 0.6 * white)
    return TissueMaps(t1w, grey, white, affine)
