"""Compare the outputs of two runs: ``compare.py ONE OTHER``. Bytes, apart from times and logs."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

# What a run says of itself and not of its results.
VARYING = frozenset({"RuntimeSeconds", "PeakMemoryBytes", "Device", "Container"})
DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
# The raw dataset is mounted somewhere else in a container.
FOLDER = re.compile(r"^file://.*")


def listing(root: Path) -> set[Path]:
    """Every file of a dataset but its logs, relative to the root."""
    files = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {path for path in files if path.parts[0] != "logs"}


def lasting(value: Any) -> Any:
    """JSON without what varies from run to run."""
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in VARYING}
    if isinstance(value, list):
        return [lasting(item) for item in value]
    if isinstance(value, str):
        return FOLDER.sub("FOLDER", DATE.sub("DATE", value))
    return value


def content(path: Path) -> Any:
    """What has to be the same in both: voxels and headers to the bit, JSON apart from times."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".json":
        return lasting(json.loads(path.read_text("utf-8")))
    return path.read_bytes()


def shows_time(path: Path) -> bool:
    """Whether a file says when or how long, in ways that cannot be taken out."""
    return path.suffix == ".html" or "_desc-convergence_" in path.name


def differences(one: Path, other: Path) -> list[str]:
    """Say of every file in which the two datasets differ.

    Reports show times and paths, and the course of the fit is drawn over time, so that only
    their being there is compared.
    """
    files, others = listing(one), listing(other)
    found = [f"only in one of them: {path}" for path in sorted(files ^ others)]
    for path in sorted(files & others):
        if not shows_time(path) and content(one / path) != content(other / path):
            found.append(f"differs: {path}")
    return found


def main() -> int:
    """Return 0 if the two are the same."""
    one, other = Path(sys.argv[1]), Path(sys.argv[2])
    count = len(listing(one))
    found = differences(one, other)
    print(
        "\n".join(found) if found else f"{count} files of {one.name} and {other.name} are the same"
    )
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())
