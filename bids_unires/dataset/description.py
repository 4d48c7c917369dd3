"""Files that describe the whole output dataset, such as ``dataset_description.json``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import __version__
from ..errors import OutputError
from .metadata import load_object
from .writing import write_json, write_once, write_text

PIPELINE_NAME = "bids_unires"
BIDS_VERSION = "1.11.1"
# Environment variables that a container image sets, so that the results name the container.
CONTAINER_VARIABLES = {
    "Type": "BIDS_UNIRES_CONTAINER_TYPE",
    "Tag": "BIDS_UNIRES_CONTAINER_TAG",
    "URI": "BIDS_UNIRES_CONTAINER_URI",
}
DESCRIPTIONS = {
    "sr": "Super-resolved by maximum a posteriori reconstruction from all scans of the participant",
    "srStd": "Standard deviation of the image with the description sr, voxel by voxel",
    "srMeasured": "Share of the detail of the image with the description sr that scans measured",
    "denoised": "Denoised on the grid of the scan by the same model, without super-resolution",
    "denoisedStd": "Standard deviation of the image with the description denoised, voxel by voxel",
    "denoisedMeasured": (
        "Share of the detail of the image with the description denoised that scans measured"
    ),
    "resliced": "Interpolated linearly to the grid of the participant, without a model",
    "fov": "Field of view: where at least one scan of every contrast measured",
    "brain": "The brain",
    "head": "The head",
    "grid": "The grid that all participants share",
    "cohort": "Mean over all participants, coarse, that they were aligned to",
}
# Patterns of `.bidsignore`. They have no trailing slash, because the validator would not match
# it. CT is listed because BIDS does not define it yet.
IGNORED = ("logs", "figures", "*.html", "*_xfm.*", "ct", "*_ct.*", "group_*")
_COLUMNS = "desc_id\tdescription"
# Sidecar of `descriptions.tsv`.
_ABOUT_DESCRIPTIONS = {
    "Description": "What the labels of the desc entity in the file names of this dataset mean",
    "desc_id": {"Description": "The entity, as it stands in file names"},
    "description": {"Description": "How images with this label were made, or what they show"},
}
# Lines of the README that version 0.1.0 wrote, and those that took their places.
_FORMER_README = """\
- `*_space-study_*`: images, masks and labels of all participants on one grid, whose sides a
  network can halve again and again. `space-study_*_desc-grid_mask.nii.gz` is that grid, and its
  sidecar says how it came about; `space-study_*_desc-mean_*.nii.gz` are means over participants.
"""
_PRESENT_README = """\
- `*_space-study_*`: images, masks and labels of all participants on one grid, whose sides a
  network can halve again and again.
- `tpl-study`: what belongs to all participants. `anat/tpl-study_*_desc-grid_mask.nii.gz` is the
  grid, and its sidecar says how it came about; images without `desc-` are means over participants.
"""

README = """\
# Super-resolved images

Made by bids_unires {version} from the BIDS dataset it links to as `raw`.

- `sub-*/[ses-*/]anat/*_space-individual_res-*_desc-sr_*.nii.gz`: one image per contrast, all
  contrasts of a participant (and session) on one grid. Their sidecars tell from which scans, with
  which settings, and how well the image explains the scans.
- `*_desc-srStd_*.nii.gz` (of runs with `--uncertainty`): the standard deviation of each voxel of
  the image beside it, in its units. Where no scan of the contrast measured, it is as large as the
  contrast between head and air: any value was possible.
- `*_desc-srMeasured_*.nii.gz` (of runs with `--measured-map`): the share of the detail of the image
  beside it that the scans measured, 0 to 1, around each voxel. The rest was inferred: had it been
  different, the scans would be the same.
- `sub-*/[ses-*/]ct/*_ct.nii.gz`: the same of CT, in Hounsfield units.
- `*_dseg.nii.gz`: label images that came with the scans, on the same grid.
- `*_desc-fov_mask.nii.gz`: where at least one scan of every contrast measured. Outside of it
  at least one contrast has no data. An image is 0 where none of its own scans measured, and CT as
  dark as air.
- `*_from-*_to-individual_mode-image_xfm.txt`: the position of each scan, in ITK's format:
  `antsApplyTransforms -i SCAN -r IMAGE -t FILE` brings the scan to the grid of the image.
- `logs`: what was run when, and what to cite.

Of the group level:

