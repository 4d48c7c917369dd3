"""Fuzzing guided by coverage: ``python -m tests.faults.guided nifti|sidecar SECONDS``.

Bytes that reach new branches of the code that reads them are kept and changed further
(libFuzzer, by way of atheris). Anything but a readable error ends the run with the bytes in a
file ``crash-*`` of the working folder. `test_fuzz` looks for the same by properties.
"""

from __future__ import annotations

import gzip
import logging
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bids_unires", "nibabel", "json"]):
    import nibabel as nib
    import numpy as np

    from bids_unires.dataset.acquisition import (
        MAX_CONFIRMED_RATIO,
        MIN_THICKNESS_RATIO,
        acquisition_from_sidecar,
    )
    from bids_unires.dataset.metadata import SidecarError, load_object
    from bids_unires.dataset.reading import load_labels, load_volume
    from bids_unires.errors import UniResError

MEMORY_LIMIT = 2**26
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def read_nifti(folder: Path, content: bytes) -> None:
    """Read bytes as an image and as a segmentation, compressed or not."""
    compressed = content[:1] > b"\x7f"
    path = folder / ("image.nii.gz" if compressed else "image.nii")
    path.write_bytes(gzip.compress(content[1:], 1) if compressed else content[1:])
    for read in (load_volume, load_labels):
        with suppress(UniResError):
            read(path, MEMORY_LIMIT)


def read_sidecar(folder: Path, content: bytes) -> None:
    """Read bytes as a sidecar, and work out the acquisition from it."""
    path = folder / "image.json"
    path.write_bytes(content)
    with suppress(SidecarError):
        acquisition = acquisition_from_sidecar(load_object(path), AFFINE)
        thickness = 1 - acquisition.gap
        if not 0.98 * MIN_THICKNESS_RATIO < thickness < 1.02 * MAX_CONFIRMED_RATIO:
            raise AssertionError(f"a gap of {acquisition.gap}")


TARGETS: dict[str, Callable[[Path, bytes], None]] = {
    "nifti": read_nifti,
    "sidecar": read_sidecar,
}


def seeds(target: str) -> list[bytes]:
    """Valid content to begin with."""
    if target == "sidecar":
        return [
            b'{"MRAcquisitionType": "2D", "SliceThickness": 4.0, "SpacingBetweenSlices": 5.0}',
            b'{"SliceEncodingDirection": "k-", "SliceThickness": null, "RepetitionTime": [1e9]}',
            '{"InstitutionName": "Universität", "SliceThickness": "4"}'.encode("latin-1"),
            *('{"SliceThickness": 4}'.encode(codec) for codec in ("utf-8-sig", "utf-16", "utf-32")),
        ]
    voxels = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    images = (nib.Nifti1Image(voxels, AFFINE), nib.Nifti2Image(voxels.astype("f4"), AFFINE))
    for image in images:
        image.set_qform(AFFINE, 1)
        image.header.extensions.append(
            nib.nifti1.Nifti1Extension("afni", b"<AFNI_attributes>" * 50)
        )
    return [mark + image.to_bytes() for image in images for mark in (b"\x00", b"\xff")]


def main() -> None:
    target, seconds = sys.argv[1], int(float(sys.argv[2]))
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, content in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(content)

        def once(content: bytes) -> None:
            TARGETS[target](folder, content)

        options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
