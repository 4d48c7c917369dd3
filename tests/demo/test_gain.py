"""The demonstration gains on a known head what its page shows."""

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
from tests.documented import demo_gains

pytestmark = [pytest.mark.learns, pytest.mark.slow, pytest.mark.accuracy]

SCATTER = 0.1
"""Gain in dB by which another processor, or another number of threads, may differ."""


def test_every_contrast_gains_what_the_page_shows(tmp_path: Path) -> None:
    paths = claim(tmp_path / "demo")
    write_dataset(paths, load_icbm152(), PARTICIPANTS[:1], PROTOCOLS, MOTIONS)
    config = RunConfig(paths.bids, paths.derivatives, "participant", skip_bids_validation=True)
    assert app.run(config) == 0
    (plan,) = plan_participants(config)
    gains = {
        (plan.participant, contrast): score.gain
        for contrast, score in score_participant(paths, config, plan)
    }
    shown = {key: gain for key, gain in demo_gains().items() if key[0] == plan.participant}
    assert len(shown) == len(PROTOCOLS)
    assert gains == pytest.approx(shown, abs=SCATTER)
