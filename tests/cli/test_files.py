"""``bids_unires files``: what its arguments mean, and what it refuses before any work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_unires.cli.files import build_parser, parse_arguments
from bids_unires.cli.main import main
from bids_unires.cli.main import parse_arguments as parse_bids
from bids_unires.config import RunConfig, SpaceSettings
from bids_unires.dataset.plain_files import PlainContrast, PlainLabels
from bids_unires.errors import UsageError
from tests.conftest import write_scan
from tests.paths import ROOT

# Spellings of the original tool, and those of the participant level that mean the same.
ORIGINAL = [
    ("--vx 1.5", "--voxel-size 1.5"),
    ("--reg_scl 10", "--reg-scale 10"),
    ("--tol 1e-3", "--tolerance 1e-3"),
    ("--tolerance 1e-3", "--tolerance 1e-3"),
    ("--common_output", "--common-output"),
    ("--common_output --fov head", "--common-output --fov head"),
    ("--linear", "--linear"),
    ("--linear --common_output", "--linear --common-output"),
    ("--scl", "--interleave-correction"),
    ("--scale", "--interleave-correction"),
    ("--unified_rigid", "--unified-rigid"),
    ("--no-unified_rigid", "--no-unified-rigid"),
    ("--denoising", "--denoise"),
    ("--do_res_origin", "--reset-origin"),
    ("--res_origin", "--reset-origin"),
]


@pytest.mark.parametrize(("original", "ours"), ORIGINAL)
def test_spellings_of_the_original_mean_options_of_the_participant_level(
    original: str, ours: str
) -> None:
    _, config = parse_arguments(["in/T1.nii.gz", *original.split()])
    assert config == parse_bids(["in", "in", "participant", *ours.split()])


# All options of the original tool.
OPTIONS = """
atlas_rigid common_output ct crop device dir_out fov label_file label_channel_index
label_repeat_index linear plot_conv prefix print_info reg_scl res_origin scale sched show_hyperpar
show_jtv tolerance unified_rigid vx write_out
"""


def test_the_page_has_a_counterpart_of_every_option_of_the_original() -> None:
    page = (
        (ROOT / "docs" / "how-to" / "files.md")
        .read_text("utf-8")
        .partition("## Options of the original")[2]
    )
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`--(?:no-)?(\w+)`", row[1])}
    assert set(OPTIONS.split()) <= told
    ours = {name for action in build_parser()._actions for name in action.option_strings}
    for row in rows:
        named = set(re.findall(r"`(--?[\w-]+)", row[2]))
        same = set(re.findall(r"`(--[\w-]+)", row[1])) if "the same" in row[2] else set()
        assert named | same <= ours, row


def test_options_of_the_model_are_those_of_the_participant_level() -> None:
    given = {action.dest for action in build_parser()._actions}
    for group in ("model", "space", "reset_origin", "device", "omp_nthreads", "mem_mb"):
        wanted = {"model": "voxel_size", "space": "common_output"}.get(group, group)
        assert wanted in given
    _, config = parse_arguments(["T1.nii.gz", "--align", "rigid", "--robust"])
    assert config.space == SpaceSettings(align="rigid")
    assert config.model.robust


def test_files_and_options_come_in_any_order() -> None:
    size = ["--vx", "1", "1", "2"]
    wanted = parse_arguments(["T1.nii", "T2.nii", "-o", "out", *size, "--overwrite"])
    for argv in (
        ["--overwrite", "T1.nii", *size, "-o", "out", "T2.nii"],
        [*size, "T1.nii", "-o", "out", "--overwrite", "T2.nii"],
        ["-o", "out", *size, "--overwrite", "--", "T1.nii", "T2.nii"],
    ):
        assert parse_arguments(argv) == wanted


def test_options_of_numbers_take_no_files() -> None:
    request, config = parse_arguments(["--vx", "1.5", "--uncertainty", "T1.nii", "T2.nii"])
    assert [contrast.name for contrast in request.contrasts] == ["T1", "T2"]
    assert config.model.voxel_size == (1.5, 1.5, 1.5)
    assert config.model.uncertainty == 8
    request, config = parse_arguments(["--uncertainty", "4", "T1.nii"])
    assert config.model.uncertainty == 4
    with pytest.raises(UsageError, match="invalid float value: 'a'"):
        parse_arguments(["T1.nii", "--vx", "a"])


def test_where_results_go() -> None:
    request, _ = parse_arguments(["in/T1.nii", "else/T2.nii"])
    assert (request.results_folder, request.prefix) == (Path("in"), "ur_")
    for option in ("-o", "--output", "--dir_out"):
        request, _ = parse_arguments(["in/T1.nii", option, "out", "--prefix", "y_"])
        assert (request.results_folder, request.prefix) == (Path("out"), "y_")


@pytest.mark.parametrize(
    ("text", "name", "files"),
    [
        ("in/T1.nii.gz", "T1", ["in/T1.nii.gz"]),
        ("a/T1a.nii,b/T1b.mgz", "T1a", ["a/T1a.nii", "b/T1b.mgz"]),
        ("T1w=scan_003.nii", "T1w", ["scan_003.nii"]),
        ("T1w=x=3/a.nii,b.nii", "T1w", ["x=3/a.nii", "b.nii"]),
        ("in/x=3/head.v2.img", "head.v2", ["in/x=3/head.v2.img"]),
    ],
)
def test_a_contrast_is_a_file_or_repeats_or_either_with_a_name(
    text: str, name: str, files: list[str]
) -> None:
    assert PlainContrast.from_text(text) == PlainContrast(name, tuple(map(Path, files)))


def test_a_file_that_exists_is_one_file_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.nii", "x=1.nii"):
        write_scan(tmp_path / name)
        assert PlainContrast.from_text(name).paths == (Path(name),)
    assert PlainContrast.from_text("T1=a,b.nii").paths == (Path("a,b.nii"),)
    assert PlainLabels.from_text("x=1.nii") == PlainLabels(Path("x=1.nii"), None)


@pytest.mark.parametrize("text", ["", "=T1.nii", "T1.nii,", ",T1.nii", "T1="])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="neither FILE"):
        PlainContrast.from_text(text)


@pytest.mark.parametrize(
    ("arguments", "modalities"),
    [
        ("a.nii --ct", ["CT"]),
        ("--ct a.nii", ["CT"]),
        ("a.nii --ct b.nii c.nii", ["MR", "MR", "CT"]),
        ("a.nii --ct b.nii --ct c.nii", ["MR", "CT", "CT"]),
        ("T1.nii CT.nii", ["MR", "CT"]),
        ("head_ct.nii", ["CT"]),
        ("ct=a.nii b.nii", ["CT", "MR"]),
        ("contact.nii", ["MR"]),
    ],
)
def test_ct_is_one_scan_or_named(arguments: str, modalities: list[str]) -> None:
    request, _ = parse_arguments(arguments.split())
    assert [contrast.modality for contrast in request.contrasts] == modalities


RunHere = Callable[[str], tuple[int, str]]


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunHere:
    """Give a function that runs a command beside some scans; code and message."""
    for seed, name in enumerate(("T1", "T2", "other/T1", "seg")):
        write_scan(tmp_path / f"{name}.nii.gz", seed=seed)
    (tmp_path / "ur_T2.json").write_text("{}")
    (tmp_path / "T1.json").write_text("{}")
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> tuple[int, str]:
        code = main(["files", *command.split()])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("", 64, "missing: the scans"),
        ("none.nii.gz", 66, "none.nii.gz does not exist"),
        ("T1.nii.gz,none.nii.gz", 66, "none.nii.gz does not exist"),
        ("T1.nii.gz --labels none.nii.gz", 66, "none.nii.gz does not exist"),
        ("T1.nii.gz other/T1.nii.gz", 64, "would both be called T1"),
        ("T1.nii.gz T1=T2.nii.gz", 64, "would both be called T1"),
        ("T1.nii.gz T1.nii.gz", 64, "is given twice"),
        ("T1.nii.gz,other/../T1.nii.gz", 64, "is given twice"),
        ("other", 64, "other is a folder"),
        ("T2.nii.gz", 73, "ur_T2.json exists already: replace by --overwrite"),
        ("T1.nii.gz --prefix= ", 64, "T1.nii.gz would replace a file of the input"),
        ("T1.nii.gz --prefix= --overwrite", 64, "would replace a file of the input"),
        ("T1=T2.nii.gz seg.nii.gz --prefix= -o other", 73, "other/T1.nii.gz exists already"),
        ("T1.nii.gz --prefix a/b", 64, "a folder is named by -o"),
        ("T1.nii.gz seg.nii.gz --ct", 64, "--ct alone is for a single scan"),
        ("T1.nii.gz seg.nii.gz --labels T2.nii.gz", 64, "it fits several scans"),
        ("T1.nii.gz --labels seg.nii.gz=T3", 64, "T3 fits no scan"),
        ("T1.nii.gz T1_fov=seg.nii.gz", 64, "two results would be called ur_T1_fov"),
        ("T1.nii.gz -o T1.nii.gz/x", 73, "is not a folder"),
        ("T1.nii.gz --participant-label 01", 64, "unrecognized"),
        ("T1.nii.gz --crop", 64, "unrecognized"),
        ("T1.nii.gz --fov head", 64, "--fov is for the grid of --common-output"),
        ("T1.nii.gz --common_output --denoise", 64, "--common-output"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_everything_as_it_was(
    command: str, code: int, said: str, run_here: RunHere, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended, message = run_here(command)
    assert ended == code, message
    assert said in message
    assert message.count("\n") == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_the_plan_says_what_becomes_of_what(
    run_here: RunHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "T1.json").write_text('{"SliceThickness": 3}')
    before = sorted(tmp_path.rglob("*"))
    command = "--dry-run other/T1.nii.gz,T1.nii.gz FLAIR=T2.nii.gz --ct seg.nii.gz -o new/folder"
    assert main(["files", *command.split(), "--labels", "T2.nii.gz=FLAIR"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "T1: result new/folder/ur_T1.nii.gz",
        "  other/T1.nii.gz",
        "  T1.nii.gz, with T1.json",
        "FLAIR: result new/folder/ur_FLAIR.nii.gz",
        "  T2.nii.gz",
        "    label image T2.nii.gz",
        "seg, taken for CT: result new/folder/ur_seg.nii.gz",
        "  seg.nii.gz",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_help_needs_no_slow_library() -> None:
    code = (
        "import sys\nfrom bids_unires.cli.main import main\n"
        "try:\n    main(['files', '--help'])\nexcept SystemExit:\n    pass\n"
        "print({'numpy', 'nibabel', 'torch', 'bids'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    assert "--dir_out" in done.stdout


def test_the_configuration_is_one_of_the_participant_level() -> None:
    _, config = parse_arguments(["in/T1.nii"])
    assert config == RunConfig(Path("in"), Path("in"), "participant")
