"""Names, sessions and what the user overrules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bids_unires.dataset.entities import contrast_name
from bids_unires.dataset.query import raw_entities
from bids_unires.dicom.conversion import ConvertedImage
from bids_unires.dicom.headers import SeriesHeader
from bids_unires.dicom.plan import PlannedImage, describe_dataset, plan_dataset
from bids_unires.dicom.request import Overruled
from bids_unires.errors import UsageError
from tests.dicom.conftest import Scanned

LABELS = {"PAT/0815": "a1", "PAT_0815": "b2"}
HeaderMaker = Callable[..., SeriesHeader]
ImageMaker = Callable[..., ConvertedImage]


def planned(scanned: Scanned, **overruled: object) -> tuple[PlannedImage, ...]:
    return plan_dataset(scanned.series, scanned.images, LABELS, Overruled(**overruled))  # type: ignore[arg-type]


def names(plan: tuple[PlannedImage, ...]) -> dict[str, str]:
    return {f"{each.participant}:{each.header.number}": each.name for each in plan}


WANTED = {
    "a1:1": "",
    "a1:2": "sub-a1_acq-tra_T1w",
    "a1:3": "sub-a1_acq-cor_T2w",
    "a1:4": "sub-a1_acq-sag_FLAIR",
    "a1:5": "",
    "a1:6": "",
    "a1:7": "sub-a1_acq-tra_ce-agent_T1w",
    "a1:30": "",
    "b2:2": "sub-b2_acq-tra_T1w",
    "b2:4": "sub-b2_acq-sag_FLAIR",
}


def test_the_right_plan_for_two_patients(scanned: Scanned) -> None:
    plan = planned(scanned)
    assert names(plan) == WANTED
    text = describe_dataset(plan).splitlines()
    assert text[:4] == [
        "sub-a1",
        "  series 1 (survey): left out: a localiser, by its image type",
        "  series 2 (t1_se_tra): acq-tra_T1w: spin echo, TE 11 ms, TR 520 ms",
        "  series 3 (t2_tse_cor): acq-cor_T2w: spin echo, TE 98 ms, TR 5200 ms",
    ]
    assert "  series 6 (ep2d_3scan): left out: a map (ADC), by its image type" in text
    assert "  series 30: left out: a screenshot, by its kind (secondary capture)" in text
    assert "--take" in text[-1]
    assert "--skip" in text[-1]


def test_the_user_overrules(scanned: Scanned) -> None:
    found = names(planned(scanned, taken=(("a1:5", "T2w"), ("survey", "T1w")), skipped=("4",)))
    assert found == WANTED | {
        "a1:1": "sub-a1_acq-tra_run-1_T1w",
        "a1:2": "sub-a1_acq-tra_run-2_T1w",
        "a1:5": "sub-a1_acq-tra_T2w",
        "a1:4": "",
        "b2:4": "",
    }


@pytest.mark.parametrize(
    ("overruled", "why"),
    [
        ({"skipped": ("17",)}, "--skip 17: no series"),
        ({"taken": (("t9", "T1w"),)}, "--take t9: no series"),
        ({"taken": (("b2:7", "T1w"),)}, "--take b2:7: no series"),
        ({"taken": (("30", "T1w"),)}, "the series is a single slice"),
    ],
)
def test_what_cannot_be_overruled_is_refused(
    overruled: dict[str, object], why: str, scanned: Scanned
) -> None:
    with pytest.raises(UsageError, match=why):
        planned(scanned, **overruled)


def test_take_needs_a_series_and_a_known_suffix() -> None:
    assert Overruled.read_take("a=b=t1W") == ("a=b", "T1w")
    for text in ("5", "5=", "=T1w", "5=T3w"):
        with pytest.raises(UsageError, match="SERIES=SUFFIX"):
            Overruled.read_take(text)


def test_studies_are_sessions_in_the_order_of_their_dates(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    headers = tuple(
        make_header(uid=uid, study=study, date=date, patient=patient)
        for uid, study, date, patient in (
            ("1", "s1", "20200101", "P"),
            ("2", "s2", "20190101", "P"),
            ("3", "s3", "20180101", "Q"),
        )
    )
    known = {"ScanningSequence": "SE", "EchoTime": 0.01, "RepetitionTime": 0.5}
    images = tuple(make_image(uid=uid, **known) for uid in "123")
    plan = plan_dataset(headers, images, {"P": "p", "Q": "q"}, Overruled())
    assert [each.path for each in plan] == [
        "sub-p/ses-2/anat/sub-p_ses-2_acq-tra_T1w",
        "sub-p/ses-1/anat/sub-p_ses-1_acq-tra_T1w",
        "sub-q/anat/sub-q_acq-tra_T1w",
    ]


def test_sequences_are_contrasts_and_planes_are_repeats(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    spin = {"ScanningSequence": "SE", "EchoTime": 0.01, "RepetitionTime": 0.5}
    gradient = {"ScanningSequence": "GR", "EchoTime": 0.004, "RepetitionTime": 0.2}
    sagittal = make_image().affine[:, [1, 2, 0, 3]]
    images = (
        make_image(uid="1", **spin),
        make_image(uid="2", affine=sagittal, **spin),
        make_image(uid="3", **gradient),
        make_image(uid="4", MRAcquisitionType="3D", **gradient),
        make_image(uid="5", MRAcquisitionType="3D", **spin),
    )
    headers = tuple(make_header(uid=image.uid, number=int(image.uid)) for image in images)
    plan = plan_dataset(headers, images, {"P": "p"}, Overruled())
    contrasts = [contrast_name(raw_entities(Path(f"{each.path}.nii.gz"))) for each in plan]
    assert contrasts == ["T1w", "T1w", "acq-GRE_T1w", "acq-3D_T1w", "acq-3DSE_T1w"]


def test_what_was_reconstructed_again_is_no_repeat(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    known = {"ScanningSequence": "SE", "EchoTime": 0.01, "RepetitionTime": 0.5}
    times = ("10:00:01.5", "10:00:01.5", "10:09:00.0", "00:00:00", "00:00:00")
    images = tuple(
        make_image(uid=str(number), AcquisitionTime=time, **known)
        for number, time in enumerate(times, 1)
    )
    headers = tuple(make_header(uid=image.uid, number=int(image.uid)) for image in images)
    plan = plan_dataset(headers, images, {"P": "p"}, Overruled())
    assert plan[1].reason == "the same acquisition as series 1, reconstructed again"
    runs = [f"sub-p_acq-tra_run-{number}_T1w" for number in range(1, 6)]
    assert [each.name for each in plan] == [runs[0], "", *runs[1:4]]
    taken = plan_dataset(headers, images, {"P": "p"}, Overruled((("2", "T1w"),)))
    assert [each.name for each in taken] == runs


def test_echoes_of_one_series_are_contrasts(
    make_header: HeaderMaker, make_image: ImageMaker
) -> None:
    images = tuple(
        make_image(
            uid="1",
            ScanningSequence=sequence,
            EchoTime=te,
            RepetitionTime=3,
            EchoNumber=number,
            AcquisitionTime="10:00:01.5",
        )
        for sequence, number, te in (
            ("SE", 1, 0.015),
            ("SE", 2, 0.09),
            ("GR", 3, 0.013),
            ("GR", 4, 0.026),
        )
    )
    plan = plan_dataset((make_header(uid="1"),), images, {"P": "p"}, Overruled())
    assert [each.name for each in plan] == [
        "sub-p_acq-tra_PDw",
        "sub-p_acq-tra_T2w",
        "sub-p_acq-tra_echo-3_T2starw",
        "sub-p_acq-tra_echo-4_T2starw",
    ]


def test_a_series_without_image_says_so(make_header: HeaderMaker) -> None:
    (item,) = plan_dataset((make_header(),), (), {"P": "p"}, Overruled())
    assert (item.suffix, item.reason) == (None, "dcm2niix could not convert its 20 files")
    (report,) = plan_dataset((make_header(modality="SR"),), (), {"P": "p"}, Overruled())
    assert report.reason == "of the modality SR, not MR or CT"
