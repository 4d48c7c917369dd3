"""Starting warp: where compiled kernels are kept, how many threads work, which device.

Importing this package starts nothing: kernels are declared without a running warp, and the
first function here that needs one starts it.
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

# Threads may need warp for the first time at once.
_STARTING = threading.Lock()


@cache
def start() -> None:
    """Initialise warp, quietly, with a kernel cache that can be written; once in a process."""
    with _STARTING:
        wp.config.log_level = wp.LOG_ERROR
        # A program that runs warp for purposes of its own has chosen already.
        if wp.config.kernel_cache_dir is None:
            wp.config.kernel_cache_dir = str(kernel_cache())
        if torch.cuda.is_available():
            wp.init()
        else:
            # Its library writes past Python that it found no GPU driver: no news to anyone.
            with _standard_error_closed():
                wp.init()


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Send what native code writes to standard error nowhere while the block runs."""
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
    """Folder of compiled kernels, which can be written.

    ``WARP_CACHE_PATH`` where it is set, else ``~/.cache/bids_unires``. Where that cannot be
    written (there is no home; or it is that of a container image, with kernels compiled ahead)
    a folder of this user among the temporary files, into which what is there is copied:
    another CPU, or a GPU, adds its own.
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
    """A folder among the temporary files into which nobody else can put code to be run."""
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
            # Under its name only when it is whole: other processes may start just now.
            partial = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copyfile(file, partial)
            partial.replace(copy)


@cache
def load(module: str, device: str) -> None:
    """Compile a module's kernels, or find them compiled, before threads launch them at once."""
    start()
    wp.load_module(module, device=device)


def device_of(device: torch.device) -> wp.Device:
    """Warp's name for a device of torch."""
    start()
    return wp.device_from_torch(device)


@lru_cache(maxsize=4)
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="slab")


def thread_count() -> int:
    """CPU threads in use: torch's number, so that one setting governs both."""
    return torch.get_num_threads()


def in_threads(task: Callable[[int], Any], parts: Iterable[int]) -> None:
    """Run ``task`` for every part, one thread each; the calls must release the lock."""
    parts = list(parts)
    if len(parts) == 1:
        task(parts[0])
        return
    for _ in _workers(thread_count()).map(task, parts):
        pass


def split_among_threads(total: int, launch: Callable[[int, int], None]) -> None:
    """Hand out ``total`` lines or rows in equal shares, one for every thread.

    ``launch`` is called with the first one and the number of each share.
    """
    threads = thread_count()
    edges = [total * part // threads for part in range(threads + 1)]
    in_threads(lambda k: launch(edges[k], edges[k + 1] - edges[k]), range(threads))


def as_array(tensor: torch.Tensor, dtype: type | None = None) -> wp.array[Any, Any]:
    """A tensor as what kernels take, on the same memory."""
    start()
    # A descriptor takes half as long to make as an array, and there are a dozen for each kernel.
    return cast("wp.array[Any, Any]", wp.from_torch(tensor, dtype, return_ctype=True))


def flat(tensor: torch.Tensor) -> wp.array[Any, Any]:
    """A contiguous tensor as a one-dimensional warp array on the same memory."""
    return as_array(tensor.view(-1))
