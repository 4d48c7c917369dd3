"""Write results as a raw BIDS dataset, for programs that read no derivatives."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..dataset.derivatives import ResultImage
from ..dataset.description import BIDS_VERSION, PIPELINE_NAME, generated_by, linked_folder
from ..dataset.metadata import SidecarError, load_object
from ..dataset.naming import raw_image_path, sidecar_path
from ..dataset.sidecar import INHERITED
from ..errors import OutputError
from ..records.image import ImageRecord
from .files import Export, ExportedFile, TextFile, Written, check_place, image_file, write_files
from .selection import SelectedUnit
from .table import read_rows, table_text

logger = logging.getLogger("bids_unires")

# Name under which the exported dataset links to the results.
RESULTS = "unires"
_PARTICIPANT = "participant_id"
# CT is in no BIDS schema, so the validator is told to pass over it.
_IGNORED = "ct\n*_ct.*\n"
_README = """\
# Super-resolved images under raw names

Made by {name} {version} for programs that read raw BIDS datasets only. These images were
reconstructed from scans; nobody acquired them. The label of `rec-` says how: `sr` (super-resolved),
`denoised` or `resliced` (interpolated). Every sidecar names the image of the results that its
image was made of (`Sources`) and the settings (`UniRes`); the results link to the scans.
"""


def export_raw(units: Sequence[SelectedUnit], export: Export) -> Written:
    """Write images, sidecars and the files that describe the dataset.

    Participants of an earlier export into the same folder are kept.

    Parameters
    ----------
    units
        The images; see `select_images`.
    export
        Where to, and how.

    Raises
    ------
    OutputError
        If the folder holds another dataset, or files with other content.
    UniResError
        If an image cannot be read, or a file cannot be written.
    """
    _check_folder(export)
    files: list[ExportedFile] = []
    for unit in units:
        for image in unit.images.values():
            path = raw_image_path(unit.participant, unit.session, image.entities, desc=image.desc)
            files += [
                TextFile(sidecar_path(path), _json(_sidecar(image, export.results_dir))),
                image_file(image.path, path, link=export.link, integers=export.integers),
            ]
    shared = list(_dataset_files(units, export))
    return write_files(export.folder, files, shared, overwrite=export.overwrite)


def _check_folder(export: Export) -> None:
    """Raise an error unless the folder is new, empty, or an earlier export of the same results."""
    check_place(export.folder, export.results_dir)
    if not export.folder.exists() or not any(export.folder.iterdir()):
        return
    try:
        description = load_object(export.folder / "dataset_description.json")
        source = linked_folder(export.folder, RESULTS)
    except SidecarError:
        description, source = {}, None
    if description.get("DatasetType") != "raw" or source is None:
        raise OutputError(
            f"{export.folder} holds other files already: name a new folder for the raw dataset"
        )
    if source != export.results_dir.resolve() and not export.overwrite:
        raise OutputError(
            f"{export.folder} holds an export of {source}: name another folder for that of "
            f"{export.results_dir}; or, if these are the same results, moved, use --overwrite"
        )


def _sidecar(image: ResultImage, results_dir: Path) -> dict[str, Any]:
    """Sidecar of an exported image: what still holds of its scans, and how it was made."""
    relative = image.path.relative_to(results_dir).as_posix()
    scans = image.metadata.get("Sources")
    record = ImageRecord.of_sidecar(image.metadata)
    content = {
        "Description": image.metadata.get("Description", "Image reconstructed by UniRes"),
        "Sources": [f"bids:{RESULTS}:{relative}", *(scans if isinstance(scans, list) else ())],
        **{key: image.metadata[key] for key in INHERITED if key in image.metadata},
        "SkullStripped": image.metadata.get("SkullStripped") is True,
    }
    return ImageRecord(version=record.version, settings=record.settings).in_sidecar(content)


def _dataset_files(units: Sequence[SelectedUnit], export: Export) -> Iterator[ExportedFile]:
    description = _description(export)
    version = description["GeneratedBy"][0]["Version"]
    yield TextFile(Path("dataset_description.json"), _json(description))
    yield TextFile(Path("README"), _README.format(name=PIPELINE_NAME, version=version))
    yield TextFile(Path(".bidsignore"), _IGNORED)
    yield from _participants(units, export)


def _description(export: Export) -> dict[str, Any]:
    of_results = load_object(export.results_dir / "dataset_description.json")
    results = export.results_dir.resolve().as_uri()
    links = {RESULTS: results}
    raw = linked_folder(export.results_dir, "raw")
    if raw is not None:
        links["raw"] = raw.as_uri()
    sources = of_results.get("SourceDatasets")
    return {
        "Name": of_results.get("Name", "Super-resolved images"),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        **_terms(of_results, raw),
        "GeneratedBy": [generated_by()],
        "SourceDatasets": [{"URL": results}, *(sources if isinstance(sources, list) else ())],
        "DatasetLinks": links,
    }


def _terms(of_results: Mapping[str, Any], raw: Path | None) -> dict[str, Any]:
    """Licence of the results, authors of the scans, and what to cite."""
    terms = {"License": of_results["License"]} if "License" in of_results else {}
    if raw is not None:
        # The scans may be elsewhere by now; their authors are then not known.
        with suppress(SidecarError):
            authors = load_object(raw / "dataset_description.json").get("Authors")
            terms |= {"Authors": authors} if authors else {}
    cite = "Please cite the publications listed in logs/CITATION.md of the results."
    return terms | {"HowToAcknowledge": cite}


def _participants(units: Sequence[SelectedUnit], export: Export) -> Iterator[ExportedFile]:
    """``participants.tsv``: rows of the raw dataset, if it is there, and of earlier exports."""
    raw = linked_folder(export.results_dir, "raw")
    known: dict[str, Mapping[str, str]] = {}
    if raw is not None:
        rows = read_rows(raw / "participants.tsv")
        known = {row[_PARTICIPANT]: row for row in rows if _PARTICIPANT in row}
        explained = raw / "participants.json"
        if known and explained.is_file():
            try:
                yield TextFile(Path("participants.json"), _json(load_object(explained)))
            except SidecarError as error:
                logger.warning("%s is not handed over: %s", explained, error)
    labels = dict.fromkeys(f"sub-{unit.participant}" for unit in units)
    rows = [{**known.get(label, {}), _PARTICIPANT: label} for label in labels]
    before = read_rows(export.folder / "participants.tsv")
    yield TextFile(Path("participants.tsv"), table_text(rows, before, key=_PARTICIPANT))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
