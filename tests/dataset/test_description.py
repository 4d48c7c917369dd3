from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bids.layout import BIDSLayout

from bids_unires import __version__
from bids_unires.config import MRI_SUFFIXES, RunConfig
from bids_unires.dataset import description
from bids_unires.dataset.description import dataset_description, generated_by, write_dataset_files
from bids_unires.dataset.naming import (
    aligned_space,
    derivative_path,
    fov_mask_path,
    label_path,
    lookup_path,
    mask_path,
    sidecar_path,
    study_grid_path,
    study_image_path,
    template_transform_path,
    transform_path,
)
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.sidecar import (
    derivative_uri,
    image_sidecar,
    label_sidecar,
    mask_sidecar,
    transform_sidecar,
)
from bids_unires.dataset.transforms import write_transform
from bids_unires.dataset.validation import find_validator
from bids_unires.dataset.writing import (
    atomic_path,
    copy_text,
    write_image,
    write_json,
    write_labels,
    write_mask,
)
from bids_unires.errors import OutputError
from bids_unires.records.image import ImageRecord

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]


CT_SCANS = ("sub-01_ct", "sub-02_ses-a_acq-cor_run-1_ct", "sub-03_ct")
LABELS = {
    "sub-01_space-T1w_seg-tissue_dseg": "anat",
    "sub-01_acq-sag_run-2_desc-lesion_dseg": "anat",
    "sub-01_echo-1_part-mag_label-veins_dseg": "anat",
    "sub-03_desc-bleed_dseg": "ct",
}
TEMPLATE = "MNI152NLin2009cAsym"


@pytest.fixture
def derivatives(make_dataset: DatasetMaker, add_image: FileAdder, tmp_path: Path) -> Path:
    """A derivative dataset with everything that both levels write."""
    bids_dir = make_dataset(
        "sub-01_T1w",
        "sub-01_acq-sag_run-2_T1w",
        "sub-01_acq-tse_ce-gad_rec-norm_FLAIR",
        "sub-01_echo-1_part-mag_T2starw",
        "sub-02_ses-a_PDw",
        T2starw={"EchoTime": 0.02},
    )
    for scan in CT_SCANS:
        add_image(bids_dir, scan, {"KVP": 120}, datatype="ct")
    labels = tmp_path / "labels"
    for name, datatype in LABELS.items():
        label = add_image(labels, name, {"LabelMap": {"1": "x"}}, datatype=datatype)
        label.with_name(f"{name}.tsv").write_text("index\tname\n1\tx\n")
    out = tmp_path / "out"
    write_dataset_files(out, bids_dir)
    write_dataset_files(out, bids_dir, labels)
    modalities = (*MRI_SUFFIXES, "ct")
    config = RunConfig(bids_dir, out, "participant", modalities=modalities, labels=labels)
    for plan in plan_participants(config):
        write_unit(out, plan, (1.5, 1.5, 1.5))
        write_group(out, plan, (1.5, 1.5, 1.5))
    (out / "logs").mkdir()
    (out / "logs" / "run.log").write_text("It went well.")
    (out / "sub-01.html").write_text("<html></html>")
    (out / "group_unires.tsv").write_text("participant_id\nsub-01\n")
    (out / "sub-01" / "figures").mkdir()
    (out / "sub-01" / "figures" / "sub-01_desc-fit.svg").write_text("<svg/>")
    return out


