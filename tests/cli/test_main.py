from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bids_unires import __version__
from bids_unires.cli import main as cli
from bids_unires.config import MRI_SUFFIXES, GroupSettings, ModelSettings, RunConfig, SpaceSettings
from bids_unires.errors import BadDataError, UsageError
from bids_unires.run import app

BASE = ["in", "out", "participant"]
HEAVY = {"SimpleITK", "bids", "jinja2", "nibabel", "numpy", "rich", "scipy", "torch", "warp"}


def test_defaults_are_those_of_the_configuration() -> None:
    assert cli.parse_arguments(BASE) == RunConfig(Path("in"), Path("out"), "participant")


@pytest.mark.parametrize(
    ("field", "spellings", "values", "wanted"),
    [
        (
            "participant_label",
            "--participant-label --participant_label",
            "sub-01 02 01",
            ("01", "02"),
        ),
        ("session_label", "--session-label --session_label --session-id", "ses-a b", ("a", "b")),
        ("modalities", "-m --modalities", "t1W T2w", ("T1w", "T2w")),
        ("bids_filter_file", "--bids-filter-file", "f.json", Path("f.json")),
        (
            "skip_bids_validation",
            "--skip-bids-validation --skip_bids_validation --skip_bids_validator",
            "",
            True,
        ),
        ("bids_database_dir", "--bids-database-dir", "db", Path("db")),
        ("modalities", "-m --modalities", "CT FLAIR ct", ("ct", "FLAIR")),
        ("modalities", "--ct", "", (*MRI_SUFFIXES, "ct")),
        ("labels", "--labels", "derivatives/seg", Path("derivatives/seg")),
        ("reset_origin", "--reset-origin --res-origin", "", True),
        ("work_dir", "-w --work-dir", "tmp", Path("tmp")),
        ("device", "--device", "cuda:1", "cuda:1"),
        ("nprocs", "--nprocs --n-cpus --n_cpus --ncpus", "3", 3),
        ("omp_nthreads", "--omp-nthreads", "4", 4),
        ("mem_mb", "--mem-mb", "8000", 8000),
        ("dry_run", "--dry-run", "", True),
        ("resume", "--no-resume", "", False),
        ("stop_on_first_crash", "--stop-on-first-crash", "", True),
        ("verbosity", "-v --verbose", "", 1),
        ("verbosity", "-vv", "", 2),
        ("verbosity", "-q --quiet", "", -1),
    ],
)
def test_every_spelling_sets_its_field_and_no_other(
    field: str, spellings: str, values: str, wanted: object
) -> None:
    default = RunConfig(Path("in"), Path("out"), "participant")
    for spelling in spellings.split():
        config = cli.parse_arguments([*BASE, spelling, *values.split()])
        assert getattr(config, field) == wanted
        changed = {n for n, v in vars(config).items() if v != getattr(default, n)}
        assert changed == {field}


@pytest.mark.parametrize(
    ("field", "spellings", "values", "wanted"),
    [
        ("voxel_size", "--voxel-size --vx", "0.8", (0.8, 0.8, 0.8)),
        ("voxel_size", "--voxel-size --vx", "1 1 2", (1.0, 1.0, 2.0)),
        ("reg_scale", "--reg-scale --reg_scl", "2.5", 2.5),
        ("max_iter", "--max-iter", "7", 7),
        ("tolerance", "--tolerance --tol", "1e-3", 1e-3),
        ("method", "--linear", "", "linear"),
        ("coregister", "--no-coregister", "", False),
        ("coregister", "--coregister", "", True),
        ("unified_rigid", "--no-unified-rigid", "", False),
        ("unified_rigid", "--unified-rigid", "", True),
        ("learned_detail", "--no-learned-detail", "", False),
        ("learned_detail", "--learned-detail", "", True),
        ("interleave_correction", "--interleave-correction --scale", "", True),
        ("slice_motion", "--slice-motion", "", True),
        ("robust", "--robust", "", True),
    ],
)
def test_model_options(field: str, spellings: str, values: str, wanted: object) -> None:
    for spelling in spellings.split():
        config = cli.parse_arguments([*BASE, spelling, *values.split()])
        assert config.model == replace(ModelSettings(), **{field: wanted})


