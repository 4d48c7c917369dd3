from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from bids_unires.kernels import device

# What torch 2.13 for CUDA 13 says of a driver for CUDA 12.4.
OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12040). "
    "Please update your GPU driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to "
    "install a PyTorch version that has been compiled with your version of the CUDA driver. "
    "(Triggered internally at /__w/pytorch/pytorch/c10/cuda/CUDAFunctions.cpp:119.)"
)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    device.complaint_about_driver.cache_clear()
    yield
    device.complaint_about_driver.cache_clear()


def answer_once(monkeypatch: pytest.MonkeyPatch, *said: str) -> None:
    """Let torch find no GPU, and warn when it is asked first."""
    left = list(said)

    def is_available() -> bool:
        while left:
            warnings.warn(left.pop(0), stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ((), ""),
        (
            (OLD_DRIVER,),
            "CUDA initialization: The NVIDIA driver on your system is too old "
            "(found version 12040)",
        ),
        (
            (
                "CUDA initialization: Unexpected error.\n Error 804: forward compatibility was "
                "attempted on non supported HW (Triggered internally at CUDAFunctions.cpp:119.)",
            ),
            "CUDA initialization: Unexpected error. Error 804: forward compatibility was attempted "
            "on non supported HW",
        ),
    ],
)
def test_what_torch_says_of_the_driver_is_kept_and_not_written(
    monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], complaint: str
) -> None:
    answer_once(monkeypatch, *said)
    # Every warning is an error in these tests.
    assert not device.gpu_is_usable()
    assert device.complaint_about_driver() == complaint
    assert device.usable_device("auto") == torch.device("cpu")
