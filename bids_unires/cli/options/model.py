"""Options of the model."""

from __future__ import annotations

import argparse
from typing import get_args

from ...config import DEFAULT_SAMPLES, LearningEffort, ModelSettings, RunConfig
from .values import strength, yes_or_no

_MODEL = ModelSettings()


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add the options of the model."""
    group.add_argument(
        "--voxel-size",
        "--vx",
        nargs="+",
        type=float,
        metavar="MM",
        help="voxel size of the results in mm, one number or three "
        f"(default: {_MODEL.voxel_size[0]:g}); 0, with --denoise: the finest of the scans",
    )
    group.add_argument(
        "--reg-scale",
        "--reg_scl",
        type=strength,
        metavar="NUMBER",
        help="strength of the prior; larger is smoother. auto finds it for each contrast "
        f"from the scans (default: {_MODEL.reg_scale})",
    )
    _add_method(group)
    _add_corrections(group)
    _add_statements(group)
    _add_end(group)


def _add_method(group: argparse._ArgumentGroup) -> None:
    """Add the options for methods other than super-resolution."""
    method = group.add_mutually_exclusive_group()
    method.add_argument(
        "--denoise",
        "--denoising",
        dest="method",
        action="store_const",
        const="denoise",
        help="remove noise only, without super-resolution; implies --voxel-size 0 unless that is "
        "given",
    )
    method.add_argument(
        "--linear",
        dest="method",
        action="store_const",
        const="linear",
        help="interpolate the scans linearly, without a model, for comparison",
    )


def _add_corrections(group: argparse._ArgumentGroup) -> None:
    """Add the options that correct effects of the acquisition."""
    group.add_argument(
        "--coregister",
        action=argparse.BooleanOptionalAction,
        help="align the scans of a participant to each other before the fit; without it, poses are "
        "those of their headers, apart from what --unified-rigid refines "
        f"(default: {yes_or_no(_MODEL.coregister)})",
    )
    group.add_argument(
        "--unified-rigid",
        "--unified_rigid",
        action=argparse.BooleanOptionalAction,
        help="refine the poses of repeats during the fit "
        f"(default: {yes_or_no(_MODEL.unified_rigid)})",
    )
    group.add_argument(
        "--learned-detail",
        action=argparse.BooleanOptionalAction,
        help="where a contrast has one scan of thick slices, learn from its own planes, and from "
        "other contrasts, what lies within the slices "
        f"(default: {yes_or_no(_MODEL.learned_detail)})",
    )
    group.add_argument(
        "--learning-effort",
        choices=get_args(LearningEffort),
        metavar="EFFORT",
        help="full, or brief for a quick trial with images that are less sharp "
        f"(default: {_MODEL.learning_effort})",
    )
    group.add_argument(
        "--interleave-correction",
        "--scale",
        "--scl",
        action=argparse.BooleanOptionalAction,
        help="even out the brightness of odd and even slices (default: if a check of the scans "
        "finds that they differ)",
    )
    group.add_argument(
        "--slice-motion",
        action="store_true",
        help="for heads that moved during a 2-D scan: estimate a pose for each group of slices; "
        "not together with --robust",
    )
    group.add_argument(
        "--robust",
        action=argparse.BooleanOptionalAction,
        help="repair damaged slices (signal loss, motion, spikes) or leave them out (default: if a "
        "check of the scans finds some)",
    )


def _add_statements(group: argparse._ArgumentGroup) -> None:
    """Add the options for what is said of images: how uncertain they are, what they show."""
    group.add_argument(
        "--uncertainty",
        nargs="?",
        const=DEFAULT_SAMPLES,
        type=int,
        metavar="N",
        help="add a map of standard deviations to each image, from N samples "
        f"(N: {DEFAULT_SAMPLES} if left out; default: no map)",
    )
    group.add_argument(
        "--detectability",
        action=argparse.BooleanOptionalAction,
        help="put small lesions into the scans, and say on the page and in the sidecar how many of "
        "them the images would show; a run takes about 30 %% longer "
        f"(default: {yes_or_no(RunConfig.detectability)})",
    )
    group.add_argument(
        "--measured-map",
        action=argparse.BooleanOptionalAction,
        help="add a map to each image of how much of its detail the scans measured, which the page "
        f"shows anyway; the rest was inferred (default: {yes_or_no(RunConfig.measured_map)})",
    )


def _add_end(group: argparse._ArgumentGroup) -> None:
    """Add the options for when the fit ends."""
    group.add_argument(
        "--max-iter",
        type=int,
        metavar="N",
        help="largest number of iterations of the solver, counted from when poses and weights of "
        f"repeats no longer change (default: {_MODEL.max_iter})",
    )
    group.add_argument(
        "--tolerance",
        "--tol",
        type=float,
        metavar="NUMBER",
        help="stop when an iteration lowers the objective by less than this fraction "
        f"(default: {_MODEL.tolerance:g}), and of 5 times it where detail was learned",
    )
