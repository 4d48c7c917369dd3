"""Write results as the folder of an nnU-Net dataset (Isensee et al. 2021).

The layout is that of version 2 of nnU-Net: ``imagesTs/CASE_0000.nii.gz``, where the number at the
end is that of the channel, and ``dataset.json``, which names the channels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import CT_SUFFIX
from ..dataset.derivatives import ResultImage
from ..dataset.entities import listing
from ..dataset.metadata import SidecarError, load_object
from ..dataset.reading import grid_of
from ..errors import NothingSelectedError, OutputError
from .files import Export, ExportedFile, TextFile, Written, check_place, image_file, write_files
from .selection import SelectedUnit, contrasts_of
from .table import NOT_KNOWN, read_rows, table_text

logger = logging.getLogger("bids_unires")

DESCRIPTION = "dataset.json"
CASES = "cases.tsv"
IMAGES = "imagesTs"
ENDING = ".nii.gz"
# nnU-Net clips the intensities of channels with this name as it should for CT.
_CT_CHANNEL = "CT"


@dataclass(frozen=True)
class NnunetOutcome:
    """What was handed over.

    Parameters
    ----------
    channels
        Names of the channels, the first of which is number 0.
    cases
        Names of the cases that were handed over.
    left_out
        Reasons why participants and sessions were left out, by their labels.
    written
        Number of images that were written.
    """

    channels: tuple[str, ...]
    cases: tuple[str, ...]
    left_out: Mapping[str, str]
    written: Written


def export_nnunet(
    units: Sequence[SelectedUnit], export: Export, contrasts: Sequence[str] = ()
) -> NnunetOutcome:
    """Write the images of all participants and sessions that have every channel.

    Parameters
    ----------
    units
        The images; see `select_images`.
    export
        Where to, and how.
    contrasts
        Names of the contrasts in the order of the channels; if empty, all contrasts in the order
        T1w, T2w, PDw, FLAIR, others, CT.

    Raises
    ------
    NothingSelectedError
        If nobody has all channels.
    OutputError
        If the folder has other channels or other files, or images with other content.
    UniResError
        If an image cannot be read, or a file cannot be written.
    """
    contrasts = tuple(contrasts) or contrasts_of(units)
    channels = tuple(map(_channel, contrasts))
    left_out = {unit.label: reason for unit in units if (reason := _fault(unit, contrasts))}
    whole = [unit for unit in units if unit.label not in left_out]
    if not whole:
        raise NothingSelectedError(
            f"nobody has all of {listing(contrasts)} on one grid: name fewer by --contrasts "
            f"({'; '.join(f'{label} {reason}' for label, reason in left_out.items())})"
        )
    check_place(export.folder, export.results_dir)
    _check_channels(export.folder, channels)
    images = [
        image_file(
            unit.images[name].path,
            Path(IMAGES) / f"{unit.label}_{number:04d}{ENDING}",
            link=export.link,
            integers=export.integers,
        )
        for unit in whole
        for number, name in enumerate(contrasts)
    ]
    shared = list(_description_and_cases(export, channels, units, left_out))
    written = write_files(export.folder, images, shared, overwrite=export.overwrite)
    cases = tuple(unit.label for unit in whole)
    return NnunetOutcome(channels, cases, left_out, written)


def _channel(contrast: str) -> str:
    return _CT_CHANNEL if contrast == CT_SUFFIX else contrast


def _fault(unit: SelectedUnit, contrasts: Sequence[str]) -> str:
    """Why a unit cannot be a case, in words; empty if it can."""
    missing = [name for name in contrasts if name not in unit.images]
    if missing:
        return f"lacks {listing(missing)}"
    images: list[ResultImage] = [unit.images[name] for name in contrasts]
    grids = [grid_of(image.path) for image in images]
    if any(grid is None or grid != grids[0] for grid in grids):
        return "has images on several grids: run the group level on it again"
    return ""


def _check_channels(folder: Path, channels: Sequence[str]) -> None:
    """Raise an error if the numbers of the channels mean other contrasts in this folder."""
    description = folder / DESCRIPTION
    if not description.exists():
        if (folder / IMAGES).is_dir() and any((folder / IMAGES).iterdir()):
            raise OutputError(
                f"{folder / IMAGES} holds images, and no {DESCRIPTION} says of which channels: "
                "name another folder"
            )
        return
    try:
        named = load_object(description).get("channel_names")
    except SidecarError as error:
        raise OutputError(f"{description} is there but not readable: {error}") from error
    there = [name for _, name in sorted(named.items())] if isinstance(named, dict) else []
    if there != list(channels):
        raise OutputError(
            f"{description} has the channels {listing(map(str, there)) or 'of no name'}, and this "
            f"export {listing(channels)}: name the contrasts in that order by --contrasts, or "
            "name another folder"
        )


def _description_and_cases(
    export: Export,
    channels: Sequence[str],
    units: Sequence[SelectedUnit],
    left_out: Mapping[str, str],
) -> Iterator[ExportedFile]:
    """``dataset.json``, unless it is there, and the table of cases."""
    if not (export.folder / DESCRIPTION).exists():
        content = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {"background": 0},
            "numTraining": 0,
            "file_ending": ENDING,
            "name": export.folder.name,
            "reference": export.results_dir.resolve().as_uri(),
        }
        yield TextFile(Path(DESCRIPTION), json.dumps(content, indent=2) + "\n")
    rows = [
        {
            "case": unit.label,
            "participant_id": f"sub-{unit.participant}",
            "session_id": f"ses-{unit.session}" if unit.session else NOT_KNOWN,
            "space": unit.space,
            "resolution": unit.resolution,
            "status": "left out" if unit.label in left_out else "exported",
            "reason": left_out.get(unit.label, NOT_KNOWN),
        }
        for unit in units
    ]
    before = read_rows(export.folder / CASES)
    yield TextFile(Path(CASES), table_text(rows, before, key="case"))
