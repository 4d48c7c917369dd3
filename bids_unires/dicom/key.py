"""Labels of participants, and the file that leads from them back to the patients."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..dataset.metadata import SidecarError, load_object
from ..dataset.writing import atomic_path
from ..errors import BadDataError, UsageError
from .headers import SeriesHeader

_SALT_BYTES = 16
_DIGITS = 8


@dataclass(frozen=True)
class Key:
    """Who the participants are.

    Without the salt, trying all numbers that a hospital gives would lead from a label to a patient.

    Parameters
    ----------
    salt
        Random text that goes into every label.
    patients
        Identity of each patient, by the label of the participant.
    """

    salt: str = field(default_factory=lambda: secrets.token_hex(_SALT_BYTES))
    patients: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Key:
        """Read a key, or begin a new one if there is no file.

        Raises
        ------
        BadDataError
            If the file is no key.
        """
        if not path.exists():
            return cls()
        try:
            content = load_object(path)
        except SidecarError as error:
            raise BadDataError(f"{path} is no key of participants: {error}") from error
        salt, patients = content.get("Salt"), content.get("Patients")
        if not isinstance(salt, str) or not isinstance(patients, dict):
            raise BadDataError(f"{path} is no key of participants: name another by --key-file")
        return cls(salt, {str(label): str(patient) for label, patient in patients.items()})

    def with_patients(self, labels: Mapping[str, str]) -> Key:
        """The key with further labels, given by the identity of the patient.

        Raises
        ------
        UsageError
            If a label stands for another patient already.
        """
        patients = dict(self.patients)
        for patient, label in labels.items():
            if patients.setdefault(label, patient) != patient:
                raise UsageError(
                    f"sub-{label} would stand for two patients: give each a folder of its own, or "
                    "leave out --label-by folder"
                )
        return Key(self.salt, patients)

    def write(self, path: Path) -> None:
        """Write the key, for its owner alone to read; see `atomic_path` for the errors."""
        content = {"Salt": self.salt, "Patients": dict(sorted(self.patients.items()))}
        with atomic_path(path) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def hashed_labels(self, series: Sequence[SeriesHeader]) -> dict[str, str]:
        """Label of each patient: the beginning of a hash of the identity and the salt."""
        return {
            header.patient: hashlib.sha256(f"{self.salt}{header.patient}".encode()).hexdigest()[
                :_DIGITS
            ]
            for header in series
        }


def folder_labels(series: Sequence[SeriesHeader], root: Path) -> dict[str, str]:
    """Label of each patient: the folder, directly in the root, that holds the patient's files.

    Raises
    ------
    UsageError
        If the files of a patient are in several such folders, or in none.
    """
    labels: dict[str, str] = {}
    for header in series:
        parts = header.folder.relative_to(root).parts
        label = re.sub(r"[^0-9A-Za-z]", "", parts[0]) if parts else ""
        if not label or labels.setdefault(header.patient, label) != label:
            raise UsageError(
                f"--label-by folder needs one folder for each patient in {root}: "
                f"{header.folder} does not fit"
            )
    return labels
