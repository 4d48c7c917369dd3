"""Time and memory of a whole participant of the demonstration, in a separate process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bids_unires.demo.dataset import claim, write_dataset
from bids_unires.demo.phantom import load_icbm152
from bids_unires.demo.study import MOTIONS, PARTICIPANTS, PROTOCOLS

# Each phase, and a pattern of the log line that ends it.
PHASES = (
    ("start, validation, index", r"sub-01 starts"),
    ("libraries", r"device: "),
    ("reading, noise, registration", r"reconstruction grid: "),
    ("fit", r"(converged|stopped at)"),
    ("writing", r"sub-01 done"),
)


def measure(device: str) -> dict[str, float]:
    """Wall time by phase in s, and peak memory in GiB, of three contrasts at 1 mm."""
    with tempfile.TemporaryDirectory() as folder:
        paths = claim(Path(folder) / "demo")
        write_dataset(paths, load_icbm152(), PARTICIPANTS[:1], PROTOCOLS, MOTIONS)
        command = [sys.executable, "-m", "bids_unires", str(paths.bids), str(paths.derivatives)]
        command += ["participant", "--participant-label", "01", "--device", device]
        began, wall = time.time(), time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        log = process.stderr.read().decode() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        total = time.perf_counter() - wall
    if status != 0:
        raise RuntimeError(f"the participant failed:\n{log}")
    return {
        **_phases(log, began),
        "whole process": total,
        "peak memory GiB": usage.ru_maxrss / 2**20,
    }


def _phases(log: str, began: float) -> dict[str, float]:
    durations, last = {}, began
    for name, pattern in PHASES:
        line = next(line for line in log.splitlines() if re.search(pattern, line))
        moment = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        durations[name] = moment - last
        last = moment
    return durations