def write_unit(out: Path, plan: ParticipantPlan, voxel_size: tuple[float, float, float]) -> None:
    mask = write_mask(
        fov_mask_path(out, plan, voxel_size=voxel_size), np.ones((4, 4, 4)), np.eye(4)
    )
    grid = derivative_uri(out, mask)
    common: dict[str, Any] = {
        "voxel_size": voxel_size,
        "spatial_reference": grid,
        "description": "Made by a test.",
    }
    write_json(sidecar_path(mask), mask_sidecar(plan, **common))
    for contrast in plan.contrasts:
        maps = [kind + what for kind in ("sr", "denoised") for what in ("Std", "Measured")]
        for desc in ("sr", "denoised", "resliced", *maps):
            path = derivative_path(out, plan, contrast, desc=desc, voxel_size=voxel_size)
            write_image(path, np.random.default_rng(0).uniform(size=(4, 4, 4)), np.eye(4))
            record = ImageRecord(version=__version__, settings={"reg_scale": 4.0})
            content = image_sidecar(plan, contrast, **common)
            write_json(sidecar_path(path), record.in_sidecar(content))
    for scan in plan.scans:
        path = write_transform(transform_path(out, plan, scan), np.eye(4))
        content = transform_sidecar(scan, description="Moves.", spatial_reference=grid)
        write_json(sidecar_path(path), content)
        for label in scan.labels:
            assert label.lookup is not None
            path = label_path(out, plan, scan, label, voxel_size=voxel_size)
            write_labels(path, np.ones((4, 4, 4)), np.eye(4))
            write_json(sidecar_path(path), label_sidecar(scan, label, **common))
            copy_text(label.lookup, lookup_path(path))


def write_group(out: Path, plan: ParticipantPlan, voxel_size: tuple[float, float, float]) -> None:
    """The unit in the space of a template and in that of the study, and the study itself."""
    data = np.random.default_rng(0).uniform(size=(4, 4, 4))
    grid = write_mask(study_grid_path(out, voxel_size=voxel_size), data > 0, np.eye(4))
    common: dict[str, Any] = {
        "voxel_size": voxel_size,
        "spatial_reference": derivative_uri(out, grid),
        "description": "Made by a test.",
    }
    write_json(sidecar_path(grid), mask_sidecar(plan, **common))
    for space in ("study", aligned_space(TEMPLATE, "rigid"), aligned_space(TEMPLATE, "similarity")):
        for desc in ("brain", "head"):
            path = mask_path(out, plan, desc=desc, voxel_size=voxel_size, space=space)
            write_mask(path, data > 0, np.eye(4))
            write_json(sidecar_path(path), mask_sidecar(plan, **common))
        for contrast in plan.contrasts:
            path = derivative_path(
                out, plan, contrast, desc="sr", voxel_size=voxel_size, space=space
            )
            shared = (
                study_image_path(out, contrast.entities, desc=desc, voxel_size=voxel_size)
                for desc in (None, "cohort")
            )
            for image in (path, *shared):
                write_image(image, data, np.eye(4))
                content = image_sidecar(plan, contrast, **common)
                write_json(sidecar_path(image), content)
    for target in ("study", TEMPLATE):
        path = write_transform(template_transform_path(out, plan, target), np.eye(4))
        write_json(sidecar_path(path), {"Description": "Moves."})


def test_the_validator_finds_no_error(derivatives: Path) -> None:
    with atomic_path(derivatives / "sub-01/anat/sub-01_space-individual_T1w.nii.gz") as half:
        half.write_bytes(b"half-written")
        executable = find_validator()
        assert executable is not None
        done = subprocess.run(
            [executable, "--json", str(derivatives)], capture_output=True, text=True, check=False
        )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    # The same run has to notice something, or it looked at nothing.
    assert issues
    # What the validator recommends of the files that describe the dataset is there.
    assert [i for i in issues if i.get("location") == "/descriptions.tsv"] == []


def test_pybids_finds_the_images(derivatives: Path) -> None:
    layout = BIDSLayout(derivatives, validate=False, is_derivative=True)
    found = layout.get(
        desc="sr", space="individual", res="1p5mm", extension=".nii.gz", return_type="file"
    )
    assert sorted(Path(path).name for path in found if "/anat/" in path) == [
        "sub-01_acq-tse_ce-gad_rec-norm_space-individual_res-1p5mm_desc-sr_FLAIR.nii.gz",
        "sub-01_echo-1_part-mag_space-individual_res-1p5mm_desc-sr_T2starw.nii.gz",
        "sub-01_space-individual_res-1p5mm_desc-sr_T1w.nii.gz",
        "sub-02_ses-a_space-individual_res-1p5mm_desc-sr_PDw.nii.gz",
    ]
    (image,) = layout.get(suffix="T2starw", extension=".nii.gz", desc="sr", space="individual")
    assert image.get_metadata()["EchoTime"] == 0.02
    assert len(layout.get(suffix="mask", desc="fov", extension=".nii.gz")) == 3
    assert len(layout.get(suffix="xfm", to="individual", extension=".txt")) == 8
    assert len(layout.get(suffix="dseg", res="1p5mm", extension=".nii.gz")) == len(LABELS)
    assert len(layout.get(suffix="dseg", extension=".tsv")) == len(LABELS)


