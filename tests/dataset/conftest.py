"""Files that a dataset of the shared fixture has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

FileAdder = Callable[..., Path]


@pytest.fixture
def add_image() -> FileAdder:
    """Give a function that adds an image of integers to a dataset, and its sidecar."""

    def add(
        root: Path, name: str, sidecar: Mapping[str, Any] | None = None, datatype: str = "anat"
    ) -> Path:
        unit = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        path = root.joinpath(*unit, datatype, f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        nib.Nifti1Image(data, np.diag([1.0, 1.0, 4.0, 1.0])).to_filename(path)
        if sidecar is not None:
            path.with_name(f"{name}.json").write_text(json.dumps(sidecar))
        return path

    return add
