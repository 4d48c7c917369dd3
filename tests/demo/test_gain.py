"""What the demonstration is for: the default settings beat interpolation on a known head."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.demo.dataset import claim, write_dataset
from bids_unires.demo.phantom import load_icbm152
from bids_unires.demo.run import score_participant
from bids_unires.demo.study import MOTIONS, PARTICIPANTS, PROTOCOLS
from bids_unires.run import app

pytestmark = [pytest.mark.learns, pytest.mark.slow]


def test_every_contrast_gains_on_cubic_interpolation(tmp_path: Path) -> None:
    paths = claim(tmp_path / "demo")
    write_dataset(paths, load_icbm152(), PARTICIPANTS[:1], PROTOCOLS, MOTIONS)
    config = RunConfig(paths.bids, paths.derivatives, "participant", skip_bids_validation=True)
    assert app.run(config) == 0
    (plan,) = plan_participants(config)
    gains = [score.gain for _, score in score_participant(paths, config, plan)]
    assert len(gains) == len(PROTOCOLS)
    assert min(gains) > 0
    assert sum(gains) / len(gains) >= 1
