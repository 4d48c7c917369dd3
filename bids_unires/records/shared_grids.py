"""Remove the files of visits that share a space no more."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..dataset.metadata import SidecarError, load_object
from ..dataset.sidecar import derivative_uri
from .visits import VisitsRecord
from .work_record import read_record

logger = logging.getLogger("bids_unires")

# Names of the stages that place visits and show them.
_STAGES = ("visits", "visits-page")


def remove_unused_grids(output_dir: Path, participants: Iterable[str]) -> None:
    """Remove the grids that no image lies on any more, and the pages that showed visits on them.

    They are left over when sessions that shared a space were done again with a space for each.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    participants
        Labels, without ``sub-``.
    """
    for participant in participants:
        label = f"sub-{participant}"
        records = [output_dir / "logs" / stage / f"{label}.json" for stage in _STAGES]
        if not any(record.is_file() for record in records):
            continue
        used = set(_references(output_dir / label))
        unused = [
            path for path in _shared_grids(output_dir / label) if _uri(output_dir, path) not in used
        ]
        if not unused:
            continue
        written = [
            output_dir / name for path in records for name in read_record(path).outputs or ()
        ]
        masks = [path.with_suffix(".nii.gz") for path in unused]
        for path in {*written, *unused, *masks, *records}:
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            unused[0].parent.rmdir()
        logger.info("%s: its sessions share no grid any more; the files of it are removed", label)


def _shared_grids(folder: Path) -> Iterator[Path]:
    """Sidecars of masks on grids that visits of a participant share."""
    for path in sorted(folder.glob(f"*/{folder.name}_space-*_desc-fov_mask.json")):
        with suppress(SidecarError):
            if VisitsRecord.read(path).reference is not None:
                yield path


def _references(folder: Path) -> Iterator[str]:
    """URIs of the images that define the grids of the sessions of a participant."""
    for path in folder.glob("ses-*/*/*_desc-fov_mask.json"):
        with suppress(SidecarError):
            yield str(load_object(path).get("SpatialReference"))


def _uri(output_dir: Path, sidecar: Path) -> str:
    return derivative_uri(output_dir, sidecar.with_suffix(".nii.gz"))
