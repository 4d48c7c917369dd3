"""Record of where the head of a template comes from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..dataset.metadata import SidecarError, load_object
from .entries import Record, entry, text
from .fingerprint import Fingerprint

if TYPE_CHECKING:
    from ..registration import Template

_PACKAGED, _TEMPLATEFLOW = "packaged with the program", "TemplateFlow"


@dataclass(frozen=True)
class TemplateRecord(Record):
    """The head that images were aligned to.

    Parameters
    ----------
    name
        Name of the template in TemplateFlow.
    source
        ``packaged with the program`` or ``TemplateFlow``.
    file
        The image of the head: path within the folder of TemplateFlow, or name of the packaged
        file.
    version
        Version that TemplateFlow states of the template (``TemplateFlowVersion``); None of the
        packaged head, whose version is that of the program.
    sha256
        SHA-256 checksum of that file, in hexadecimal digits.
    """

    name: str | None = entry("Name", text)
    source: str | None = entry("Source", text)
    file: str | None = entry("File", text)
    version: str | None = entry("Version", text)
    sha256: str | None = entry("SHA256", text)

    @classmethod
    def of_template(cls, template: Template) -> Self:
        """Make the record of a template that was loaded."""
        path = template.image.path
        if path is None:
            return cls(name=template.name)
        checksum = None
        with suppress(OSError):
            checksum = Fingerprint.of_file(path).sha256
        if template.is_packaged:
            return cls(template.name, _PACKAGED, path.name, None, checksum)
        within = f"{path.parent.name}/{path.name}"
        return cls(template.name, _TEMPLATEFLOW, within, _version(path.parent), checksum)


def _version(folder: Path) -> str | None:
    """The version that the description of a template states; None if it states none."""
    with suppress(SidecarError, OSError):
        return text(load_object(folder / "template_description.json").get("TemplateFlowVersion"))
    return None
