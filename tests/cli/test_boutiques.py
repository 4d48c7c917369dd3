"""The Boutiques descriptor says what the parser says, whatever options that has."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.boutiques import PrintDescriptor, descriptor
from bids_unires.cli.main import main
from bids_unires.cli.parser import build_parser
from bids_unires.demo.dataset import DemoPaths, write_dataset
from bids_unires.demo.phantom import load_icbm152
from bids_unires.demo.study import MOTIONS, PARTICIPANTS, PROTOCOLS
from bids_unires.errors import UsageError
from tests.documented import ROOT, documented

DatasetMaker = Any
PAGE = "docs/how-to/boutiques.md"
SAMPLES = {"Number": "2", "String": "T1w", "File": "there"}
BOSH = shutil.which("bosh", path=str(Path(sys.executable).parent)) or shutil.which("bosh")


@pytest.fixture
def described() -> dict[str, Any]:
    return descriptor(build_parser())


def by_name(described: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in described["inputs"]}


def arguments(entry: Mapping[str, Any]) -> list[str]:
    """Command line of one input, the way a platform substitutes its key."""
    flag = [entry["command-line-flag"]] if "command-line-flag" in entry else []
    if entry["type"] == "Flag":
        return flag
    return [*flag, str(entry.get("value-choices", [SAMPLES[entry["type"]]])[0])]


def test_every_option_is_described(described: dict[str, Any]) -> None:
    flags = {entry.get("command-line-flag") for entry in described["inputs"]}
    for action in build_parser()._actions:
        if action.option_strings and action.dest not in (
            "help",
            "help_all",
            "version",
            "bids_exec_spec",
        ):
            assert flags & set(action.option_strings), action.dest


def test_every_input_has_one_place_in_the_command_line(described: dict[str, Any]) -> None:
    keys = re.findall(r"\[[A-Z_]+\]", described["command-line"].partition("; ")[2])
    assert len(keys) == len(set(keys))
    assert set(keys) == {entry["value-key"] for entry in described["inputs"]}


def test_the_parser_takes_what_is_described(described: dict[str, Any]) -> None:
    parser = build_parser()
    for entry in described["inputs"]:
        if "command-line-flag" not in entry:
            continue
        value = {"device": "cpu", "reg_scale": "auto"}.get(entry["id"])
        line = [entry["command-line-flag"], value] if value else arguments(entry)
        assert len(parser.parse(["in", "out", "participant", *line])) == 4, line


def test_groups_exclude_what_the_parser_excludes(described: dict[str, Any]) -> None:
    inputs = by_name(described)
    groups = [group["members"] for group in described["groups"]]
    assert ["denoise", "linear"] in groups
    both = [*arguments(inputs["denoise"]), *arguments(inputs["linear"])]
    with pytest.raises(UsageError):
        build_parser().parse(["in", "out", "participant", *both])
    for group in described["groups"]:
        assert set(group["members"]) <= set(inputs)


def whole(text: str) -> int:
    return int(text)


def test_kinds_of_options_become_boutiques_types() -> None:
    parser = ArgumentParser(prog="app", description="An app.")
    for name in ("bids_dir", "output_dir", "level"):
        parser.add_argument(name)
    parser.add_argument("-c", "--count", type=whole, help="50 %% of them")
    parser.add_argument("--sizes", type=float, nargs="+", metavar="MM")
    parser.add_argument("--table", type=Path, metavar="FILE")
    parser.add_argument("--scratch", type=Path, metavar="FOLDER")
    parser.add_argument("--keep", action=BooleanOptionalAction)
    parser.add_argument("--bids-exec-spec", action=PrintDescriptor)
    inputs = by_name(descriptor(parser))
    assert inputs["count"]["type"] == "Number"
    assert inputs["count"]["integer"] is True
    assert inputs["count"]["description"] == "50 % of them"
    assert inputs["count"]["command-line-flag"] == "--count"
    assert inputs["sizes"]["list"] is True
    assert "integer" not in inputs["sizes"]
    assert inputs["table"]["type"] == "File"
    assert inputs["scratch"]["type"] == "String"
    assert (
        inputs["no_keep"] | {"command-line-flag": "--no-keep", "type": "Flag"} == inputs["no_keep"]
    )
    assert "bids_exec_spec" not in inputs


def test_the_option_prints_json_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="app", description="An app.")
    parser.add_argument("--bids-exec-spec", action=PrintDescriptor)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--bids-exec-spec", "--unknown"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["name"] == "app"


def test_the_program_prints_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--bids-exec-spec"])
    assert json.loads(capsys.readouterr().out) == descriptor(build_parser())


def test_exit_codes_are_those_of_the_exceptions(described: dict[str, Any]) -> None:
    codes = {entry["code"]: entry["description"] for entry in described["error-codes"]}
    assert codes[16] == "The folder is not a BIDS dataset this program can work on."
    assert UsageError.exit_code in codes


@pytest.mark.skipif(BOSH is None, reason="boutiques is not installed")
@pytest.mark.slow
def test_boutiques_validates_and_launches_it(
    described: dict[str, Any], make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    program = f"{sys.executable} -m bids_unires"
    prepared = tmp_path / "bids_unires.json"
    prepared.write_text(json.dumps(described).replace("; bids_unires [", f"; {program} ["))
    invocation = tmp_path / "invocation.json"
    values = {
        "bids_dir": str(make_dataset("sub-01_T1w", "sub-02_T1w")),
        "output_dir": str(tmp_path / "out"),
        "analysis_level": "participant",
        "participant_label": ["02"],
        "skip_bids_validation": True,
        "dry_run": True,
    }
    invocation.write_text(json.dumps(values))
    assert BOSH is not None
    subprocess.run([BOSH, "validate", "--bids", prepared], check=True, capture_output=True)
    launch = [BOSH, "exec", "launch", "--skip-data-collection", prepared, invocation]
    done = subprocess.run(launch, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sub-02_T1w.nii.gz" in done.stdout
    assert "sub-01_T1w.nii.gz" not in done.stdout


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Folder in which BIDS is the dataset of the demo: one scan of it, which takes seconds."""
    paths = DemoPaths(tmp_path / "demo")
    write_dataset(paths, load_icbm152(), PARTICIPANTS[:1], PROTOCOLS[:1], MOTIONS)
    (tmp_path / "BIDS").symlink_to(paths.bids)
    return tmp_path