@pytest.mark.parametrize(
    ("options", "method", "voxel_size"),
    [
        ("--denoise", "denoise", 0.0),
        ("--denoising", "denoise", 0.0),
        ("--voxel-size 0", "denoise", 0.0),
        ("--vx 0 0 0 --denoise", "denoise", 0.0),
        ("--denoise --voxel-size 2", "denoise", 2.0),
    ],
)
def test_denoising_and_voxel_size_zero_imply_each_other(
    options: str, method: str, voxel_size: float
) -> None:
    model = cli.parse_arguments([*BASE, *options.split()]).model
    assert (model.method, model.voxel_size) == (method, (voxel_size,) * 3)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("--common-output", SpaceSettings(common_output=True, align="rigid")),
        ("--common_output --fov head", SpaceSettings(True, "head", align="rigid")),
        ("--common-output --align similarity", SpaceSettings(True, align="similarity")),
        ("--align similarity", SpaceSettings(align="similarity")),
        ("--template MNI152Lin --align rigid", SpaceSettings(template="MNI152Lin", align="rigid")),
    ],
)
def test_space_options(options: str, wanted: SpaceSettings) -> None:
    assert cli.parse_arguments([*BASE, *options.split()]).space == wanted


@pytest.mark.parametrize(
    "options",
    [
        "--common-output --align none",
        "--common-output --denoise",
        "--common-output --voxel-size 0",
        "--common-output --denoise --voxel-size 0 --align similarity",
    ],
)
def test_a_common_grid_needs_an_alignment_and_a_voxel_size(options: str) -> None:
    with pytest.raises(UsageError, match="--common-output"):
        cli.parse_arguments([*BASE, *options.split()])


def test_group_options() -> None:
    argv = ["in", "out", "group", "--reports-only", "--template", "none"]
    argv += ["--group-mode", "reslice", "--grid-policy", "multiple"]
    argv += ["--grid-multiple", "32", "--grid-margin", "0"]
    config = cli.parse_arguments(argv)
    assert config.group == GroupSettings("reslice", "multiple", 32, 0.0)
    assert (config.level, config.reports_only) == ("group", True)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", SpaceSettings(align="rigid")),
        ("--align none", SpaceSettings(align="none")),
        ("--align similarity --fov head", SpaceSettings(align="similarity", fov="head")),
        ("--template none", SpaceSettings(template="none", align="rigid", fov="head")),
    ],
)
def test_the_group_level_aligns(options: str, wanted: SpaceSettings) -> None:
    assert cli.parse_arguments(["in", "out", "group", *options.split()]).space == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--reg-scale auto", "--reg-scale is for the participant level"),
        ("--detectability", "--detectability is for the participant level"),
        ("--measured-map", "--measured-map is for the participant level"),
        ("--max-iter 3 --tolerance 1e-3", "--tolerance, --max-iter are for the participant level"),
        ("--robust --slice-motion", "--slice-motion, --robust are"),
        ("--no-unified-rigid", "--no-unified-rigid is"),
        ("--no-coregister", "--no-coregister is"),
        ("--interleave-correction --uncertainty", "--interleave-correction, --uncertainty are"),
        ("--linear", "--linear is"),
    ],
)
def test_settings_of_the_fit_are_refused_at_the_group_level(options: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cli.parse_arguments(["in", "out", "group", *options.split()])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--group-mode refit", "--group-mode is for the group level"),
        ("--grid-policy pow2", "--grid-policy is"),
        ("--grid-multiple 8", "--grid-multiple is"),
        ("--grid-margin 20", "--grid-margin is"),
        ("--fov head", "--fov is for the grid of --common-output"),
        ("--fov head --align rigid", "--fov is"),
        ("--template MNI152Lin", "--template is for an alignment"),
        ("--template MNI152Lin --align none", "--template is"),
        ("--cluster-args=--gres=gpu:1", "--cluster-args is for --cluster"),
        ("--linear --reg-scale 4", "--reg-scale is for a fit, which --linear"),
        ("--linear --interleave-correction", "--interleave-correction is for a fit"),
    ],
)
def test_options_that_would_change_nothing_are_refused(options: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cli.parse_arguments([*BASE, *options.split()])


def test_a_multiple_is_for_the_policy_of_multiples() -> None:
    with pytest.raises(UsageError, match="--grid-multiple is for --grid-policy multiple"):
        cli.parse_arguments(["in", "out", "group", "--grid-multiple", "32"])


def test_defaults_may_be_spelled_out() -> None:
    options = "--group-mode auto --grid-policy pow23 --grid-multiple 16 --grid-margin 5"
    options += " --fov brain --template MNI152NLin2009cAsym --align none --reg-scale auto"
    assert cli.parse_arguments([*BASE, *options.split()]) == cli.parse_arguments(BASE)
    cli.parse_arguments([*BASE, *options.split(), "--linear"])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", ()),
        ("--ct", ()),
        ("-m t1w", ("T1w",)),
        ("-m FLAIR --ct", ("FLAIR", "ct")),
        (f"-m {' '.join(MRI_SUFFIXES)}", MRI_SUFFIXES),
    ],
)
def test_the_group_level_takes_all_contrasts_unless_told(
    options: str, wanted: tuple[str, ...]
) -> None:
    assert cli.parse_arguments(["in", "out", "group", *options.split()]).modalities == wanted