{study}\
- `*_from-*_to-study_mode-image_xfm.txt`: where each participant lies in the space of the study.
- `group_unires.tsv`: a row for each image, with its quality; `group_unires.json` explains it.
- `group_unires.html`: everybody on the common grid, and that table with its outliers marked.
"""


def write_dataset_files(output_dir: Path, bids_dir: Path, labels: Path | None = None) -> None:
    """Write the files that all participants share, unless another process has written them.

    Files of another version of this program are updated; what users added to them is kept.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    bids_dir
        The raw dataset, to which the description links as ``raw``.
    labels
        The dataset of label images, to which the description links as ``labels``. If the
        description already exists, the link is added.

    Raises
    ------
    OutputError
        If a file cannot be created, or results in ``output_dir`` refer to another dataset of
        label images.
    """
    description = json.dumps(dataset_description(output_dir, bids_dir, labels), indent=2)
    files = {
        "dataset_description.json": description + "\n",
        "README": README.format(version=__version__, study=_PRESENT_README),
        ".bidsignore": _with_ignored(""),
        "descriptions.tsv": _with_descriptions(f"{_COLUMNS}\n"),
        "descriptions.json": json.dumps(_ABOUT_DESCRIPTIONS, indent=2) + "\n",
    }
    for name, text in files.items():
        write_once(output_dir / name, text)
    _follow_version(output_dir)
    if labels is not None:
        _link_labels(output_dir, labels)


def raw_link(output_dir: Path, bids_dir: Path) -> tuple[str, Path] | None:
    """The link ``raw`` of a description, if it leads to another folder than the raw dataset.

    A link that a user replaced by another kind of address (``https:``, ``doi:``) is accepted.

    Returns
    -------
    tuple of str and Path, or None
        The link, and the folder to which it leads; None if the link is right or missing.
    """
    path = output_dir / "dataset_description.json"
    links = load_object(path).get("DatasetLinks") if path.exists() else None
    stored = links.get("raw") if isinstance(links, dict) else None
    if not isinstance(stored, str):
        return None
    address = urlsplit(stored)
    if address.scheme not in ("", "file"):
        return None
    folder = (output_dir.resolve() / unquote(address.path)).resolve()
    return None if folder == bids_dir.resolve() else (stored, folder)


def linked_folder(dataset: Path, name: str) -> Path | None:
    """The folder of a dataset to which a derivative dataset links under a name.

    Returns
    -------
    Path or None
        None if there is no such link, or if it is no path and no ``file:`` URI.

    Raises
    ------
    SidecarError
        If the description of the dataset cannot be read.
    """
    links = load_object(dataset / "dataset_description.json").get("DatasetLinks")
    stored = links.get(name) if isinstance(links, dict) else None
    address = urlsplit(stored) if isinstance(stored, str) else None
    if address is None or address.scheme not in ("", "file"):
        return None
    return (dataset.resolve() / unquote(address.path)).resolve()


def relink_raw(output_dir: Path, bids_dir: Path) -> None:
    """Make a description link to the present folder of the raw dataset."""
    path = output_dir / "dataset_description.json"
    description = load_object(path)
    stored = description["DatasetLinks"]["raw"]
    link = _link(output_dir.resolve(), bids_dir.resolve())
    description["DatasetLinks"]["raw"] = link
    sources = description.get("SourceDatasets")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and source.get("URL") == stored:
            source["URL"] = link
    write_json(path, description)


def _follow_version(output_dir: Path) -> None:
    """Update the files that another version of this program wrote, for another version of BIDS."""
    path = output_dir / "dataset_description.json"
    description = load_object(path)
    listed = description.get("GeneratedBy")
    listed = listed if isinstance(listed, list) else []
    entries = [each for each in listed if isinstance(each, dict)]
    ours = next((each for each in entries if each.get("Name") == PIPELINE_NAME), {})
    follows = description.get("BIDSVersion") == BIDS_VERSION
    if ours.get("Version") is None or (ours["Version"] == __version__ and follows):
        return
    renewals = {
        "README": _renewed_readme,
        ".bidsignore": _with_ignored,
        "descriptions.tsv": _with_descriptions,
    }
    for name, renewed in renewals.items():
        # A file that cannot be read as UTF-8 was replaced by its user and is left as it is.
        with suppress(OSError, UnicodeDecodeError):
            before = (output_dir / name).read_text("utf-8")
            if (now := renewed(before)) != before:
                write_text(output_dir / name, now)
    for name in ("CodeURL", "Container"):
        ours.pop(name, None)
    ours.update(generated_by())
    description["BIDSVersion"] = BIDS_VERSION
    # Written last: if this process is killed before, the old version number remains, and the
    # next run updates the files.
    write_json(path, description)


def _renewed_readme(readme: str) -> str:
    """The README with the present version and file names; changes that users made are kept."""
    renewed = readme.replace(_FORMER_README, _PRESENT_README)
    made_by = rf"(?<=^Made by {PIPELINE_NAME} )\S+"
    return re.sub(made_by, __version__, renewed, flags=re.MULTILINE)


def _with_ignored(patterns: str) -> str:
    """Add the patterns of `IGNORED` that a ``.bidsignore`` lacks."""
    lines = patterns.splitlines()
    return "\n".join([*lines, *(each for each in IGNORED if each not in lines)]) + "\n"


def _with_descriptions(table: str) -> str:
    """Add the rows of `DESCRIPTIONS` that a table lacks; its other rows are kept."""
    columns, *rows = table.splitlines() or [""]
    if columns != _COLUMNS:
        return table
    ours = {f"desc-{label}": text for label, text in DESCRIPTIONS.items()}
    others = [row for row in rows if row.split("\t")[0] not in ours]
    named = [f"{label}\t{text}" for label, text in sorted(ours.items())]
    return "\n".join([columns, *named, *others]) + "\n"


def _link_labels(output_dir: Path, labels: Path) -> None:
    path = output_dir / "dataset_description.json"
    description = load_object(path)
    links = description.setdefault("DatasetLinks", {})
    link = _link(output_dir.resolve(), labels.resolve())
    if "labels" not in links:
        links["labels"] = link
        write_json(path, description)
    elif links["labels"] != link:
        raise OutputError(
            f"results in {output_dir} refer to the label images in {links['labels']}: "
            f"choose another output folder for those in {labels}"
        )


def raw_description(folder: Path) -> dict[str, Any]:
    """Description of a raw dataset; empty for a folder of scans that is no BIDS dataset."""
    path = folder / "dataset_description.json"
    return load_object(path) if path.exists() else {}


def dataset_description(
    output_dir: Path, bids_dir: Path, labels: Path | None = None
) -> dict[str, Any]:
    """Content of ``dataset_description.json``; see `write_dataset_files`.

    If the derivatives are inside the raw dataset, the link to it is a relative path, so that both
    can be moved together. Otherwise it is a ``file:`` URI.
    """
    raw = raw_description(bids_dir)
    link = _link(output_dir.resolve(), bids_dir.resolve())
    links = {"raw": link}
    if labels is not None:
        links["labels"] = _link(output_dir.resolve(), labels.resolve())
    description = {
        "Name": f"{raw.get('Name', bids_dir.resolve().name)}: super-resolved images",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated_by()],
        "SourceDatasets": [_source(raw, link)],
        "DatasetLinks": links,
        "HowToAcknowledge": "Please cite the publications listed in logs/CITATION.md.",
    }
    # Derivatives can be shared only under the licence of the raw data.
    if isinstance(raw.get("License"), str):
        description["License"] = raw["License"]
    return description


def generated_by(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Name, version and URL of this program, and the container in which it runs."""
    pipeline: dict[str, Any] = {"Name": PIPELINE_NAME, "Version": __version__}
    url = _code_url()
    if url:
        pipeline["CodeURL"] = url
    container = {
        key: environment[variable]
        for key, variable in CONTAINER_VARIABLES.items()
        if environment.get(variable)
    }
    if container:
        pipeline["Container"] = container
    return pipeline


def _code_url() -> str | None:
    try:
        urls = metadata.metadata(PIPELINE_NAME).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return None
    named = dict(url.split(", ", 1) for url in urls)
    return next(
        (named[name] for name in ("Source", "Repository", "Homepage") if name in named), None
    )


def _link(output_dir: Path, bids_dir: Path) -> str:
    if output_dir.is_relative_to(bids_dir):
        return "/".join([".."] * len(output_dir.relative_to(bids_dir).parts))
    return bids_dir.as_uri()


def _source(raw: Mapping[str, Any], link: str) -> dict[str, str]:
    doi = raw.get("DatasetDOI")
    return {"DOI": doi} if isinstance(doi, str) and doi else {"URL": link}
