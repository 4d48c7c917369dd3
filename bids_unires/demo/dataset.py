"""Files of the demonstration: a raw BIDS dataset, and the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..dataset.naming import sidecar_path
from ..dataset.writing import write_json, write_text
from ..errors import OutputError
from ..space.affines import Affine
from ..space.volume import Volume
from .phantom import Participant, TissueMaps, build_anatomy
from .scanner import Motion, Protocol, acquire

DATASET_NAME = "Simulated thick-slice scans of two heads"

_README = """\
Simulated scans of simulated heads, made by `bids_unires demo`.

Each participant has a T1w, a T2w and a FLAIR scan of 4 mm slices, 1 mm in plane, each
with its slices in another plane and the head moved by a few mm and degrees in between.
The heads come from the ICBM152 2009a symmetric template with its grey- and white-matter
maps; skull, scalp, perivascular spaces and lesions are synthetic. Nobody was scanned.

The template is copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre,
Montreal Neurological Institute, McGill University. Permission to use, copy, modify, and
distribute it is granted for any purpose without fee, provided that this notice appears
in all copies; the authors and McGill University make no representations about its
suitability for any purpose.
"""

_DESCRIPTION = {
    "Name": DATASET_NAME,
    "BIDSVersion": "1.11.1",
    "DatasetType": "raw",
    "Authors": ["bids_unires demo"],
    "Acknowledgements": "ICBM152 2009a template of the McConnell Brain Imaging Centre",
    "ReferencesAndLinks": ["https://doi.org/10.1016/j.neuroimage.2010.07.033"],
}


@dataclass(frozen=True)
class DemoPaths:
    """Folders and files of the demonstration.

    Parameters
    ----------
    root
        Folder given by the user.
    """

    root: Path

    @property
    def bids(self) -> Path:
        """Folder of the raw dataset."""
        return self.root / "bids"

    @property
    def truth(self) -> Path:
        """Folder of the true images and masks."""
        return self.root / "truth"

    @property
    def derivatives(self) -> Path:
        """Folder of the results of both levels."""
        return self.root / "derivatives"

    def scan(self, label: str, suffix: str) -> Path:
        """File of one scan with thick slices."""
        return self.bids / f"sub-{label}" / "anat" / f"sub-{label}_{suffix}.nii.gz"

    def true_image(self, label: str, suffix: str) -> Path:
        """File of one contrast at full resolution and without noise."""
        return self.truth / f"sub-{label}" / f"sub-{label}_{suffix}.nii.gz"

    def true_head(self, label: str) -> Path:
        """File of the mask of the head, which is everything but air."""
        return self.truth / f"sub-{label}" / f"sub-{label}_desc-head_mask.nii.gz"


def claim(root: Path) -> DemoPaths:
    """Make sure that a folder is new, is empty, or holds an earlier demonstration.

    Parameters
    ----------
    root
        Folder to write to; it is created if it does not exist.

    Returns
    -------
    DemoPaths
        Folders and files inside it.

    Raises
    ------
    OutputError
        If the folder holds other files, or cannot be created.
    """
    paths = DemoPaths(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        empty = not any(root.iterdir())
    except OSError as error:
        raise OutputError(
            f"cannot write to {root}: {error.strerror}; name another folder"
        ) from error
    if not empty and _name_of(paths.bids) != DATASET_NAME:
        raise OutputError(f"{root} holds other files; name a new or an empty folder for the demo")
    return paths


def _name_of(dataset: Path) -> str | None:
    try:
        description = json.loads((dataset / "dataset_description.json").read_text())
    except (OSError, ValueError):
        return None
    return description.get("Name") if isinstance(description, dict) else None


def write_dataset(
    paths: DemoPaths,
    maps: TissueMaps,
    participants: Sequence[Participant],
    protocols: Sequence[Protocol],
    motions: dict[tuple[str, str], Motion],
    workers: int = 2,
) -> None:
    """Simulate every participant and write the raw dataset and the truth.

    Parameters
    ----------
    paths
        Folders and files to write; existing files of the same name are replaced.
    maps
        Template from which all heads are simulated.
    participants
        Participants to scan.
    protocols
        Scans of each participant.
    motions
        Position of the head in each scan, by participant label and suffix.
    workers
        Number of participants simulated in parallel, each on one core.
    """
    write_json(paths.bids / "dataset_description.json", _DESCRIPTION)
    write_text(paths.bids / "README", _README)
    rows = ["participant_id", *(f"sub-{participant.label}" for participant in participants)]
    write_text(paths.bids / "participants.tsv", "\n".join(rows) + "\n")

    def simulate(participant: Participant) -> None:
        for path, volume in _simulated(paths, maps, participant, protocols, motions):
            _write_image(path, volume.data, volume.affine)
        for protocol in protocols:
            scan = paths.scan(participant.label, protocol.suffix)
            write_json(sidecar_path(scan), protocol.sidecar())

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(simulate, participants):
            pass


def _simulated(
    paths: DemoPaths,
    maps: TissueMaps,
    participant: Participant,
    protocols: Sequence[Protocol],
    motions: dict[tuple[str, str], Motion],
) -> Iterator[tuple[Path, Volume]]:
    """Simulate every image of a participant; yield the file to write it to, and the image."""
    anatomy = build_anatomy(maps, participant)
    affine = anatomy.grid.affine
    head = anatomy.head.astype(np.float32)
    yield paths.true_head(participant.label), Volume(head, affine)
    for order, protocol in enumerate(protocols):
        key = (participant.label, protocol.suffix)
        truth = Volume(anatomy.image(protocol.intensities, protocol.texture_gain), affine)
        yield paths.true_image(*key), truth
        rng = np.random.default_rng([participant.seed, order])
        yield paths.scan(*key), acquire(truth, protocol, motions[key], rng)


def _write_image(path: Path, data: NDArray[np.float32], affine: Affine) -> None:
    """Write intensities, rounded to int16, with the same affine in sform and qform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.rint(data).astype(np.int16), affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
