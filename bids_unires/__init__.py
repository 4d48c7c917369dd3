"""Super-resolution of clinical MRI stored as a BIDS dataset."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _version() -> str:
    try:
        return version("bids_unires")
    except PackageNotFoundError:
        # A checkout that was never installed still knows what it is.
        return (Path(__file__).resolve().parent.parent / "version").read_text("utf-8").strip()


__version__ = _version()
