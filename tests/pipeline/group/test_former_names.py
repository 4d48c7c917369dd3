"""Results of version 0.1.0 go on as if this version had made them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bids.layout import BIDSLayout

from bids_unires.cli.main import main
from bids_unires.errors import OutputError
from bids_unires.records import former_names
from bids_unires.records.former_names import adopt_template_names
from tests.documented import documented
from tests.pipeline.former import write_as_before
from tests.pipeline.study import RESLICED, Study

ONE_THREAD = ["--omp-nthreads", "1"]


@pytest.fixture
def former(study: Study) -> tuple[Study, dict[str, str]]:
    """A study of that version, and its files' former names by their present ones."""
    assert study.group(*RESLICED, *ONE_THREAD) == 0
    return study, write_as_before(study.out)


def references(out: Path) -> set[str]:
    """Files of the dataset itself that sidecars refer to."""
    found = set()
    for path in (*out.glob("sub-*/**/*.json"), *out.glob("tpl-*/*/*.json")):
        content = json.loads(path.read_text())
        uris = [*content.get("Sources", ()), content.get("SpatialReference")]
        found |= {uri for uri in uris if isinstance(uri, str) and uri.startswith("bids::")}
    return found


def test_everything_goes_on(
    former: tuple[Study, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    study, names = former
    images = {path: path.read_bytes() for path in study.images()}
    written = {path: path.stat().st_mtime_ns for path in study.images()}
    assert study.group(*RESLICED, *ONE_THREAD) == 0
    said = capsys.readouterr().err
    assert "have the names of BIDS 1.11 now" in said
    assert said.count("skipped: finished earlier") == 6
    assert {path: path.read_bytes() for path in study.images()} == images
    assert {path: path.stat().st_mtime_ns for path in study.images()} == written
    assert not list(study.out.glob("*space-study*"))
    assert all((study.out / present).is_file() for present in names)
    assert references(study.out)
    for uri in references(study.out):
        assert (study.out / uri.removeprefix("bids::")).is_file(), uri


def test_a_run_on_one_participant_follows_the_others_too(
    former: tuple[Study, dict[str, str]],
) -> None:
    study, _ = former
    assert study.group(*RESLICED, *ONE_THREAD, "--participant-label", "01") == 0
    for uri in references(study.out):
        assert (study.out / uri.removeprefix("bids::")).is_file(), uri
    assert len(study.grid_record()["Participants"]) == 3


def test_the_documented_renaming(former: tuple[Study, dict[str, str]]) -> None:
    study, names = former
    here = {"BIDS": study.raw, "OUT": study.out}
    page = "docs/how-to/earlier-versions.md"
    command = documented(page, "bids_unires BIDS OUT group --reports", here)
    assert main([*command.split()[1:], "--voxel-size", "5"]) == 0
    assert all((study.out / present).is_file() for present in names)
    layout = BIDSLayout(study.out, validate=False, is_derivative=True)
    found = layout.get(subject=None, datatype="anat", extension=".nii.gz", return_type="filename")
    assert sorted(Path(path).name for path in found) == sorted(
        Path(present).name for present in names if present.endswith(".nii.gz")
    )


def test_an_interrupted_renaming_is_finished(
    former: tuple[Study, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, names = former

    def replace(source: Path, target: Path) -> None:
        if "tpl-study" in str(target):
            if len(moved) == 2:
                raise OSError(28, "No space left on device")
            moved.append(source)
        rename(source, target)

    moved: list[Path] = []
    rename = former_names.os.replace
    with monkeypatch.context() as patched:
        patched.setattr(former_names.os, "replace", replace)
        with pytest.raises(OutputError, match="cannot be renamed"):
            adopt_template_names(study.out)
    adopt_template_names(study.out)
    assert all((study.out / present).is_file() for present in names)
    assert not list(study.out.glob("*space-study*"))


def test_files_of_both_versions_are_named_and_not_mixed(
    former: tuple[Study, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    study, names = former
    old = {former: (study.out / former).read_bytes() for former in names.values()}
    adopt_template_names(study.out)
    for former_name, content in old.items():
        (study.out / former_name).write_bytes(content)
    capsys.readouterr()
    assert study.group(*RESLICED, *ONE_THREAD) == 0
    said = capsys.readouterr().err
    assert "no run uses them any more" in said
    assert "space-study_res-5mm_desc-grid_mask.nii.gz" in said
    assert {name: (study.out / name).read_bytes() for name in old} == old


def test_present_results_are_left_alone(study: Study) -> None:
    assert study.group(*RESLICED, *ONE_THREAD) == 0
    before = {path: path.stat().st_mtime_ns for path in study.out.rglob("*")}
    adopt_template_names(study.out)
    assert {path: path.stat().st_mtime_ns for path in study.out.rglob("*")} == before
