"""Small lesions are looked for as they look in each contrast."""

from __future__ import annotations

import pytest

from bids_unires.dataset.scans import Contrast
from bids_unires.pipeline.participant.lesion_look import lesion_look


@pytest.mark.parametrize(
    ("entities", "look"),
    [
        ({"suffix": "FLAIR"}, "bright"),
        ({"suffix": "T2w"}, "bright"),
        ({"suffix": "T1w"}, "dark"),
        ({"suffix": "T1w", "ceagent": "gad"}, "bright"),
        ({"suffix": "T2starw"}, "dark"),
        ({"suffix": "ct"}, "bright"),
    ],
)
def test_lesions_are_bright_or_dark(entities: dict[str, str], look: str) -> None:
    assert lesion_look(Contrast("name", entities, ())) == look
