"""The device that computes: CPU or GPU."""

from __future__ import annotations

import warnings
from functools import cache

import torch


def gpu_is_usable() -> bool:
    """Whether torch can compute on a GPU; nothing is written where it cannot."""
    complaint_about_driver()
    return torch.cuda.is_available()


@cache
def complaint_about_driver() -> str:
    """What torch finds wrong with the driver of the GPUs, on one line; empty if nothing is.

    Torch looks for GPUs once in each process. What it finds wrong then, such as a driver that is
    older than its CUDA, it says in a warning.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.is_available()
    text = str(said[-1].message) if said else ""
    # What follows are addresses of web pages, and a line in torch's source.
    text = text.partition("(Triggered internally")[0].partition("Please update")[0]
    return " ".join(text.split()).rstrip(".")


def usable_device(name: str = "auto") -> torch.device:
    """The torch device for a name.

    Parameters
    ----------
    name
        ``auto`` (the first GPU if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    ValueError
        If the name is unknown or the GPU does not exist.
    """
    if name == "auto":
        return torch.device("cuda:0" if gpu_is_usable() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"no device {name!r}: this machine offers {count} CUDA devices")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def device_name(device: torch.device) -> str:
    """Name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
