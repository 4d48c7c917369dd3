"""The options of the command line: their names, the values they accept, and their help.

The parsed result has no entry for an option that is not given. Defaults are therefore defined only
in `bids_unires.config`, and a configuration file can set the options that are not given.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from .. import __version__
from ..config import (
    DEFAULT_SAMPLES,
    LEVELS,
    MRI_SUFFIXES,
    Alignment,
    AnatomicalReference,
    FieldOfView,
    GridPolicy,
    GroupMode,
    GroupSettings,
    LearningEffort,
    ModelSettings,
    RunConfig,
    SpaceSettings,
)
from ..errors import UsageError
from .boutiques import PrintDescriptor
from .help import AllHelp, short_help

_MODEL = ModelSettings()
_SPACE = SpaceSettings()
_GROUP = GroupSettings()

_OFTEN_USED = frozenset(
    {
        "ct",
        "device",
        "dry_run",
        "modalities",
        "nprocs",
        "participant_label",
        "robust",
        "session_label",
        "uncertainty",
        "verbose",
        "voxel_size",
    }
)
"""Options that the short help shows, by their names in the parsed result."""


class Parser(argparse.ArgumentParser):
    """Parser that raises errors rather than end the program, so that the caller exits.

    Attributes
    ----------
    often_used
        Options that the short help shows; all if there are none.
    """

    often_used: frozenset[str] = frozenset()

    def format_help(self) -> str:
        """Help on the options that are used often."""
        return short_help(self, self.often_used) if self.often_used else super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` with the message."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Parse arguments; folders and options may be in any order.

        Returns
        -------
        dict
            The arguments that were given, by name.

        Raises
        ------
        UsageError
            If an argument is unknown, or a value is not allowed.
        """
        given = vars(self.parse_intermixed_args(self._numbers_last(argv)))
        return {name: value for name, value in given.items() if value is not None}

    def _numbers_last(self, argv: Sequence[str]) -> list[str]:
        """Move options that take several numbers, with their numbers, behind all other arguments.

        Otherwise such an option would also take the names of files that follow its numbers.
        """
        others, moved, left = [], [], list(argv)
        while left and left[0] != "--":
            word = left.pop(0)
            action = self._option_string_actions.get(word)
            taken: list[str] = []
            if action is not None and action.type in (int, float) and action.nargs in ("+", "?"):
                most = len(left) if action.nargs == "+" else 1
                while len(taken) < most and left and _is_number(left[0], action.type):
                    taken.append(left.pop(0))
                # An option whose value is no number stays, for the message to name the value.
                if taken or action.nargs == "?":
                    moved += [word, *taken]
                    continue
            others.append(word)
        return [*others, *moved, *left]


def build_parser() -> Parser:
    """Make the parser of the BIDS App command line."""
    parser = Parser(
        prog="bids_unires",
        usage="%(prog)s bids_dir output_dir {" + ",".join(LEVELS) + "} [options]\n"
        "       %(prog)s --config-file FILE [options]\n"
        "       %(prog)s files T1.nii.gz T2.nii.gz ... [options]\n"
        "       %(prog)s dicom dicom_dir output_dir [options]\n"
        "       %(prog)s demo output_dir\n"
        "       %(prog)s export {raw,nnunet} results_dir output_dir [options]\n"
        "       %(prog)s runner {babs,nipoppy} output [options]",
        description="Super-resolve thick-slice brain scans of a BIDS dataset.",
        epilog="Scans in no BIDS dataset: bids_unires files, bids_unires dicom. A trial on "
        "simulated scans: bids_unires demo. Results for fMRIPrep, FreeSurfer, nnU-Net: "
        "bids_unires export. Files for BABS and Nipoppy: bids_unires runner. Each has its own "
        "--help.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, kind, text in (
        ("bids_dir", Path, "root folder of the BIDS dataset"),
        ("output_dir", Path, "folder for the results, which become a BIDS dataset too"),
        ("level", str, "analysis level: participant (reconstruct) or group (all on one grid)"),
    ):
        # Optional for the parser, since a configuration file can give them; checked afterwards.
        parser.add_argument(name, type=kind, nargs="?", default=None, help=text)
    parser.often_used = _OFTEN_USED
    parser.add_argument("--help-all", action=AllHelp, help="show all options and exit")
    parser.add_argument("--version", action="version", version=f"bids_unires {__version__}")
    parser.add_argument(
        "--bids-exec-spec",
        action=PrintDescriptor,
        help="print the Boutiques descriptor of this command and exit",
    )
    _add_selection(parser.add_argument_group("which images"))
    add_model(parser.add_argument_group("model"))
    add_space(parser.add_argument_group("alignment and grid"))
    _add_ct(parser.add_argument_group("CT"))
    _add_group(parser.add_argument_group("group level"))
    add_resources(parser.add_argument_group("resources"))
    _add_cluster(parser.add_argument_group("other machines"))
    _add_control(parser.add_argument_group("control"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
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
        type=_suffix,
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
        type=_strength,
        metavar="NUMBER",
        help="strength of the prior; larger is smoother. auto finds it for each contrast "
        f"from the scans (default: {_MODEL.reg_scale})",
    )
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
    _add_corrections(group)
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
        f"(default: {_yes_or_no(RunConfig.detectability)})",
    )
    group.add_argument(
        "--measured-map",
        action=argparse.BooleanOptionalAction,
        help="add a map to each image of how much of its detail the scans measured, which the page "
        f"shows anyway; the rest was inferred (default: {_yes_or_no(RunConfig.measured_map)})",
    )
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


