"""Start of Warp, the cache of compiled kernels, threads and devices.

Importing this package does not start Warp: kernels are declared without it. The first function
here that needs Warp starts it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import warp as wp

from .device import gpu_is_usable

# Several threads may need Warp for the first time at the same moment.
_STARTING = threading.Lock()


@cache
def start() -> None:
    """Initialise Warp without output and with a writable kernel cache; once per process."""
    with _STARTING:
        wp.config.log_level = wp.LOG_ERROR
        # A program that uses Warp itself may have set the folder already.
        if wp.config.kernel_cache_dir is None:
            wp.config.kernel_cache_dir = str(kernel_cache())
        if gpu_is_usable():
            wp.init()
        else:
            # Its library writes to standard error, bypassing Python, that there is no GPU driver.
            # This is expected without a GPU and helps nobody.
            with _standard_error_closed():
                wp.init()


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Discard what native code writes to standard error during the block."""
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def kernel_cache() -> Path:
    """Writable folder for compiled kernels.

    ``WARP_CACHE_PATH`` if it is set, else a folder in ``~/.cache/bids_unires``. This folder may
    not be writable: there may be no home folder, or it may belong to a container image that holds
    kernels compiled ahead. Then it is a folder of this user among the temporary files. Existing
    kernels are copied there, and those for another CPU or a GPU are added.
    """
    named = os.environ.get("WARP_CACHE_PATH")
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    wanted = Path(named) if named else home / "bids_unires" / "kernels"
    with suppress(OSError):
        wanted.mkdir(parents=True, exist_ok=True)
    if os.access(wanted, os.W_OK | os.X_OK):
        return wanted
    folder = _folder_of_this_user()
    _copy_kernels(wanted, folder)
    return folder


def _folder_of_this_user() -> Path:
    """A folder among the temporary files that no other user can write code to."""
    folder = Path(tempfile.gettempdir()) / f"bids_unires-kernels-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
        if mine and not about.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="bids_unires-kernels-"))


def _copy_kernels(source: Path, target: Path) -> None:
    for file in source.rglob("*"):
        copy = target / file.relative_to(source)
        if file.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            # The file gets its name only once it is complete: other processes may start now.
            partial = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copyfile(file, partial)
            partial.replace(copy)


@cache
def load(module: str, device: str) -> None:
    """Compile the kernels of a module, or load them from the cache, before threads launch them."""
    start()
    wp.load_module(module, device=device)


def device_of(device: torch.device) -> wp.Device:
    """The device of Warp that corresponds to a device of torch."""
    start()
    return wp.device_from_torch(device)


@lru_cache(maxsize=4)
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="slab")


def thread_count() -> int:
    """Number of CPU threads: that of torch, so that one setting applies to both."""
    return torch.get_num_threads()


def in_threads(task: Callable[[int], Any], parts: Iterable[int]) -> None:
    """Run ``task`` for every part, one thread each; the calls must release Python's lock (GIL)."""
    parts = list(parts)
    if len(parts) == 1:
        task(parts[0])
        return
    for _ in _workers(thread_count()).map(task, parts):
        pass


def split_among_threads(total: int, launch: Callable[[int, int], None]) -> None:
    """Divide ``total`` lines or rows into equal shares, one for every thread.

    ``launch`` is called for each share, with its first line and its number of lines.
    """
    threads = thread_count()
    edges = [total * part // threads for part in range(threads + 1)]
    in_threads(lambda k: launch(edges[k], edges[k + 1] - edges[k]), range(threads))


def as_array(tensor: torch.Tensor, dtype: type | None = None) -> wp.array[Any, Any]:
    """A tensor as an argument of kernels, on the same memory.

    Parameters
    ----------
    tensor
        Of any shape ``(...)``, which the array keeps unless ``dtype`` holds several numbers.
    dtype
        Type of the entries in Warp; None for that of the tensor.
    """
    start()
    # Creating a descriptor takes half as long as creating an array, and each kernel needs a dozen.
    return cast("wp.array[Any, Any]", wp.from_torch(tensor, dtype, return_ctype=True))


def flat(tensor: torch.Tensor) -> wp.array[Any, Any]:
    """A contiguous tensor of N numbers as a Warp array ``(N,)`` on the same memory."""
    return as_array(tensor.view(-1))