@pytest.mark.parametrize(
    ("option", "field", "wanted"),
    [
        ("-m", "modalities", ("T1w", "T2w")),
        ("--participant-label", "participant_label", ("T1w", "T2w")),
    ],
)
def test_lists_can_be_given_piece_by_piece(
    option: str, field: str, wanted: tuple[str, ...]
) -> None:
    config = cli.parse_arguments([*BASE, option, "T1w", option, "T2w"])
    assert getattr(config, field) == wanted


def test_folders_and_options_come_in_any_order() -> None:
    wanted = cli.parse_arguments([*BASE, "--dry-run", "--max-iter", "3"])
    assert cli.parse_arguments(["--vx", "2", *BASE]) == cli.parse_arguments([*BASE, "--vx", "2"])
    for argv in (
        "--dry-run in out --max-iter 3 participant",
        "in --dry-run out participant --max-iter 3",
        "--max-iter 3 --dry-run in out participant",
        "--dry-run in --max-iter 3 out participant",
    ):
        assert cli.parse_arguments(argv.split()) == wanted


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ([], 64),
        (["in"], 64),
        ([*BASE, "--no-such-option"], 64),
        ([*BASE, "--dry"], 64),
        ([*BASE, "--nprocs", "0"], 64),
        ([*BASE, "--device", "tpu"], 64),
        ([*BASE, "--voxel-size", "1", "2"], 64),
        ([*BASE, "--voxel-size", "-1"], 64),
        ([*BASE, "--reg-scale", "nan"], 64),
        ([*BASE, "--participant-label", "a/b"], 64),
        ([*BASE, "-m", "T1w.nii"], 64),
        ([*BASE, "--denoise", "--linear"], 64),
        ([*BASE, "--linear", "--voxel-size", "0"], 64),
        ([*BASE, "--voxel-size", "0", "0", "1"], 64),
        ([*BASE, "--template", "none"], 64),
        ([*BASE, "--template", "MNI/152"], 64),
        ([*BASE, "--fov", "foot"], 64),
        ([*BASE, "one-too-many"], 64),
        ([*BASE, "--config-file", "none.toml"], 66),
        (["in", "out", "study"], 17),
        (["in", "out", "group", "--voxel-size", "0"], 64),
        (["in", "out", "group", "--template", "none", "--fov", "brain"], 64),
        (["in", "out", "group", "--template", "none", "--align", "similarity"], 64),
        (["no-such-folder", "out", "group"], 66),
        (["no-such-folder", "out", "participant"], 66),
        (["demo"], 64),
        (["T1.nii.gz"], 64),
        (["T1.nii.gz", "T2.nii", "PD.mgz", "FLAIR.hdr", "--vx", "2"], 64),
    ],
)
def test_errors_are_one_line_and_a_code(
    argv: list[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == code
    message = capsys.readouterr().err
    assert message.startswith("bids_unires: error: ")
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_who_names_images_is_told_the_command_for_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["a 1.nii.gz", "b.MGZ", "c.hdr", "d.nii", "--vx", "2"]) == 64
    assert "for images: bids_unires files 'a 1.nii.gz' b.MGZ c.hdr d.nii\n" in (
        capsys.readouterr().err
    )


def test_verbose_errors_have_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: RunConfig) -> int:
        raise BadDataError("a.nii is damaged")

    monkeypatch.setattr(app, "run", fail)
    assert cli.main([*BASE]) == 65
    assert "Traceback" not in capsys.readouterr().err
    assert cli.main([*BASE, "-v"]) == 65
    assert "Traceback" in capsys.readouterr().err


