"""What protocols of scanners are taken for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bids_unires.dicom.conversion import ConvertedImage
from bids_unires.dicom.headers import SeriesHeader
from bids_unires.dicom.recognition import plane_of, recognise, shows_agent

HeaderMaker = Callable[..., SeriesHeader]
ImageMaker = Callable[..., ConvertedImage]

SE, GR, SE_IR, GR_IR = "SE", "GR", "SE\\IR", "GR\\IR"


@pytest.mark.parametrize(
    ("sequence", "te", "tr", "ti", "suffix"),
    [
        # 2-D spin echoes, at 1.5 T and 3 T.
        (SE, 8.7, 450, None, "T1w"),
        (SE, 14, 700, None, "T1w"),
        (SE, 98, 4000, None, "T2w"),
        (SE, 82, 2200, None, "T2w"),
        (SE, 14, 2200, None, "PDw"),
        (SE, 30, 3500, None, "PDw"),
        # 3-D turbo spin echoes.
        (SE, 22, 600, None, "T1w"),
        (SE, 408, 3200, None, "T2w"),
        (SE_IR, 125, 11000, 2800, "FLAIR"),
        (SE_IR, 388, 5000, 1800, "FLAIR"),
        (SE_IR, 92, 9000, 2500, "FLAIR"),
        ("SE_IR", 92, 9000, 2500, "FLAIR"),
        # Fluid is dark in T1w with an inversion, too.
        (SE_IR, 9, 2000, 860, "T1w"),
        # Prepared and plain gradient echoes.
        (GR_IR, 2.9, 2300, 900, "T1w"),
        (GR_IR, 3.2, 7.4, 450, "T1w"),
        (GR, 3, 8, None, "T1w"),
        (GR, 4.6, 250, None, "T1w"),
        (GR, 22, 720, None, "T2starw"),
        (GR, 15, 500, None, "T2starw"),
        # Sequences that DICOM has no word for.
        ("RM", 3, 8, None, "T1w"),
        ("RM", 24, 40, None, "T2starw"),
        ("RM", 100, 4000, None, "T2w"),
        ("", 12, 600, None, "T1w"),
        # Others: STIR, dual echo in and out of phase, EPI, no times.
        (SE_IR, 30, 5000, 150, None),
        (GR, 10.5, 900, None, None),
        ("EP", 90, 5000, None, None),
        (SE, None, None, None, None),
    ],
)
def test_times_tell_the_contrast(
    sequence: str,
    te: float | None,
    tr: float | None,
    ti: float | None,
    suffix: str | None,
    make_header: HeaderMaker,
    make_image: ImageMaker,
) -> None:
    times = {"EchoTime": te, "RepetitionTime": tr, "InversionTime": ti}
    stated = {name: value / 1000 for name, value in times.items() if value is not None}
    # A name that says something else does not count.
    for name in ("", "t1_tse", "T2 TSE", "mprage"):
        found = recognise(
            make_image(ScanningSequence=sequence, **stated), make_header(description=name)
        )
        assert found.suffix == suffix, found.reason
    assert found.reason


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title])
@pytest.mark.parametrize(
    ("sequence", "kind", "times"),
    [
        (GR, "ORIGINAL\\PRIMARY", (0.0046, 0.25)),
        (SE, "ORIGINAL\\PRIMARY", (0.098, 4.0)),
        ("EP", "ORIGINAL\\PRIMARY", (0.09, 5.0)),
        (SE, "DERIVED\\SECONDARY\\MPR", (0.098, 4.0)),
    ],
)
def test_capitals_of_the_header_do_not_matter(
    spell: Callable[[str], str],
    sequence: str,
    kind: str,
    times: tuple[float, float],
    make_header: HeaderMaker,
    make_image: ImageMaker,
) -> None:
    stated = {"EchoTime": times[0], "RepetitionTime": times[1]}
    usual, other = (
        recognise(
            make_image(ScanningSequence=word(sequence), ImageType=word(kind), **stated),
            make_header(description="scan"),
        )
        for word in (str, spell)
    )
    assert other == usual


@pytest.mark.parametrize("separator", ["\\", "_", "/", " "])
def test_prepared_gradient_echoes_and_echo_planar_images_are_known_in_every_spelling(
    separator: str, make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    # After so late an inversion, only a gradient echo is a T1w.
    times = {"EchoTime": 0.003, "RepetitionTime": 2.3, "InversionTime": 1.55}
    prepared = make_image(ScanningSequence=f"GR{separator}IR", **times)
    assert recognise(prepared, make_header()).suffix == "T1w"
    planar = make_image(ScanningSequence=f"EP{separator}SE", EchoTime=0.09, RepetitionTime=6)
    found = recognise(planar, make_header())
    assert (found.suffix, found.reason) == (None, "echo-planar imaging")


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "a localiser, by its image type"),
        ({"description": "3-Plane Loc"}, "a localiser, by its name"),
        ({"description": "AAHead_Scout"}, "a localiser, by its name"),
        ({"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}, "a map (ADC)"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "DIFFUSION")}, "a diffusion series"),
        ({"description": "ep2d_diff_tra"}, "a diffusion series, by its name"),
        ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, "a reformatted image"),
        ({"image_type": ("DERIVED", "SECONDARY")}, "derived from other images"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "P")}, "a phase image"),
        ({"description": "SWI_Images"}, "a susceptibility-weighted image"),
        ({"description": "TOF 3D multi-slab"}, "an angiogram"),
        ({"description": "t2_ciss3d CISS"}, "a steady-state sequence"),
        ({"description": "AX T1 L-SPINE"}, "of another part of the body"),
        ({"description": "t1_mp2rage_sag_INV1"}, "one inversion of MP2RAGE"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "DIXON", "FAT")}, "an image of fat"),
        ({"kind": "Secondary Capture Image Storage"}, "a screenshot"),
        ({"modality": "PT"}, "of the modality PT"),
        ({"modality": ""}, "of the modality unknown"),
        ({"is_phantom": True}, "a phantom"),
        ({"body_part": "CSPINE"}, "of the body part CSPINE"),
    ],
)
def test_what_is_no_scan_of_a_head_is_left_out_with_the_reason(
    known: dict[str, Any], why: str, make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    t1w = make_image(ScanningSequence=SE, EchoTime=0.01, RepetitionTime=0.5)
    assert recognise(t1w, make_header()).suffix == "T1w"
    found = recognise(t1w, make_header(**known))
    assert found.suffix is None
    assert why in found.reason


@pytest.mark.parametrize("part", ["HEAD", "BRAIN", "HEAD_NECK", "SKULL", "Kopf".upper()])
def test_names_of_the_head(part: str, make_header: HeaderMaker, make_image: ImageMaker) -> None:
    image = make_image(ScanningSequence=SE, EchoTime=0.01, RepetitionTime=0.5)
    assert recognise(image, make_header(body_part=part)).suffix == "T1w"


@pytest.mark.parametrize(
    ("shape", "b_values", "why"),
    [
        ((64, 64, 30, 20), False, "20 volumes"),
        ((64, 64, 1), False, "a single slice"),
        ((64, 64, 3), False, "only 3 slices"),
        ((64, 64, 30, 2), True, "a diffusion series, by its b-values"),
    ],
)
def test_what_is_no_volume_is_left_out(
    shape: tuple[int, ...],
    b_values: bool,
    why: str,
    make_header: HeaderMaker,
    make_image: ImageMaker,
) -> None:
    known = {"ScanningSequence": SE, "EchoTime": 0.01, "RepetitionTime": 0.5}
    found = recognise(make_image(shape=shape, has_b_values=b_values, **known), make_header())
    assert found.suffix is None
    assert why in found.reason


def test_ct(make_header: HeaderMaker, make_image: ImageMaker) -> None:
    assert recognise(make_image(), make_header(modality="CT")).suffix == "ct"
    scout = make_header(modality="CT", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert recognise(make_image(), scout).suffix is None


def test_flair_without_inversion_time_is_known_by_its_name(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    image = make_image(ScanningSequence=SE, EchoTime=0.1, RepetitionTime=9)
    assert recognise(image, make_header(description="AX T2 FLAIR")).suffix == "FLAIR"
    assert recognise(image, make_header(description="t2_tirm_dark-fluid")).suffix == "FLAIR"
    assert recognise(image, make_header(description="AX T2")).suffix == "T2w"
    image = make_image(ScanningSequence=SE, EchoTime=0.01, RepetitionTime=2)
    assert recognise(image, make_header(description="SAG T1 FLAIR")).suffix == "T1w"
    assert recognise(image, make_header(description="SAG PD")).suffix == "PDw"


def test_large_flip_angles_and_short_repetition_times_are_no_t1w(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    known = {"ScanningSequence": GR, "EchoTime": 0.0025, "RepetitionTime": 0.006}
    for flip, suffix in ((9, "T1w"), (25, "T1w"), (60, None)):
        assert recognise(make_image(FlipAngle=flip, **known), make_header()).suffix == suffix
    slow = make_image(ScanningSequence=GR, EchoTime=0.004, RepetitionTime=0.25, FlipAngle=70)
    assert recognise(slow, make_header()).suffix == "T1w"


@pytest.mark.parametrize(
    ("name", "given"),
    [("t1 +c", True), ("T1 +C", True), ("t1_km", True), ("t1 post", True), ("t1 space", False)],
)
def test_contrast_agents_in_names(name: str, given: bool, make_header: HeaderMaker) -> None:
    assert shows_agent(make_header(description=name)) is given
    assert shows_agent(make_header(description=name, has_agent=True))


@pytest.mark.parametrize(("axis", "plane"), [(0, "sag"), (1, "cor"), (2, "tra")])
def test_planes(axis: int, plane: str, make_image: ImageMaker) -> None:
    affine = np.eye(4)
    affine[:3, 2] = np.where(np.arange(3) == axis, -5.0, 1.0)
    assert plane_of(make_image(affine=affine)) == plane
