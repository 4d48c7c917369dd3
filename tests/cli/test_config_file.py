from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.cli import main as cli
from bids_unires.config import RunConfig
from bids_unires.errors import MissingInputError, UsageError
from bids_unires.run.configuration import write_options

BASE = ["/in", "/out", "participant"]
LABELS = st.lists(st.from_regex(r"[0-9A-Za-z+]{1,4}", fullmatch=True), min_size=1, max_size=3)
# Any name a file can have, and no option's.
NAMES = (
    st.binary(min_size=1)
    .map(os.fsdecode)
    .filter(lambda name: not name.startswith("-") and "\0" not in name)
)
COUNTS = st.integers(1, 10**6).map(str)
SIZES = st.floats(0.1, 20).map(repr)
TEMPLATES = st.from_regex(r"[0-9A-Za-z]{1,9}", fullmatch=True).filter("none".__ne__)
INTERPOLATED = ["--linear", "--reg-scale", "auto"]
COMMON = ["--common-output", "--align", "rigid", "--voxel-size", "2"]


def option(name: str, *values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """The option and its values, or nothing."""
    return st.one_of(st.just([]), st.tuples(*values).map(lambda given: [name, *given]))


def labelled(name: str, labels: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just([]), labels.map(lambda given: [name, *given]))


ARGUMENTS = st.tuples(
    labelled("--participant-label", LABELS),
    labelled("--session-id", LABELS),
    labelled("-m", st.lists(st.sampled_from(["t1w", "FLAIR", "ct", "T1map"]), min_size=1)),
    option("--bids-filter-file", NAMES),
    option("--labels", NAMES),
    option("-w", NAMES),
    option("--device", st.sampled_from(["auto", "cpu", "cuda", "cuda:3"])),
    option("--nprocs", COUNTS),
    option("--omp-nthreads", COUNTS),
    option("--mem-mb", COUNTS),
    option("--max-iter", COUNTS),
    option("--voxel-size", SIZES, SIZES, SIZES),
    option("--tol", st.floats(1e-300, 1, exclude_max=True).map(repr)),
    option("--reg-scale", st.just("auto") | st.floats(1e-300, 1e300).map(repr)),
    st.sampled_from([[], ["--align", "none"]])
    | st.tuples(
        st.sampled_from([["--align", "rigid"], ["--align", "similarity"]]),
        option("--template", TEMPLATES),
    ).map(lambda parts: [argument for part in parts for argument in part]),
    st.sampled_from([[], ["--denoise"], INTERPOLATED, ["-v"], ["-qq"], ["--no-unified-rigid"]]),
    st.sampled_from([[], ["--ct"], ["--res-origin"], ["--scale"]]),
    st.sampled_from([[], ["--dry-run"], ["--no-resume"], ["--stop-on-first-crash"]]),
    # Last, since it has to overrule sizes and alignments that it cannot go with.
    st.sampled_from([[], COMMON, [*COMMON, "--fov", "head"]]),
).map(lambda parts: [argument for part in parts for argument in part])
# Even slices are for a fit.
ARGUMENTS = ARGUMENTS.filter(lambda arguments: not {"--linear", "--scale"} <= {*arguments})


def with_absolute_paths(config: RunConfig) -> RunConfig:
    values = vars(config).items()
    return RunConfig(**{n: v.absolute() if isinstance(v, Path) else v for n, v in values})


# What an example takes says more about the machine than about the code.
@settings(deadline=None)
@given(arguments=ARGUMENTS)
def test_a_file_repeats_the_run_that_wrote_it(arguments: list[str]) -> None:
    config = cli.parse_arguments([*BASE, *arguments])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        write_options(path, config)
        assert cli.parse_arguments(["--config-file", str(path)]) == with_absolute_paths(config)


GROUP_ARGUMENTS = st.tuples(
    labelled("--participant-label", LABELS),
    labelled("-m", st.lists(st.sampled_from(["t1w", "FLAIR", "ct"]), min_size=1)),
    option("--voxel-size", SIZES, SIZES, SIZES),
    option("--group-mode", st.sampled_from(["auto", "refit", "reslice"])),
    option("--grid-margin", st.floats(0, 100).map(repr)),
    st.sampled_from([[], ["--template", "none"], ["--align", "none"], ["--no-resume"]]),
).map(lambda parts: [argument for part in parts for argument in part])


@settings(deadline=None)
@given(arguments=GROUP_ARGUMENTS)
def test_a_file_repeats_the_group_level_that_wrote_it(arguments: list[str]) -> None:
    config = cli.parse_arguments(["in", "out", "group", *arguments])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        write_options(path, config)
        assert cli.parse_arguments(["--config-file", str(path)]) == with_absolute_paths(config)


def parse(path: Path, text: str, *arguments: str) -> RunConfig:
    path.write_text(text, "utf-8")
    return cli.parse_arguments([*BASE, "--config-file", str(path), *arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.toml"


@pytest.mark.parametrize("key", ["reg-scale", "reg_scale", "reg-scl", "reg_scl"])
def test_every_long_name_is_a_key(path: Path, key: str) -> None:
    assert parse(path, f"{key} = 2.5").model.reg_scale == 2.5


def test_values_have_the_types_of_toml(path: Path) -> None:
    text = """
    participant-label = ["sub-01", "02"]
    voxel_size = 2
    denoise = false
    unified-rigid = false
    scale = true
    verbose = 2
    labels = "-odd name"
    """
    config = parse(path, text)
    assert config.participant_label == ("01", "02")
    assert config.model.voxel_size == (2.0, 2.0, 2.0)
    assert config.model.method == "super-resolution"
    assert not config.model.unified_rigid
    assert config.model.interleave_correction
    assert config.verbosity == 2
    assert config.labels == Path("-odd name")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("reg-scale = 1", "--reg-scale 9"),
        ("participant-label = ['01']", "--participant-label 02 03"),
        ("linear = true", "--denoise"),
        ("level = 'group'", ""),
        ("quiet = 2", "-v"),
        ("unified-rigid = false", "--unified-rigid"),
        ("modalities = ['FLAIR']", "-m T1w"),
        ("common-output = true", "--common-output --align similarity"),
        ("bids_dir = '/elsewhere'", ""),
    ],
)
def test_the_command_line_wins(path: Path, text: str, arguments: str) -> None:
    assert parse(path, text, *arguments.split()) == cli.parse_arguments([*BASE, *arguments.split()])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voxel-sise = 1", "unknown key 'voxel-sise'; the nearest option is 'voxel-size'"),
        ("config-file = 'a'", "unknown key 'config-file'"),
        ("help = true", "unknown key 'help'"),
        ("no-unified-rigid = true", "unknown key 'no-unified-rigid'"),
        ("[model]\nreg-scale = 1", "unknown key 'model'"),
        ("nprocs = 0", "--nprocs.*'0' is no number above 0"),
        ("dry-run = 'yes'", "dry-run must be true or false, got 'yes'"),
        ("unified-rigid = 1", "unified-rigid must be true or false, got 1"),
        ("verbose = true", "verbose must be a number of times, got True"),
        ("nprocs = true", "nprocs must be text or a number, got True"),
        ("voxel-size = [1, [2]]", "voxel-size must be text or a number"),
        ("denoise = true\nlinear = true", "not allowed with"),
        ("reg-scale 1", "is not TOML"),
    ],
)
def test_errors_name_the_file_and_the_key(path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"{path}.*{message}"):
        parse(path, text)


def test_a_file_has_to_be_there(path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"run\.toml does not exist"):
        cli.parse_arguments([*BASE, "--config-file", str(path)])


def test_a_file_is_toml_that_people_can_read(path: Path) -> None:
    write_options(path, cli.parse_arguments([*BASE, "--linear", "--tol", "1e-6"]))
    text = path.read_text("utf-8")
    assert "tolerance = 1e-06\n" in text
    content = tomllib.loads(text)
    assert content["linear"] is True
    assert content["voxel-size"] == [1.0, 1.0, 1.0]
    assert content["bids_dir"] == "/in"
    assert "denoise" not in content
