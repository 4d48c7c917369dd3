"""What a run uses of the machine: cores, memory, and the devices that participants compute on."""

from __future__ import annotations

import os
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

# Read by the libraries when they are first imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Gpus:
    """The GPUs of this machine.

    Parameters
    ----------
    names
        Those that are usable: ``cuda:0``, ``cuda:1``, ...
    reason
        Why there are none, else how many.
    """

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Devices:
    """Where the participants of a run are worked on.

    Parameters
    ----------
    names
        ``cpu``, or the GPUs that share the participants.
    reason
        Why these.
    """

    names: tuple[str, ...]
    reason: str


def usable_cores() -> int:
    """Cores this process may use: by affinity, and by the limit of its container or job."""
    cores = len(os.sched_getaffinity(0))
    limit = core_limit()
    return cores if limit is None else max(1, min(cores, round(limit)))


def usable_memory() -> int:
    """Bytes this process may use: those of the machine, or of its container or job."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, memory_limit() or machine)


def threads_each(config: RunConfig, at_once: int) -> int:
    """Threads for each of the units of work that are done at once."""
    return config.omp_nthreads or max(1, usable_cores() // at_once)


def let_idle_threads_sleep() -> None:
    """Tell OpenMP not to let its threads spin between two calls, unless the user chose that.

    They would keep the cores from the threads that run the compiled kernels. OpenMP reads this
    once, when torch is imported; processes that start later inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def memory_each(config: RunConfig, at_once: int) -> int:
    """Bytes for each of them: its share of ``--mem-mb``, or of the memory there is."""
    memory = usable_memory() if config.mem_mb is None else config.mem_mb * 10**6
    return memory // at_once


def limit_threads(count: int) -> None:
    """Set the number of threads of every library, those already loaded included.

    It is the first thing that a worker does, before torch is imported where it can be.
    """
    let_idle_threads_sleep()
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if itk := sys.modules.get("SimpleITK"):
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def find_gpus() -> Gpus:
    """Ask torch, which is imported for it, and for nothing sooner."""
    import torch

    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return Gpus(
            tuple(f"cuda:{index}" for index in range(count)),
            "a GPU is usable" if count == 1 else f"{count} GPUs are usable",
        )
    if torch.version.cuda is None:
        return Gpus((), "no GPU is usable: this torch is built for the CPU only")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        shown = os.environ["CUDA_VISIBLE_DEVICES"]
        return Gpus((), f"no GPU is usable: CUDA_VISIBLE_DEVICES is {shown!r}")
    return Gpus((), "no GPU is usable: there is none, or its driver does not answer")


def choose_devices(name: str, gpus: Callable[[], Gpus]) -> Devices:
    """The devices that ``--device`` stands for on this machine.

    Parameters
    ----------
    name
        ``auto`` (all GPUs if there is one, else the CPU), ``cpu``, ``cuda`` (all GPUs) or
        ``cuda:N`` (that one).
    gpus
        Finds the GPUs; not called for ``cpu``.

    Raises
    ------
    UsageError
        If a GPU was asked for that is not there.

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
        Their names, at least one; a unit gets the one that the fewest others are using.
    threads
        For every unit.
    memory
        For every unit, in bytes.
    """

    def __init__(self, devices: Sequence[str], threads: int, memory: int) -> None:
        self._users = Counter(dict.fromkeys(devices, 0))
        self._threads = threads
        self._memory = memory
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[Allotment]:
        """Give an allotment for the duration of the block."""
        with self._lock:
            device = min(self._users, key=self._users.__getitem__)
            self._users[device] += 1
        try:
            yield Allotment(device, self._threads, self._memory)
        finally:
            with self._lock:
                self._users[device] -= 1
