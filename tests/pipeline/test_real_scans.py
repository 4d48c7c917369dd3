"""Real scans, where they lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_unires.cli import main
from bids_unires.geometry import Grid
from bids_unires.model import ForwardOperator, SliceProfile
from bids_unires.dataset.transforms import read_transform  # noqa: E402

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
