from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.records.image import ImageRecord
from bids_unires.records.template import TemplateRecord
from bids_unires.registration import load_template, packaged_template

NAME = "MNI152NLin2009cAsym"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of TemplateFlow with one small head."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    folder = tmp_path / "templateflow" / f"tpl-{NAME}"
    folder.mkdir(parents=True)
    cube = np.zeros((20, 20, 20), dtype=np.float32)
    cube[5:15, 5:15, 5:15] = 1
    for what in ("T1w", "desc-brain_mask"):
        image = nib.Nifti1Image(cube, np.diag([2.0, 2, 2, 1]))
        nib.save(image, folder / f"tpl-{NAME}_res-02_{what}.nii.gz")
    return folder


def test_the_packaged_head_is_told_from_that_of_templateflow(cache: Path) -> None:
    packaged = TemplateRecord.of_template(packaged_template())
    assert (packaged.source, packaged.file) == (
        "packaged with the program",
        "icbm152_head_T1w.nii.gz",
    )
    assert packaged.sha256 is not None
    found = TemplateRecord.of_template(load_template(NAME))
    assert (found.name, found.source, found.version) == (NAME, "TemplateFlow", None)
    assert found.file == f"tpl-{NAME}/tpl-{NAME}_res-02_T1w.nii.gz"
    assert found.sha256 == hashlib.sha256((cache.parent / found.file).read_bytes()).hexdigest()
    assert found.sha256 != packaged.sha256


def test_the_version_is_that_of_the_description(cache: Path) -> None:
    description = cache / "template_description.json"
    description.write_text(json.dumps({"TemplateFlowVersion": "1.0.0"}))
    assert TemplateRecord.of_template(load_template(NAME)).version == "1.0.0"
    description.write_text("[damaged")
    assert TemplateRecord.of_template(load_template(NAME)).version is None


def test_it_comes_back_from_the_sidecar_of_an_image_and_names_no_folder(cache: Path) -> None:
    record = ImageRecord(template=TemplateRecord.of_template(load_template(NAME)))
    content = json.loads(json.dumps(record.in_sidecar({})))
    assert ImageRecord.of_sidecar(content).template == record.template
    assert str(cache.parent) not in json.dumps(content)
