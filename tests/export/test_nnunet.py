from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.dataset.query import ParticipantPlan
from bids_unires.errors import NothingSelectedError, OutputError
from bids_unires.export.files import Export
from bids_unires.export.nnunet import NnunetOutcome, export_nnunet
from bids_unires.export.selection import Selection, select_images
from tests.export.conftest import write_results


def export(results: Path, folder: Path, *contrasts: str, **how: bool) -> NnunetOutcome:
    units = select_images(results, Selection(contrasts=contrasts))
    return export_nnunet(units, Export(results, folder, **how), contrasts)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "imagesTs").iterdir())


def test_channels_are_numbered_in_the_order_asked_for(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Dataset001_Head"
    outcome = export(results, folder, "FLAIR", "T1w")
    assert outcome.channels == ("FLAIR", "T1w")
    assert names(folder) == [
        "sub-01_0000.nii.gz",
        "sub-01_0001.nii.gz",
        "sub-02_ses-a_0000.nii.gz",
        "sub-02_ses-a_0001.nii.gz",
    ]
    flair = nib.load(folder / "imagesTs" / "sub-02_ses-a_0000.nii.gz").get_fdata()
    assert np.median(flair) == pytest.approx(200, abs=5)
    described = json.loads((folder / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "FLAIR", "1": "T1w"}
    assert described["file_ending"] == ".nii.gz"


def test_who_lacks_a_channel_is_named(results: Path, tmp_path: Path) -> None:
    outcome = export(results, tmp_path / "d", "T1w", "FLAIR")
    assert outcome.left_out == {"sub-02_ses-b": "lacks FLAIR", "sub-03": "lacks FLAIR"}
    rows = [line.split("\t") for line in (tmp_path / "d" / "cases.tsv").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b", "sub-03"]
    assert rows[3][-2:] == ["left out", "lacks FLAIR"]
    assert rows[1][-2:] == ["exported", "n/a"]


def test_without_contrasts_all_are_channels(results: Path, tmp_path: Path) -> None:
    assert export(results, tmp_path / "d").channels == ("T1w", "rec-norm_T2w", "FLAIR")
    assert {name[:6] for name in names(tmp_path / "d")} == {"sub-01"}


def test_nobody_with_all_channels_is_an_error(results: Path, tmp_path: Path) -> None:
    for path in results.glob("sub-01/anat/*_FLAIR.nii.gz"):
        path.unlink()
    with pytest.raises(NothingSelectedError, match="sub-01 lacks FLAIR"):
        export(results, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_channels_of_one_case_share_a_grid(
    results: Path, plans: dict[str, ParticipantPlan], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_results(elsewhere, plans["sub-01"], shift=3.0)
    name = "sub-01/anat/sub-01_space-individual_res-1mm_desc-sr_FLAIR.nii.gz"
    (elsewhere / name).replace(results / name)
    outcome = export(results, tmp_path / "d", "T1w", "FLAIR")
    assert "several grids" in outcome.left_out["sub-01"]


def test_numbers_of_channels_never_change_their_meaning(results: Path, tmp_path: Path) -> None:
    export(results, tmp_path / "d", "T1w", "FLAIR")
    before = names(tmp_path / "d")
    with pytest.raises(OutputError, match="has the channels T1w, FLAIR, and this export FLAIR"):
        export(results, tmp_path / "d", "FLAIR", "T1w", overwrite=True)
    assert names(tmp_path / "d") == before


def test_a_training_set_of_the_same_channels_keeps_its_description(
    results: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Dataset002_Lesions"
    folder.mkdir()
    text = json.dumps({"channel_names": {"0": "T1w"}, "labels": {"background": 0, "lesion": 1}})
    (folder / "dataset.json").write_text(text)
    assert export(results, folder, "T1w").cases == (
        "sub-01",
        "sub-02_ses-a",
        "sub-02_ses-b",
        "sub-03",
    )
    assert (folder / "dataset.json").read_text() == text


def test_images_of_others_are_not_replaced(results: Path, tmp_path: Path) -> None:
    images = tmp_path / "d" / "imagesTs"
    images.mkdir(parents=True)
    (images / "sub-01_0000.nii.gz").write_bytes(b"of somebody else")
    with pytest.raises(OutputError, match=r"no dataset\.json says of which channels"):
        export(results, tmp_path / "d", "T1w", overwrite=True)
    (tmp_path / "d" / "dataset.json").write_text('{"channel_names": {"0": "T1w"}}')
    with pytest.raises(OutputError, match="would be replaced"):
        export(results, tmp_path / "d", "T1w")
    assert names(tmp_path / "d") == ["sub-01_0000.nii.gz"]
    assert export(results, tmp_path / "d", "T1w", overwrite=True).written.replaced == 1


def test_ct_has_the_name_by_which_nnunet_knows_it(
    results: Path, plans: dict[str, ParticipantPlan], tmp_path: Path
) -> None:
    source = results / "sub-03/anat/sub-03_space-individual_res-1mm_desc-sr_T1w.nii.gz"
    folder = results / "sub-03" / "ct"
    folder.mkdir()
    for path in (source, source.with_name(source.name.replace(".nii.gz", ".json"))):
        path.replace(folder / path.name.replace("_T1w", "_ct"))
    outcome = export(results, tmp_path / "d", "ct")
    assert outcome.channels == ("CT",)
    assert outcome.cases == ("sub-03",)


def test_nnunet_reads_what_is_handed_over(results: Path, tmp_path: Path) -> None:
    """Run where nnU-Net is installed, as `make tools-test` does."""
    utilities = pytest.importorskip("nnunetv2.utilities.utils")
    readers = pytest.importorskip("nnunetv2.imageio.simpleitk_reader_writer")
    export(results, tmp_path / "d", "T1w", "FLAIR")
    lists = utilities.create_lists_from_splitted_dataset_folder(
        str(tmp_path / "d" / "imagesTs"), ".nii.gz", num_processes=1
    )
    assert [len(channels) for channels in lists] == [2, 2]
    data, properties = readers.SimpleITKIO().read_images(lists[0])
    assert data.shape == (2, 8, 7, 6)
    assert properties["spacing"] == pytest.approx([1, 1, 1])
