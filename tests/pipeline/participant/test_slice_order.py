"""Motion between slices, from the sidecars of the scans to those of the results."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.dataset.scans import Contrast, Scan
from bids_unires.model import SliceProfile
from bids_unires.model.scanner.slice_groups import SliceOrder
from bids_unires.pipeline.participant.acquired import AcquiredContrast, AcquiredScan
from bids_unires.pipeline.participant.slice_order import slice_orders
from bids_unires.records.slice_motion import SliceMotionRecord, largest_motion
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume
from tests.model.states import motion_of

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]

COARSE = [
    "--voxel-size",
    "5",
    "--reg-scale",
    "20",
    "--device",
    "cpu",
    "--max-iter",
    "20",
    "--learning-effort",
    "brief",
]
GROUP = ["--voxel-size", "5", "--device", "cpu", "--template", "none", "--group-mode", "refit"]
SHIFT = (5.0, -4.0, 6.0)
TIMES = [0.0, 0.3, 0.1, 0.4, 0.2, 0.5]


def order_of(
    metadata: dict[str, Any], *, sizes: tuple[float, float, float] = (1, 1, 4), suffix: str = "T1w"
) -> SliceOrder | None:
    volume = Volume(np.ones((8, 8, 6), np.float32), np.diag([*sizes, 1.0]))
    scan = Scan(Path(f"sub-01_{suffix}.nii.gz"), {"suffix": suffix}, metadata, "uri")
    acquisition = acquisition_from_sidecar(metadata, volume.affine)
    acquired = AcquiredScan(scan, volume, np.eye(4), acquisition, SliceProfile(), ())
    contrast = Contrast(suffix, {"suffix": suffix}, (scan,))
    ((order,),) = slice_orders([AcquiredContrast(contrast, (acquired,))])
    assert order is None or isinstance(order, SliceOrder)
    return order


def test_slice_timing_gives_the_packages() -> None:
    order = order_of({"MRAcquisitionType": "2D", "SliceTiming": TIMES})
    assert order is not None
    assert (order.groups(1), order.source, order.certain) == (
        ((0, 2, 4), (1, 3, 5)),
        "SliceTiming",
        True,
    )


def test_slices_are_counted_from_the_other_end_of_an_axis_that_runs_backwards() -> None:
    stated = {"SliceTiming": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    forth = order_of({"SliceEncodingDirection": "k", **stated})
    back = order_of({"SliceEncodingDirection": "k-", **stated})
    assert forth is not None
    assert back is not None
    assert forth.groups(2) == ((0, 1, 2), (3, 4, 5))
    assert back.groups(2) == ((3, 4, 5), (0, 1, 2))


@pytest.mark.parametrize(
    "wrong", [[0.0, 0.1], "0.1", [0.0] * 6, [True] * 6, [0.0, None, 1, 2, 3, 4], {"0": 1}]
)
def test_times_that_cannot_be_used_are_warned_of(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    order = order_of({"MRAcquisitionType": "2D", "SliceTiming": wrong})
    assert order is not None
    assert not order.certain
    assert "SliceTiming" in caplog.text


@pytest.mark.parametrize(
    ("metadata", "sizes", "suffix", "reason"),
    [
        ({"MRAcquisitionType": "3D"}, (1, 1, 4), "T1w", "3D acquisition"),
        ({}, (1, 1, 1.5), "T1w", "thin slices"),
        ({"MRAcquisitionType": "2D"}, (1, 1, 4), "ct", "CT"),
    ],
)
def test_what_was_not_acquired_in_slices_is_kept_whole(
    metadata: dict[str, Any],
    sizes: tuple[float, float, float],
    suffix: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    assert order_of(metadata, sizes=sizes, suffix=suffix) is None
    assert reason in caplog.text


def test_thick_or_2d_slices_may_move() -> None:
    assert order_of({}) is not None
    assert order_of({"MRAcquisitionType": "2D"}, sizes=(1, 1, 1.5)) is not None


STACK = Grid((10, 10, 4), np.diag([1.0, 1.0, 4.0, 1.0]))
MOTION = motion_of(
    [(0, 2), (1, 3)], [np.eye(4), rigid_matrix([1, 2, -2, 0.05, 0.0, 0.02])], "SliceTiming"
)


def test_a_motion_is_read_as_it_was_written() -> None:
    record = json.loads(json.dumps(SliceMotionRecord.of_motion(MOTION, STACK).to_json()))
    found = SliceMotionRecord.from_json(record).motion(4)
    assert found is not None
    assert found.source == MOTION.source
    for group, written in zip(found.groups, MOTION.groups, strict=True):
        assert group.slices == written.slices
        np.testing.assert_allclose(group.motion, written.motion)
    assert record["Groups"][0]["Translation"] == [0, 0, 0]
    assert np.linalg.norm(record["Groups"][1]["Rotation"]) > 1
    assert largest_motion(found, STACK) > 2


@pytest.mark.parametrize("count", [3, 5])
def test_a_motion_of_another_stack_is_none(count: int) -> None:
    assert SliceMotionRecord.of_motion(MOTION, STACK).motion(count) is None


@pytest.mark.parametrize("record", [None, 3, {}, {"Groups": []}, {"Groups": [1], "Order": ""}])
def test_what_is_no_record_is_no_motion(record: object) -> None:
    assert SliceMotionRecord.from_json(record).motion(4) is None


def moved_scan(make_head_scan: ScanMaker, axis: int) -> nib.Nifti1Image:
    """Odd slices of a head that had moved since the even ones."""
    scan, later = make_head_scan(axis, seed=axis), make_head_scan(axis, SHIFT, seed=axis + 5)
    data = np.moveaxis(scan.get_fdata(), axis, 0)
    data[1::2] = np.moveaxis(later.get_fdata(), axis, 0)[1::2]
    return nib.Nifti1Image(np.moveaxis(data, 0, axis).astype(np.float32), scan.affine)


def scans_in(folder: Path, pattern: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(pattern)
    return list(json.loads(path.read_text())["UniRes"]["Scans"])


@pytest.mark.slow
@pytest.mark.usefixtures("pages")
def test_motion_between_slices_is_found_told_and_used_again(
    tmp_path: Path,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
) -> None:
    scans = {
        f"sub-01_acq-{name}_T1w": moved_scan(make_head_scan, axis)
        for axis, name in enumerate(("sag", "cor", "ax"))
    }
    raw, out = make_head_dataset(tmp_path / "raw", scans), tmp_path / "out"
    assert main([str(raw), str(out), "participant", "--slice-motion", *COARSE]) == 0
    found = scans_in(out, "sub-*/**/*space-individual*_desc-sr_T1w.json")
    for scan in found:
        motion = scan["SliceMotion"]
        assert {tuple(group["Slices"]) for group in motion["Groups"]} == {
            tuple(range(0, 10, 2)),
            tuple(range(1, 10, 2)),
        }
        first, second = (np.array(group["Matrix"]) for group in motion["Groups"])
        between = np.linalg.inv(first) @ second
        # The world of a scan does not move: its odd slices see the head further along.
        assert np.linalg.norm(between[:3, 3] + np.array(SHIFT)) < 2.5
    page = (out / "sub-01.html").read_text("utf-8")
    assert "Motion between slices" in page
    assert "0, 2, … 8" in page
    log = "".join(path.read_text() for path in (out / "logs").glob("*.log"))
    assert "2 groups of slices moved by up to" in log
    assert main([str(raw), str(out), "group", *GROUP]) == 0
    again = scans_in(out, "sub-*/**/*space-study*_desc-sr_T1w.json")
    for before, after in zip(found, again, strict=True):
        assert after["Source"] == before["Source"]
        for old, new in zip(
            before["SliceMotion"]["Groups"], after["SliceMotion"]["Groups"], strict=True
        ):
            assert new["Slices"] == old["Slices"]
            np.testing.assert_allclose(new["Matrix"], old["Matrix"], atol=1e-6)