def example() -> dict[str, Any]:
    """The invocation that the documentation shows, in code that is not a block."""
    text = " ".join((ROOT / PAGE).read_text("utf-8").split())
    (written,) = re.findall(r'`(\{"bids_dir".*?\})`', text)
    return dict(json.loads(written))


@pytest.mark.slow
@pytest.mark.skipif(BOSH is None, reason="boutiques is not installed")
def test_the_documented_launch(demo: Path) -> None:
    assert BOSH is not None
    # The same at a voxel size and with a number of iterations that take seconds.
    few = {"voxel_size": [5], "max_iter": 3, "omp_nthreads": 1}
    (demo / "invocation.json").write_text(json.dumps(example() | few))
    programs = f"{Path(sys.executable).parent}:{Path(BOSH).parent}:{os.environ['PATH']}"
    said = {}
    for beginning in ("bids_unires --bids-exec-spec", "bosh validate", "bosh exec launch"):
        done = subprocess.run(
            ["bash", "-c", documented(PAGE, beginning)],
            cwd=demo,
            # Boutiques keeps records of launches in the home folder.
            env={**os.environ, "PATH": programs, "HOME": str(demo)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said[beginning] = done.stdout + done.stderr
    assert "1 of 1 done" in said["bosh exec launch"]
    name = "sub-01_space-individual_res-5mm_desc-sr_T1w.nii.gz"
    image = nib.load(demo / "OUT" / "sub-01" / "anat" / name)
    assert image.header.get_zooms() == pytest.approx((5, 5, 5))
    assert np.ptp(image.get_fdata()) > 0


@pytest.mark.skipif(BOSH is None, reason="boutiques is not installed")
def test_a_launch_that_fails_says_why(described: dict[str, Any], tmp_path: Path) -> None:
    program = f"{sys.executable} -m bids_unires"
    prepared = tmp_path / "bids_unires.json"
    prepared.write_text(json.dumps(described).replace("; bids_unires [", f"; {program} ["))
    (tmp_path / "BIDS").mkdir()
    (tmp_path / "invocation.json").write_text(json.dumps(example()))
    assert BOSH is not None
    launch = [BOSH, "exec", "launch", "--skip-data-collection", prepared, "invocation.json"]
    done = subprocess.run(launch, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 16
    assert "The folder is not a BIDS dataset this program can work on." in done.stdout
