from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids.layout import BIDSLayout, Query

from bids_unires.config import RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.dataset.validation import find_validator
from bids_unires.errors import OutputError
from bids_unires.export.files import Export
from bids_unires.export.raw import export_raw
from bids_unires.export.selection import Selection, select_images


def export(results: Path, folder: Path, *participants: str, **how: bool) -> Path:
    units = select_images(results, Selection(participants=participants))
    export_raw(units, Export(results, folder, **how))
    return folder


@pytest.fixture
def exported(results: Path, tmp_path: Path) -> Path:
    return export(results, tmp_path / "handed")


def test_the_validator_finds_no_error(exported: Path) -> None:
    executable = find_validator()
    assert executable is not None
    done = subprocess.run(
        [executable, "--json", str(exported)], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    issues = report["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    # It looked at every image.
    assert sorted(report["summary"]["subjects"]) == ["01", "02", "03"]


def test_the_query_of_fmriprep_finds_the_images(exported: Path) -> None:
    """What niworkflows asks pybids for: suffix and datatype, magnitude only, any `rec-`."""
    layout = BIDSLayout(exported)
    for label, suffix, names in (
        ("01", "T1w", ["sub-01_rec-sr_T1w.nii.gz"]),
        ("01", "T2w", ["sub-01_rec-normSr_T2w.nii.gz"]),
        ("01", "FLAIR", ["sub-01_rec-sr_FLAIR.nii.gz"]),
        ("02", "T1w", ["sub-02_ses-a_rec-sr_T1w.nii.gz", "sub-02_ses-b_rec-sr_T1w.nii.gz"]),
    ):
        found = layout.get(
            subject=label,
            datatype="anat",
            suffix=suffix,
            part=["mag", Query.NONE],
            extension=[".nii", ".nii.gz"],
            return_type="filename",
        )
        assert sorted(Path(path).name for path in found) == names
    (image,) = layout.get(subject="03", suffix="T1w", extension=".nii.gz")
    assert image.get_metadata()["EchoTime"] == 0.004


def test_this_program_reads_it_too(exported: Path, tmp_path: Path) -> None:
    plans = plan_participants(RunConfig(exported, tmp_path / "again", "participant"))
    assert [plan.label for plan in plans] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b", "sub-03"]


def test_sidecars_say_how_images_were_made(exported: Path) -> None:
    sidecar = json.loads((exported / "sub-01/anat/sub-01_rec-sr_T1w.json").read_text())
    assert sidecar["RepetitionTime"] == 2.3
    assert "SliceThickness" not in sidecar
    assert "SpatialReference" not in sidecar
    assert sidecar["UniRes"]["Settings"] == {"reg_scale": 4.0}
    links = json.loads((exported / "dataset_description.json").read_text())["DatasetLinks"]
    for uri in sidecar["Sources"]:
        _, dataset, relative = uri.split(":", 2)
        assert (Path(links[dataset].removeprefix("file://")) / relative).is_file(), uri


def test_the_table_of_participants_is_that_of_the_scans(exported: Path) -> None:
    text = (exported / "participants.tsv").read_text()
    assert text == "participant_id\tage\nsub-01\t40\nsub-02\t41\nsub-03\tn/a\n"
    assert json.loads((exported / "participants.json").read_text())["age"]["Units"] == "years"


def test_it_works_without_the_scans(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "raw")
    exported = export(results, tmp_path / "handed")
    text = (exported / "participants.tsv").read_text()
    assert text == "participant_id\nsub-01\nsub-02\nsub-03\n"


def test_images_are_copies_links_or_integers(results: Path, tmp_path: Path) -> None:
    name = "sub-01/anat/sub-01_rec-sr_T1w.nii.gz"
    source = results / "sub-01/anat/sub-01_space-individual_res-1mm_desc-sr_T1w.nii.gz"
    copy = export(results, tmp_path / "copies") / name
    assert not copy.is_symlink()
    assert copy.read_bytes() == source.read_bytes()
    link = export(results, tmp_path / "links", link=True) / name
    assert not Path(os.readlink(link)).is_absolute()
    assert link.resolve() == source.resolve()
    image = nib.load(export(results, tmp_path / "integers", integers=True) / name)
    assert image.get_data_dtype() == np.int16
    truth = nib.load(source).get_fdata()
    step = np.abs(truth).max() / 32767
    np.testing.assert_allclose(image.get_fdata(), truth, atol=0.51 * step)
    assert np.array_equal(image.get_fdata() == 0, truth == 0)
    assert np.array_equal(image.affine, nib.load(source).affine)


def test_later_participants_join_earlier_ones(results: Path, tmp_path: Path) -> None:
    folder = export(results, tmp_path / "handed", "01")
    image = folder / "sub-01/anat/sub-01_rec-sr_T1w.nii.gz"
    before = image.stat()
    export(results, folder, "02", "01")
    # Not written again; reading it changes its time of access.
    assert (image.stat().st_ino, image.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    text = (folder / "participants.tsv").read_text()
    assert text == "participant_id\tage\nsub-01\t40\nsub-02\t41\n"


@pytest.mark.parametrize("how", [{}, {"link": True}, {"integers": True}])
def test_nothing_is_replaced_without_a_word(
    results: Path, tmp_path: Path, how: dict[str, bool]
) -> None:
    folder = export(results, tmp_path / "handed", "01", **how)
    image = folder / "sub-01/anat/sub-01_rec-sr_T1w.nii.gz"
    image.unlink()
    image.write_bytes(b"defaced by its user")
    (folder / "sub-01/anat/sub-01_rec-sr_FLAIR.nii.gz").unlink()
    with pytest.raises(OutputError, match=r"sub-01_rec-sr_T1w.nii.gz would be replaced.*--overwri"):
        export(results, folder, **how)
    assert image.read_bytes() == b"defaced by its user"
    assert not (folder / "sub-02").exists()
    assert not (folder / "sub-01/anat/sub-01_rec-sr_FLAIR.nii.gz").exists()
    export(results, folder, overwrite=True, **how)
    assert nib.load(image).shape == (6, 7, 8)
    assert (folder / "sub-02").exists()


def test_an_interrupted_export_is_finished_by_the_same_command(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bids_unires.export import files

    copies: list[Path] = []

    def copy(source: Path, path: Path) -> Path:
        if len(copies) == 2:
            raise KeyboardInterrupt
        copies.append(path)
        return original(source, path)

    original = files.copy_file
    with monkeypatch.context() as patched:
        patched.setattr(files, "copy_file", copy)
        with pytest.raises(KeyboardInterrupt):
            export(results, tmp_path / "handed")
    folder = export(results, tmp_path / "handed")
    assert len(list(folder.rglob("*.nii.gz"))) == 7
    assert not list(folder.rglob(".unires-*"))


def test_a_folder_of_something_else_is_left_alone(results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("text")
    for folder, word in (
        (other, "holds other files"),
        (other / "thesis.tex", "is no folder"),
        (results / "raw", "beside the results"),
        (tmp_path, "beside the results"),
        (tmp_path / "raw" / "handed", "taken for scans"),
    ):
        with pytest.raises(OutputError, match=word):
            export(results, folder, overwrite=True)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    assert not (results / "raw").exists()


def test_results_of_two_runs_are_not_mixed(results: Path, tmp_path: Path) -> None:
    folder = export(results, tmp_path / "handed", "01")
    moved = shutil.copytree(results, tmp_path / "moved")
    with pytest.raises(OutputError, match="holds an export of"):
        export(moved, folder)
    export(moved, folder, overwrite=True)
    links = json.loads((folder / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["unires"] == moved.as_uri()


def test_derivatives_within_the_dataset_can_be_handed_over_beside(
    results: Path, tmp_path: Path
) -> None:
    within = shutil.move(results, tmp_path / "raw" / "derivatives" / "unires")
    description = Path(within) / "dataset_description.json"
    content = json.loads(description.read_text())
    content["DatasetLinks"]["raw"] = "../.."
    description.write_text(json.dumps(content))
    folder = export(Path(within), tmp_path / "raw" / "derivatives" / "handed")
    links = json.loads((folder / "dataset_description.json").read_text())["DatasetLinks"]
    assert links["raw"] == (tmp_path / "raw").as_uri()
