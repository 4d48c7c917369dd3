"""Names of the results of plain files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.dataset.plain_files import FilesRequest, PlainContrast, PlainLabels, plan_files
from bids_unires.errors import UsageError
from bids_unires.run.publishing import ResultNames
from tests.conftest import write_scan


def names_of(folder: Path, *texts: str, labels: tuple[str, ...] = ()) -> ResultNames:
    for text in (*texts, *labels):
        for part in text.rpartition("=")[0 if text in labels else 2].split(","):
            write_scan(folder / part)
    contrasts = []
    for text in texts:
        name, told, files = text.rpartition("=")
        paths = tuple(folder / part for part in files.split(","))
        contrasts.append(PlainContrast(name if told else paths[0].stem, paths))
    drawn = (PlainLabels(folder / file, scan) for file, scan in (x.split("=") for x in labels))
    return ResultNames(Path("out"), "ur_", plan_files(FilesRequest(tuple(contrasts), tuple(drawn))))


def test_every_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    labels = ("lesion.nii=T2.nii", "seg/T2.nii=a.nii")
    names = names_of(tmp_path, "T1=a.nii,b.nii", "T2.nii", labels=labels)
    (tmp_path / "lesion.tsv").write_text("index\tname\n")
    assert {path.name for path in names.all(with_deviations=False)} == {
        *("ur_T1.nii.gz", "ur_T1.json", "ur_T2.nii.gz", "ur_T2.json", "ur_T1.html"),
        *("ur_T1_1_xfm.txt", "ur_T1_2_xfm.txt", "ur_T2_xfm.txt"),
        *("ur_T1_fov.nii.gz", "ur_T1_fov.json", "ur_lesion.nii.gz", "ur_lesion.json"),
        # A label image that is called like a scan.
        *("ur_T2_labels.nii.gz", "ur_T2_labels.json"),
    }
    assert all(path.parent == Path("out") for path in names.all(with_deviations=True))
    more = set(names.all(with_deviations=True)) - set(names.all(with_deviations=False))
    assert {path.name for path in more} == {
        *("ur_T1_std.nii.gz", "ur_T1_std.json", "ur_T2_std.nii.gz", "ur_T2_std.json"),
    }
    maps = set(names.all(with_deviations=False, with_measured=True))
    assert {path.name for path in maps - set(names.all(with_deviations=False))} == {
        *("ur_T1_measured.nii.gz", "ur_T1_measured.json"),
        *("ur_T2_measured.nii.gz", "ur_T2_measured.json"),
    }


@pytest.mark.parametrize("texts", [("T1.nii", "T1_fov=x.nii"), ("T1.nii", "T1_std=x.nii")])
def test_names_that_two_results_would_have_are_refused(
    texts: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="two results would be called"):
        names_of(tmp_path, *texts).all(with_deviations=True)