def test_every_source_and_reference_exists(derivatives: Path, tmp_path: Path) -> None:
    links = json.loads((derivatives / "dataset_description.json").read_text())["DatasetLinks"]
    roots = {"": derivatives, "raw": tmp_path / "raw", "labels": tmp_path / "labels"}
    assert links == {name: folder.as_uri() for name, folder in roots.items() if name}
    sidecars = [path for path in derivatives.rglob("*.json") if "_to-" not in path.name]
    for name in ("dataset_description.json", "descriptions.json"):
        sidecars.remove(derivatives / name)
    sidecars += derivatives.rglob("*_to-individual_*.json")
    assert len(sidecars) > 50
    for sidecar in sidecars:
        content = json.loads(sidecar.read_text())
        for uri in (*content["Sources"], content["SpatialReference"]):
            scheme, dataset, relative = uri.split(":", 2)
            assert scheme == "bids"
            assert (roots[dataset] / relative).is_file()


def test_every_desc_is_described(derivatives: Path) -> None:
    rows = (derivatives / "descriptions.tsv").read_text().splitlines()
    described = {row.split("\t")[0] for row in rows[1:]}
    used = {
        part
        for path in derivatives.rglob("*.nii.gz")
        for part in path.name.split("_")
        # Those of label images are their makers'.
        if part.startswith("desc-") and not path.name.endswith("_dseg.nii.gz")
    }
    assert used == described


def test_what_is_derived_keeps_the_terms_of_the_data(derivatives: Path) -> None:
    content = json.loads((derivatives / "dataset_description.json").read_text())
    assert content["License"] == "CC0"
    assert content["GeneratedBy"][0]["Version"] == __version__