def _add_corrections(group: argparse._ArgumentGroup) -> None:
    """Add the options that correct effects of the acquisition."""
    group.add_argument(
        "--coregister",
        action=argparse.BooleanOptionalAction,
        help="align the scans of a participant to each other before the fit; without it, poses are "
        "those of their headers, apart from what --unified-rigid refines "
        f"(default: {_yes_or_no(_MODEL.coregister)})",
    )
    group.add_argument(
        "--unified-rigid",
        "--unified_rigid",
        action=argparse.BooleanOptionalAction,
        help="refine the poses of repeats during the fit "
        f"(default: {_yes_or_no(_MODEL.unified_rigid)})",
    )
    group.add_argument(
        "--learned-detail",
        action=argparse.BooleanOptionalAction,
        help="where a contrast has one scan of thick slices, learn from its own planes, and from "
        "other contrasts, what lies within the slices "
        f"(default: {_yes_or_no(_MODEL.learned_detail)})",
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


def _add_ct(group: argparse._ArgumentGroup) -> None:
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


def _add_group(group: argparse._ArgumentGroup) -> None:
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
        type=_positive,
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


def add_resources(group: argparse._ArgumentGroup) -> None:
    """Add the options for how many participants share this machine, and what they use of it."""
    group.add_argument(
        "--nprocs",
        "--n-cpus",
        "--n_cpus",
        "--ncpus",
        type=_positive,
        metavar="N",
        help="participants to process at once (default: 1)",
    )
    add_machine(group)


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Add the options for what of this machine is used."""
    group.add_argument(
        "--device",
        type=_device,
        metavar="{auto,cpu,cuda,cuda:N}",
        help="cuda uses all GPUs, cuda:N one of them, auto those there are, else the CPU "
        "(default: auto)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=_positive,
        metavar="N",
        help="threads per participant (default: the available cores divided by --nprocs)",
    )
    group.add_argument(
        "--mem-mb",
        type=_positive,
        metavar="MB",
        help="memory in MB for all participants that run at once; with --cluster or --scheduler, "
        "for each job. Participants that need more are refused (default: that of the machine)",
    )
    group.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="FOLDER",
        help="folder for temporary files, outside of bids_dir (default: that of the system)",
    )


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    workers = group.add_mutually_exclusive_group()
    workers.add_argument(
        "--cluster",
        choices=("slurm",),
        help="process participants in jobs of Slurm: --nprocs of them, each with --omp-nthreads "
        "cores and --mem-mb of memory",
    )
    workers.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="process participants on the workers of a running Dask scheduler, such as "
        "tcp://10.0.0.1:8786",
    )
    group.add_argument(
        "--cluster-args",
        metavar="TEXT",
        help='further options of sbatch: --cluster-args="--partition=gpu --gres=gpu:1"',
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="TOML file of options under their long names; options on the command line override "
        "it. Every run writes such a file to output_dir/logs",
    )
    group.add_argument(
        "--json", action="store_true", help="with --dry-run at the participant level: print JSON"
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="skip participants that an earlier run finished with the same inputs, settings "
        f"and version (default: {_yes_or_no(True)})",
    )
    group.add_argument(
        "--stop-on-first-crash",
        action="store_true",
        help="do not start other participants after one has failed",
    )
    add_saying(group)


def add_saying(group: argparse._ArgumentGroup) -> None:
    """Add the options for what is said, and for saying only what would be done."""
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan, what each scan adds and what looks wrong with it; compute nothing",
    )
    group.add_argument(
        "-v", "--verbose", action="count", help="print more, and tracebacks of errors"
    )
    group.add_argument("-q", "--quiet", action="count", help="print less")


def _is_number(text: str, kind: Any) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def bare_label(prefix: str) -> Callable[[str], str]:
    """Make a converter that accepts a label with or without its prefix."""

    def bare(text: str) -> str:
        label = text.removeprefix(prefix)
        if not re.fullmatch(r"[0-9A-Za-z+]+", label):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no BIDS label: labels have letters and digits only"
            )
        return label

    return bare


def _suffix(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no BIDS suffix, such as T1w")
    return text


def _strength(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number") from None


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N")
    return text


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
