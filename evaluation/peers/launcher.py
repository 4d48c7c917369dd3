"""Run a program: ``python launcher.py USED PROGRAM ...`` writes to the file USED what it took.

A process begins with the memory of the one that starts it on its account. So this one, which is
small, stands between; it runs by itself, and imports nothing of this repository.
"""

import json
import os
import subprocess
import sys


def main() -> int:
    """Run the program to its end, and return its exit status."""
    used, *words = sys.argv[1:]
    process = subprocess.Popen(words)
    try:
        _, status, took = os.wait4(process.pid, 0)
    except KeyboardInterrupt:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    with open(used, "w") as file:
        json.dump(
            {
                "processor_seconds": round(took.ru_utime + took.ru_stime, 1),
                # Linux counts in KiB.
                "peak_mib": round(took.ru_maxrss / 1024),
            },
            file,
        )
    return abs(process.returncode)


if __name__ == "__main__":
    sys.exit(main())
