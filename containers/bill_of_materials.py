"""Print what an image holds, as a software bill of materials: CycloneDX 1.6 in JSON.

It lists Python, the Python packages of the environment that runs this script, and the packages of
Debian below them. The build of an image runs it once, when everything else is in place.

Sources: https://cyclonedx.org/docs/1.6/json and https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions, version
from typing import Any
from urllib.parse import quote

PROGRAM = "bids_unires"
# A longer entry is the whole text of a licence.
LONGEST_NAME_OF_LICENCE = 100
CLASSIFIER = "License :: "


def licences(package: Distribution) -> list[dict[str, Any]]:
    """What the metadata of a package say of its licence, most exact entry first."""
    entry = package.metadata.get
    if expression := entry("License-Expression"):
        return [{"expression": expression}]
    classifiers = [
        text for text in entry_list(package, "Classifier") if text.startswith(CLASSIFIER)
    ]
    names = [text.rpartition(" :: ")[2] for text in classifiers]
    named = (entry("License") or "").strip()
    if not names and named and "\n" not in named and len(named) <= LONGEST_NAME_OF_LICENCE:
        names = [named]
    return [{"license": {"name": name}} for name in names]


def entry_list(package: Distribution, name: str) -> list[str]:
    """All entries of one name in the metadata of a package."""
    return [str(value) for value in package.metadata.get_all(name) or ()]


def component(
    purl: str, name: str, release: str, kind: str = "library", **more: Any
) -> dict[str, Any]:
    """One entry of the list."""
    return {"type": kind, "bom-ref": purl, "name": name, "version": release, "purl": purl, **more}


def python_packages() -> Iterator[dict[str, Any]]:
    """The packages of this environment, and those that came with Python itself."""
    with_python = sysconfig.get_path("purelib", "posix_prefix", {"base": sys.base_prefix})
    for package in distributions(path=[*sys.path, with_python]):
        name = package.metadata["Name"]
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(package.version)}"
        found = licences(package)
        yield component(purl, name, package.version, **({"licenses": found} if found else {}))


def debian_packages() -> Iterator[dict[str, Any]]:
    """The packages of the operating system; none where it is not of Debian's family."""
    if not shutil.which("dpkg-query"):
        return
    system = platform.freedesktop_os_release()
    fields = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", fields], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        status, name, release, architecture = line.split()
        if status == "installed":
            distro = f"{system['ID']}-{system['VERSION_ID']}"
            purl = f"pkg:deb/{system['ID']}/{quote(name)}@{quote(release)}"
            purl += f"?arch={architecture}&distro={distro}"
            yield component(purl, name, release)


def bill_of_materials() -> dict[str, Any]:
    """Everything that is installed where this runs; the same image gives the same text."""
    python = platform.python_version()
    found = [
        component(f"pkg:generic/python@{python}", "python", python, "application"),
        *python_packages(),
        *debian_packages(),
    ]
    by_purl = {item["bom-ref"]: item for item in found}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": PROGRAM,
                "version": version(PROGRAM),
            }
        },
        "components": [by_purl[purl] for purl in sorted(by_purl)],
    }


if __name__ == "__main__":
    print(json.dumps(bill_of_materials(), indent=1))
