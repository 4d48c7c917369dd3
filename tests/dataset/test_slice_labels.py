from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.config import MRI_SUFFIXES
from bids_unires.dataset.entities import contrast_name
from bids_unires.dataset.slice_labels import resembles_orientation, without_orientation

PLANES = [
    *("ax", "axi", "axial", "tra", "tran", "trans", "transv", "transverse", "transversal"),
    *("transaxial", "cor", "coro", "coron", "coronal", "sag", "sagi", "sagit", "sagittal"),
    *("sagital", "horizontal", "oblique", "obl", "obliqueAx", "axOblique", "axialobl", "oblSag"),
    *("paracor", "paraSagittal"),
]


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("number", ["", "2", "01"])
def test_a_plane_is_no_contrast(plane: str, number: str) -> None:
    for spelling in (plane, plane.upper(), plane[0].upper() + plane[1:]):
        name = contrast_name({"acquisition": spelling + number, "suffix": "T1w"})
        assert name == "T1w", spelling


@pytest.mark.parametrize(
    ("label", "suffix", "left"),
    [
        ("axiT2", "T2w", ""),
        ("AXT2", "T2w", ""),
        ("sagt1", "T1w", ""),
        ("T1wSag", "T1w", ""),
        ("t2tra", "T2w", ""),
        ("T2FLAIRax", "FLAIR", ""),
        ("corFlair", "FLAIR", ""),
        ("axPD", "PDw", ""),
        ("sagiT2", "T1w", "T2"),
        ("axT2star", "T2starw", ""),
        ("axT1", "T2w", "T1"),
        ("axTSE", "T2w", "TSE"),
        ("TSEax", "T2w", "TSE"),
        ("tseAx", "T2w", "tse"),
        ("sagmprage", "T1w", "mprage"),
        ("mprageSAG", "T1w", "mprage"),
        ("3Dsag", "T1w", "3D"),
        ("sag3D", "T1w", "3D"),
        ("ax3d", "T1w", "3d"),
        ("ax2x", "T1w", "2x"),
        ("ax2TSE", "T2w", "TSE"),
        ("axPost", "T1w", "Post"),
        ("T1axPost", "T1w", "T1Post"),
        ("obliqueAxTSE", "T2w", "TSE"),
        ("ax+fs", "T2w", "fs"),
    ],
)
def test_what_else_a_label_says_is_the_contrast(label: str, suffix: str, left: str) -> None:
    assert without_orientation(label, suffix) == left


@pytest.mark.parametrize(
    "label",
    [
        *("mprage", "tse3", "2d", "highres", "T1", "corrected", "MoCor", "distCor", "biascor"),
        *("axon", "cortex", "Max", "relax", "ultra", "extra", "trace", "transient", "SAGE"),
        *("sagemprage", "obligatory", "paradigm", "contrast", "extraT1", "norm", "Corr"),
    ],
)
def test_other_words_are_contrasts(label: str) -> None:
    assert without_orientation(label, "T2w") == label


@given(
    plane=st.sampled_from(PLANES),
    word=st.sampled_from(["Tse", "T2", "Fs", "Nav", "Lowres", "3D", "X1"]),
    suffix=st.sampled_from(MRI_SUFFIXES),
)
def test_planes_in_any_place_leave_the_same(plane: str, word: str, suffix: str) -> None:
    title = plane[0].upper() + plane[1:]
    left = {without_orientation(label, suffix) for label in (plane + word, title + word)}
    left.add(without_orientation(word + title, suffix))
    assert left <= {word, ""}
    assert len(left) == 1


@given(st.text("axicorsgtplTSE123d+", min_size=1, max_size=9), st.sampled_from(MRI_SUFFIXES))
def test_what_is_left_is_left_alone(label: str, suffix: str) -> None:
    left = without_orientation(label, suffix)
    assert left == "" or without_orientation(left, suffix) == left


@pytest.mark.parametrize(
    ("label", "resembles"),
    [
        *(("corrected", True), ("MoCor", True), ("sagx", True), ("TSEsagx", False)),
        *(("axial", False), ("axTSE", False), ("mprage", False), ("", False)),
    ],
)
def test_labels_that_resemble_planes(label: str, resembles: bool) -> None:
    assert resembles_orientation(label, "T2w") is resembles
