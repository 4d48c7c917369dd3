"""Where scans lie before the fit: all of them move with the one that a template was found for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bids_unires.config import ModelSettings, RunConfig, SpaceSettings
from bids_unires.dataset.query import plan_participants
from bids_unires.model.fit.placement import StartingPose
from bids_unires.pipeline.participant.acquired import acquire
from bids_unires.pipeline.participant.alignment import Placement, place
from bids_unires.registration.template_alignment import TemplateAlignment
from bids_unires.space.rigid import rigid_matrix

DatasetMaker = Callable[..., Path]

# World of each scan to that of the first, as registration finds it.
TO_FIRST = (np.eye(4), rigid_matrix([4.0, -3.0, 5.0, 0.2, -0.1, 0.3]))
TO_TEMPLATE = rigid_matrix([-10.0, 20.0, 8.0, 0.1, 0.4, -0.2])


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch, make_dataset: DatasetMaker) -> Callable[..., Placement]:
    """Give a function that places two scans, of which one shows most of the head."""
    raw = make_dataset("sub-01_T1w", "sub-01_FLAIR")

    def place_scans(space: SpaceSettings, fullest: int = 0) -> Placement:
        config = RunConfig(raw, raw.parent / "out", "participant", space=space)
        (plan,) = plan_participants(config)
        contrasts = acquire(plan, ModelSettings(), 2**34, reset_origin=False)
        found = TemplateAlignment(TO_TEMPLATE, "rigid", 1.0, 0.5)
        here = "bids_unires.pipeline.participant.alignment.starting_poses"
        monkeypatch.setattr(here, lambda *_: [StartingPose(pose) for pose in TO_FIRST])
        registration = "bids_unires.registration"
        monkeypatch.setattr(f"{registration}.fullest_scan", lambda *_, **__: fullest)
        monkeypatch.setattr(f"{registration}.align_to_template", lambda *_, **__: found)
        return place(contrasts, config, threads=1)

    return place_scans


def test_without_a_template_the_first_scan_stays(placed: Callable[..., Placement]) -> None:
    placement = placed(SpaceSettings())
    np.testing.assert_allclose(placement.poses, [[pose] for pose in TO_FIRST])
    assert (placement.space, placement.grid, placement.template) == ("individual", None, None)


@pytest.mark.parametrize("fullest", [0, 1])
def test_all_scans_go_with_the_one_that_the_template_was_found_for(
    placed: Callable[..., Placement], fullest: int
) -> None:
    placement = placed(SpaceSettings(align="rigid"), fullest)
    first, second = (poses[0] for poses in placement.poses)
    np.testing.assert_allclose((first, second)[fullest], TO_TEMPLATE, atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(first) @ second, TO_FIRST[1], atol=1e-12)


def test_a_common_grid_is_that_of_the_template(placed: Callable[..., Placement]) -> None:
    placement = placed(SpaceSettings(align="rigid", common_output=True))
    assert placement.grid is not None
    assert placement.space == "MNI152NLin2009cAsymRigid"
    assert placement.template is not None
    assert placement.template.name == "MNI152NLin2009cAsym"
