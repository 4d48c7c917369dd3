from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.dataset.scans import Contrast, ParticipantPlan, Scan

MR = Contrast("ce-gad_T1w", {"ceagent": "gad", "suffix": "T1w"}, ())
CT = Contrast("ct", {"suffix": "ct"}, ())


def test_the_suffix_tells_the_modality() -> None:
    assert (MR.modality, MR.datatype) == ("MR", "anat")
    assert (CT.modality, CT.datatype) == ("CT", "ct")
    assert Scan(Path("a.nii"), {"suffix": "ct"}, {}, "").datatype == "ct"


@pytest.mark.parametrize(
    ("contrasts", "shared", "folders"),
    [
        ((MR,), "anat", ["anat"]),
        ((CT,), "ct", ["ct"]),
        ((MR, CT), "anat", ["anat", "ct"]),
        ((), "anat", ["anat"]),
    ],
)
def test_masks_go_to_ct_only_without_mr(
    contrasts: tuple[Contrast, ...], shared: str, folders: list[str]
) -> None:
    plan = ParticipantPlan("01", "a", contrasts)
    assert plan.shared_datatype == shared
    assert plan.folders == tuple(Path("sub-01/ses-a") / name for name in folders)
