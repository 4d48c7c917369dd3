"""The command ``bids_unires export``, which hands results over to other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..export.files import Export
from ..export.nnunet import export_nnunet
from ..export.raw import export_raw
from ..export.selection import SelectedUnit, Selection, select_images
from ..run.logs import logging_to_stderr
from .options.values import bare_label
from .parser import Parser

FORMATS = ("raw", "nnunet")


def export_parser() -> Parser:
    """Make the parser of the command."""
    parser = Parser(
        prog="bids_unires export",
        description="Hand the images of earlier runs over to other programs, under the names that "
        "they look for. Nothing is reconstructed again, and the scans need not be there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "format",
        choices=FORMATS,
        help="raw: a raw BIDS dataset, for FreeSurfer, fMRIPrep and other BIDS Apps; nnunet: the "
        "folder of an nnU-Net dataset (imagesTs, dataset.json)",
    )
    parser.add_argument("results_dir", type=Path, help="output folder of the runs")
    parser.add_argument("output_dir", type=Path, help="folder to write, beside the results")
    _add_selection(parser)
    _add_writing(parser)
    return parser


def _add_selection(parser: Parser) -> None:
    for what, key in (("participant", "sub-"), ("session", "ses-")):
        parser.add_argument(
            f"--{what}-label",
            f"--{what}_label",
            type=bare_label(key),
            nargs="+",
            default=(),
            metavar="LABEL",
            help=f"{what}s to hand over, with or without {key} (default: all)",
        )
    parser.add_argument(
        "--contrasts",
        nargs="+",
        default=(),
        metavar="NAME",
        help="contrasts to hand over, such as T1w or ce-gad_T1w; for nnunet in the order of its "
        "channels (default: all; T1w, T2w, PDw, FLAIR, others, CT)",
    )
    parser.add_argument(
        "--space",
        metavar="LABEL",
        help="space of the images: individual, or study for those of the group level (default: "
        "that of the participant level)",
    )
    parser.add_argument(
        "--res",
        metavar="LABEL",
        help="resolution of the images, such as 1mm (default: the one that is there)",
    )


def _add_writing(parser: Parser) -> None:
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--link",
        action="store_true",
        help="make symbolic links to the images, which need no room, and which a container "
        "follows only where it sees the results too (default: copies)",
    )
    kind.add_argument(
        "--integers",
        action="store_true",
        help="write images as int16 with a slope, for programs that read no float32",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files of an earlier export that have other content",
    )
    parser.add_argument("-q", "--quiet", action="count", default=0, help="say less")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more")


def run_export(argv: Sequence[str]) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments after ``bids_unires export``.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    UniResError
        If there is nothing to hand over, or it cannot be written.
    """
    given = export_parser().parse(argv)
    with logging_to_stderr(given["verbose"] - given["quiet"]):
        contrasts = tuple(given["contrasts"])
        if len(set(contrasts)) < len(contrasts):
            raise UsageError(f"--contrasts names one twice: {' '.join(contrasts)}")
        selection = Selection(
            participants=tuple(given["participant_label"]),
            sessions=tuple(given["session_label"]),
            contrasts=contrasts,
            space=given.get("space"),
            resolution=given.get("res"),
        )
        units = select_images(given["results_dir"], selection)
        export = _export_nnunet if given["format"] == "nnunet" else _export_raw
        print("\n".join(export(units, given)))
    return 0


def _export_raw(units: Sequence[SelectedUnit], given: dict[str, Any]) -> list[str]:
    written = export_raw(units, _export(given))
    images = sum(len(unit.images) for unit in units)
    return [
        f"{images} images of {len(units)} participants or sessions in {given['output_dir']}: "
        f"{written.new} files written, {written.replaced} replaced, {written.unchanged} unchanged"
    ]


def _export_nnunet(units: Sequence[SelectedUnit], given: dict[str, Any]) -> list[str]:
    outcome = export_nnunet(units, _export(given), given["contrasts"])
    written = outcome.written
    return [
        "channels: "
        + ", ".join(f"{number} {name}" for number, name in enumerate(outcome.channels)),
        f"{len(outcome.cases)} cases in {given['output_dir']}: {written.new} images written, "
        f"{written.replaced} replaced, {written.unchanged} unchanged",
        *(f"{label} is left out: it {reason}" for label, reason in outcome.left_out.items()),
    ]


def _export(given: dict[str, Any]) -> Export:
    how = {name: given[name] for name in ("link", "integers", "overwrite")}
    return Export(given["results_dir"], given["output_dir"], **how)