def test_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(config: RunConfig) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupt)
    assert cli.main(BASE) == 130


def test_the_short_help_fits_a_screen_and_names_the_long_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli.build_parser().format_help().splitlines()
    assert len(lines) < 55
    assert max(map(len, lines)) <= 80
    assert any("--help-all" in line for line in lines)


def test_all_options_are_in_the_long_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help-all"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    parser = cli.build_parser()
    assert all(spelling in shown for spelling in parser._option_string_actions)


def test_default_modalities_are_documented() -> None:
    assert all(suffix in cli.build_parser().format_help() for suffix in MRI_SUFFIXES)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-iter", "0"),
        ("--voxel-size", "77"),
        ("--reg-scale", "-3"),
        ("--tolerance", "1.5"),
        ("--template", "MNI?"),
        ("--fov", "foot"),
        ("--align", "affine"),
        ("--nprocs", "-4"),
        ("--mem-mb", "8GB"),
        ("--device", "tpu"),
        ("--participant-label", "a/b"),
    ],
)
def test_bad_settings_are_named_with_their_value(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{option}.*{re.escape(value)}"):
        cli.parse_arguments([*BASE, f"{option}={value}"])


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match="missing: output_dir, level"):
        cli.parse_arguments(["in", "--dry-run"])


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_nothing_heavy_is_imported_to_answer(option: str) -> None:
    code = (
        "import sys\nfrom bids_unires.cli.main import main\n"
        f"try:\n    main([{option!r}])\nexcept SystemExit:\n    pass\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "bids_unires" in done.stdout
    # A tenth of a second is usual. Time of the processor, since others may use it as well.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_version_is_that_of_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bids_unires", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"bids_unires {__version__}"


def run_module(arguments: str, redirection: str = "", **environment: str) -> tuple[int, str]:
    """Run the program from a shell without home and locale; give exit code and output."""
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m bids_unires {arguments} {redirection}"],
        capture_output=True,
        check=False,
        env=environment,
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&-", "<&- 2>/dev/full", ">/dev/full"])
def test_closed_streams_change_no_exit_code(redirection: str, tmp_path: Path) -> None:
    code, output = run_module(f"'{tmp_path}/none' out participant", redirection)
    assert code == 66
    assert "Traceback" not in output


def test_descriptors_of_closed_streams_are_taken() -> None:
    code = (
        "import os\nfrom bids_unires.cli import main as cli\n"
        "cli._secure_streams()\nos._exit(os.open('/dev/zero', os.O_RDONLY))"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{code}" <&- >&- 2>&-'], check=False
    )
    assert done.returncode > 2


def test_characters_that_the_terminal_lacks_are_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    cli._secure_streams()
    print("Zürich", flush=True)
    assert written.getvalue() == b"Z\\xfcrich\n"


def test_what_nobody_foresaw_ends_in_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(config: RunConfig) -> int:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(app, "run", stumble)
    assert cli.main(BASE) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("RuntimeError: no such luck.*report it", line)
    assert cli.main([*BASE, "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err
