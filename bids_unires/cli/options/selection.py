"""Options that select participants, sessions and images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from ...config import MRI_SUFFIXES, AnatomicalReference
from .values import bare_label, suffix


def add_selection(group: argparse._ArgumentGroup) -> None:
    """Add the options that select participants, sessions and images."""
    group.add_argument(
        "--participant-label",
        "--participant_label",
        type=bare_label("sub-"),
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        "--session_label",
        "--session-id",
        type=bare_label("ses-"),
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "-m",
        "--modalities",
        type=suffix,
        nargs="+",
        action="extend",
        metavar="SUFFIX",
        help="contrasts to use, by their BIDS suffixes; others are left out "
        f"(default: {' '.join(MRI_SUFFIXES)})",
    )
    add_visits(group)
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON file of pybids filters per modality: {"t1w": {"acquisition": null}}; '
        'null stands for "absent" and "*" for any value',
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FOLDER",
        help="BIDS derivatives with label images of the scans, to be resampled to the grid of the "
        "results",
    )
    group.add_argument(
        "--skip-bids-validation",
        "--skip_bids_validation",
        "--skip_bids_validator",
        action="store_true",
        help="do not run the BIDS validator on the input",
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="FOLDER",
        help="keep the index of the dataset here and use it again; delete the folder when the "
        "dataset has changed (default: index in memory)",
    )


def add_visits(group: argparse._ArgumentGroup) -> None:
    """Add the option that puts all sessions of a participant on one grid."""
    group.add_argument(
        "--subject-anatomical-reference",
        "--subject_anatomical_reference",
        choices=get_args(AnatomicalReference),
        help="one grid for each session of a participant (sessionwise), or one for all, so that "
        "images of visits can be subtracted: at the position of the first session (first-lex) or "
        "at the mean position (unbiased) (default: sessionwise)",
    )