def test_derivatives_within_the_dataset_can_move_with_it(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    out = bids_dir / "derivatives" / "bids_unires"
    assert dataset_description(out, bids_dir)["DatasetLinks"] == {"raw": "../.."}


def test_published_data_are_named_by_their_doi(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    file = bids_dir / "dataset_description.json"
    file.write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0", "DatasetDOI": "doi:10.1/x"}))
    content = dataset_description(tmp_path / "out", bids_dir)
    assert content["SourceDatasets"] == [{"DOI": "doi:10.1/x"}]
    assert "License" not in content


def test_the_container_is_named() -> None:
    assert "Container" not in generated_by({})
    environment = {"BIDS_UNIRES_CONTAINER_TYPE": "docker", "BIDS_UNIRES_CONTAINER_TAG": "x:1"}
    assert generated_by(environment)["Container"] == {"Type": "docker", "Tag": "x:1"}


def test_shared_files_are_written_once(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    write_dataset_files(tmp_path / "out", bids_dir)
    readme = tmp_path / "out" / "README"
    readme.write_text("Edited by its owner.")
    write_dataset_files(tmp_path / "out", bids_dir)
    assert readme.read_text() == "Edited by its owner."


@pytest.fixture
def of_older_version(
    make_dataset: DatasetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What an older version wrote, which knew less, and what the owner added."""
    out = tmp_path / "out"
    with monkeypatch.context() as older:
        older.setattr(description, "__version__", "0.0.9")
        older.setattr(description, "DESCRIPTIONS", {"sr": "Sharp"})
        older.setattr(description, "IGNORED", ("logs",))
        older.setenv("BIDS_UNIRES_CONTAINER_TAG", "x:0.0.9")
        write_dataset_files(out, make_dataset("sub-01_T1w"))
    path = out / "dataset_description.json"
    content = json.loads(path.read_text())
    assert content["GeneratedBy"][0]["Container"] == {"Tag": "x:0.0.9"}
    content["GeneratedBy"].insert(0, {"Name": "defacer", "Version": "3"})
    path.write_text(json.dumps({**content, "Name": "Chosen by its owner"}))
    added = {"README": "Ask Jo.", ".bidsignore": "mine", "descriptions.tsv": "desc-x\ty"}
    for name, more in added.items():
        with (out / name).open("a") as file:
            file.write(f"{more}\n")
    return out


def test_shared_files_follow_the_version(of_older_version: Path, tmp_path: Path) -> None:
    before = (of_older_version / "README").read_text()
    write_dataset_files(of_older_version, tmp_path / "raw")
    content = json.loads((of_older_version / "dataset_description.json").read_text())
    assert content["GeneratedBy"] == [{"Name": "defacer", "Version": "3"}, generated_by({})]
    assert content["Name"] == "Chosen by its owner"
    readme = (of_older_version / "README").read_text()
    assert readme == before.replace("0.0.9", __version__)
    assert readme.endswith("Ask Jo.\n")
    ignored = (of_older_version / ".bidsignore").read_text().splitlines()
    assert ignored == ["logs", "mine", *description.IGNORED[1:]]
    rows = (of_older_version / "descriptions.tsv").read_text().splitlines()
    assert len(rows) == 2 + len(description.DESCRIPTIONS)
    assert f"desc-sr\t{description.DESCRIPTIONS['sr']}" in rows
    assert rows[-1] == "desc-x\ty"


def test_shared_files_follow_the_version_of_bids(
    make_dataset: DatasetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids_dir, out = make_dataset("sub-01_T1w"), tmp_path / "out"
    with monkeypatch.context() as older:
        older.setattr(description, "BIDS_VERSION", "1.10.1")
        older.setattr(description, "_PRESENT_README", description._FORMER_README)
        write_dataset_files(out, bids_dir)
    (out / "descriptions.json").unlink()
    former = (out / "README").read_text()
    assert "space-study_*_desc-grid_mask" in former
    (out / "README").write_text(f"{former}Ask Jo.\n")
    write_dataset_files(out, bids_dir)
    content = json.loads((out / "dataset_description.json").read_text())
    assert content["BIDSVersion"] == "1.11.1"
    write_dataset_files(tmp_path / "new", bids_dir)
    assert (out / "README").read_text() == (tmp_path / "new/README").read_text() + "Ask Jo.\n"
    assert "Description" in json.loads((out / "descriptions.json").read_text())


def test_a_table_of_other_columns_is_that_of_its_owner(
    of_older_version: Path, tmp_path: Path
) -> None:
    table = of_older_version / "descriptions.tsv"
    table.write_text("desc_id\tdescription\tseen_by\n")
    write_dataset_files(of_older_version, tmp_path / "raw")
    assert table.read_text() == "desc_id\tdescription\tseen_by\n"


def test_labels_are_linked_to_once(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    out = tmp_path / "out"
    for labels in (tmp_path / "labels", tmp_path / "labels" / "." / ".." / "labels"):
        write_dataset_files(out, bids_dir, labels)
    content = json.loads((out / "dataset_description.json").read_text())
    assert content["DatasetLinks"]["labels"] == (tmp_path / "labels").as_uri()
    with pytest.raises(OutputError, match="another output folder"):
        write_dataset_files(out, bids_dir, tmp_path / "others")


@pytest.mark.parametrize("listed", [3, "bids_unires", {"Name": "bids_unires"}])
def test_a_generator_that_is_no_list_is_left_alone(tmp_path: Path, listed: object) -> None:
    path = tmp_path / "dataset_description.json"
    path.write_text(json.dumps({"Name": "Mine", "BIDSVersion": "1.10.1", "GeneratedBy": listed}))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "dataset_description.json").write_text('{"Name": "Raw", "BIDSVersion": "1.10.1"}')
    write_dataset_files(tmp_path, raw)
    assert json.loads(path.read_text())["GeneratedBy"] == listed
