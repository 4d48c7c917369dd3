from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_unires import __version__, app, cli
from bids_unires.config import MRI_SUFFIXES, RunConfig
from bids_unires.errors import BadDataError, UsageError

BASE = ["in", "out", "participant"]


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
        ("device", "--device", "cuda:1", "cuda:1"),
        ("nprocs", "--nprocs --n-cpus --n_cpus --ncpus", "3", 3),
        ("omp_nthreads", "--omp-nthreads", "4", 4),
        ("mem_mb", "--mem-mb", "8000", 8000),
        ("dry_run", "--dry-run", "", True),
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
    ],
)
def test_model_options(field: str, spellings: str, values: str, wanted: object) -> None:
    for spelling in spellings.split():
        config = cli.parse_arguments([*BASE, spelling, *values.split()])
        assert getattr(config.model, field) == wanted


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
        (["in", "out", "study"], 17),
        (["in", "out", "group"], 17),
        (["no-such-folder", "out", "participant"], 66),
        (["demo"], 64),
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


def test_default_modalities_are_documented() -> None:
    assert all(suffix in cli.build_parser().format_help() for suffix in MRI_SUFFIXES)


def test_bad_settings_name_the_option() -> None:
    with pytest.raises(UsageError, match="max-iter"):
        cli.parse_arguments([*BASE, "--max-iter", "0"])


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_nothing_heavy_is_imported_to_answer(option: str) -> None:
    code = (
        "import sys\nfrom bids_unires.cli import main\n"
        f"try:\n    main([{option!r}])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'torch', 'bids', 'nibabel', 'SimpleITK', 'warp'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bids_unires" in done.stdout
    # Half a second is promised; the margin is for busy machines.
    assert time.monotonic() - start < 2


def test_version_is_that_of_the_package() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bids_unires", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"bids_unires {__version__}"
