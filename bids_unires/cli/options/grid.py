"""Options of alignment and grid, of CT and of the group level."""

from __future__ import annotations

import argparse
from typing import get_args

from ...config import Alignment, FieldOfView, GridPolicy, GroupMode, GroupSettings, SpaceSettings
from .values import positive

_SPACE = SpaceSettings()
_GROUP = GroupSettings()


def add_space(group: argparse._ArgumentGroup) -> None:
    """Add the options of alignment and grid."""
    group.add_argument(
        "--common-output",
        "--common_output",
        action="store_true",
        help="put all participants on the same grid: the box of the template, with sides of "
        "2^k or 3*2^k voxels; implies --align rigid unless --align similarity is given",
    )
    group.add_argument(
        "--fov",
        choices=get_args(FieldOfView),
        help=f"what the common grid contains (default: {_SPACE.fov})",
    )
    group.add_argument(
        "--template",
        metavar="NAME",
        help=f"name of the template in TemplateFlow (default: {_SPACE.template}); at the group "
        "level, none aligns participants to their own mean",
    )
    group.add_argument(
        "--align",
        choices=get_args(Alignment),
        help="alignment of the scans to the template before the fit; similarity is rigid with "
        f"one scale for all axes (default: {_SPACE.align}; at the group level: rigid)",
    )


def add_ct(group: argparse._ArgumentGroup) -> None:
    """Add the options of CT."""
    group.add_argument(
        "--ct", action="store_true", help="use CT scans too (*_ct.nii.gz); the same as ct in -m"
    )
    add_reset_origin(group)


def add_reset_origin(group: argparse._ArgumentGroup) -> None:
    """Add the option that moves the origin of CT."""
    group.add_argument(
        "--reset-origin",
        "--res-origin",
        "--res_origin",
        "--do_res_origin",
        action="store_true",
        help="move the origin of CT scans, often metres away, to their centre",
    )


def add_group(group: argparse._ArgumentGroup) -> None:
    """Add the options of the group level."""
    group.add_argument(
        "--group-mode",
        dest="mode",
        choices=get_args(GroupMode),
        help="refit: fit the scans again on the shared grid; reslice: interpolate the images of "
        "the participant level; auto: refit where the scans are available (default: "
        f"{_GROUP.mode})",
    )
    group.add_argument(
        "--grid-policy",
        choices=get_args(GridPolicy),
        help="sides of the shared grid: 2^k or 3*2^k (pow23), 2^k (pow2), or multiples of "
        f"--grid-multiple (default: {_GROUP.grid_policy})",
    )
    group.add_argument(
        "--grid-multiple",
        type=positive,
        metavar="N",
        help=f"in voxels, for --grid-policy multiple (default: {_GROUP.grid_multiple})",
    )
    group.add_argument(
        "--grid-margin",
        type=float,
        metavar="MM",
        help=f"margin around every brain, or head, in mm (default: {_GROUP.grid_margin:g})",
    )
    group.add_argument(
        "--reports-only",
        action="store_true",
        help="group level: write only the table and the page again",
    )
