"""The cores, memory and devices that a run uses, and the share of each unit of work."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..config import RunConfig
from ..errors import UsageError
from ..work.allotment import Allotment
from ..work.control_groups import core_limit, memory_limit

# Libraries read these environment variables when they are first imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
# Address space of the interpreter, torch, Warp with its compiler, and SimpleITK.
_ADDRESS_SPACE_OF_LIBRARIES = 1400 * 2**20


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this machine.

    Parameters
    ----------
    names
        Names of the usable ones: ``cuda:0``, ``cuda:1``, ...
    reason
        Why there is no usable GPU; otherwise how many there are. Used in messages.
    """

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Devices:
    """The devices on which the participants of a run are processed.

    Parameters
    ----------
    names
        ``cpu``, or the names of the GPUs among which the participants are divided.
    reason
        Why these devices are used; for messages.
    """

    names: tuple[str, ...]
    reason: str


def usable_cores() -> int:
    """Number of cores that this process may use.

    CPU affinity and the limits of a container or job are taken into account.
    """
    cores = len(os.sched_getaffinity(0))
    limit = core_limit()
    return cores if limit is None else max(1, min(cores, round(limit)))


def usable_memory() -> int:
    """Memory in bytes that this process may use.

    It is the memory of the machine, or the limit of its container or job.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, memory_limit() or machine)


def check_address_space() -> None:
    """Refuse to start where ``ulimit -v`` leaves too little for the libraries alone.

    Where memory ends while modules are imported, the interpreter may hang instead of failing.

    Raises
    ------
    UsageError
        If it allows less than the libraries take.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE_OF_LIBRARIES:
        raise UsageError(
            f"ulimit -v allows {limit // 2**20} MiB of memory, and libraries alone take "
            f"{_ADDRESS_SPACE_OF_LIBRARIES // 2**20} MiB: raise that limit; --mem-mb "
            "says how much memory a run may use"
        )


def threads_each(config: RunConfig, at_once: int) -> int:
    """Number of threads for each of the units of work that are done at the same time."""
    return config.omp_nthreads or max(1, usable_cores() // at_once)


def let_idle_threads_sleep() -> None:
    """Let the threads of OpenMP sleep rather than spin between calls, unless the user chose.

    Spinning threads would occupy the cores that the compiled kernels need. OpenMP reads this
    setting once, when torch is imported; processes that start later inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def memory_each(config: RunConfig, at_once: int) -> int:
    """Memory in bytes for each unit of work: its share of ``--mem-mb`` or of the usable memory."""
    memory = usable_memory() if config.mem_mb is None else config.mem_mb * 10**6
    return memory // at_once


def limit_threads(count: int) -> None:
    """Set the number of threads of all libraries, also of those already loaded.

    A worker calls this first, if possible before torch is imported.
    """
    let_idle_threads_sleep()
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if itk := sys.modules.get("SimpleITK"):
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def find_gpus() -> Gpus:
    """Find the usable GPUs; torch is imported only here, because that is slow."""
    import torch

    from ..kernels.device import complaint_about_driver, gpu_is_usable

    if gpu_is_usable():
        count = torch.cuda.device_count()
        return Gpus(
            tuple(f"cuda:{index}" for index in range(count)),
            "a GPU is usable" if count == 1 else f"{count} GPUs are usable",
        )
    if torch.version.cuda is None:
        return Gpus((), "no GPU is usable: this torch is built for the CPU only")
    if complaint := complaint_about_driver():
        return Gpus((), f"no GPU is usable: {complaint}")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        shown = os.environ["CUDA_VISIBLE_DEVICES"]
        return Gpus((), f"no GPU is usable: CUDA_VISIBLE_DEVICES is {shown!r}")
    return Gpus((), "no GPU is usable: there is none, or its driver does not answer")


def choose_devices(name: str, gpus: Callable[[], Gpus]) -> Devices:
    """Translate ``--device`` into the devices of this machine.

    Parameters
    ----------
    name
        ``auto`` (all GPUs, or the CPU if there is no GPU), ``cpu``, ``cuda`` (all GPUs) or
        ``cuda:N`` (GPU number N).
    gpus
        Function that finds the GPUs; not called for ``cpu``.

    Raises
    ------
    UsageError
        If the requested GPU does not exist.

    Examples
    --------
    >>> choose_devices("auto", lambda: Gpus(("cuda:0", "cuda:1"), "2 GPUs are usable")).names
    ('cuda:0', 'cuda:1')
    """
    if name == "cpu":
        return Devices(("cpu",), "as asked for")
    found = gpus()
    if name == "auto":
        return Devices(found.names or ("cpu",), found.reason)
    if not found.names:
        raise UsageError(f"--device: no device {name!r}: {found.reason}")
    if name == "cuda":
        return Devices(found.names, "as asked for")
    if name not in found.names:
        raise UsageError(
            f"--device: no device {name!r}: this machine offers {', '.join(found.names)}"
        )
    return Devices((name,), "as asked for")


class AllotmentPool:
    """Lends devices, threads and memory to units of work.

    Parameters
    ----------
    devices
        Names of the devices, at least one. A unit gets the device that the fewest others use.
    threads
        Number of threads of each unit.
    memory
        Memory of each unit, in bytes.
    """

    def __init__(self, devices: Sequence[str], threads: int, memory: int) -> None:
        self._users = Counter(dict.fromkeys(devices, 0))
        self._threads = threads
        self._memory = memory
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[Allotment]:
        """Lend an allotment for the duration of the block."""
        with self._lock:
            device = min(self._users, key=self._users.__getitem__)
            self._users[device] += 1
        try:
            yield Allotment(device, self._threads, self._memory)
        finally:
            with self._lock:
                self._users[device] -= 1
