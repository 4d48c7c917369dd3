"""The participants, protocols and motions of the demonstration."""

from __future__ import annotations

from .phantom import Participant
from .scanner import Motion, Protocol

PARTICIPANTS = (
    Participant("01", lesions=6, perivascular_spaces=150, seed=1),
    Participant(
        "02",
        size=(1.02, 0.95, 1.01),
        shear=0.02,
        displacement=2.0,
        lesions=30,
        perivascular_spaces=150,
        shading=0.08,
        seed=2,
    ),
)
"""One head with the shape of the template; one wider, shorter, sheared and warped, with many
lesions."""

PROTOCOLS = (
    Protocol(
        "T1w",
        {
            "grey": 560,
            "white": 800,
            "fluid": 180,
            "lesion": 560,
            "muscle": 420,
            "bone": 90,
            "scalp": 900,
        },
        texture_gain=900,
        plane="sagittal",
        metadata={
            "PulseSequenceType": "Spin echo",
            "RepetitionTime": 0.5,
            "EchoTime": 0.012,
            "FlipAngle": 90,
        },
    ),
    Protocol(
        "T2w",
        {
            "grey": 480,
            "white": 340,
            "fluid": 950,
            "lesion": 720,
            "muscle": 180,
            "bone": 60,
            "scalp": 520,
        },
        texture_gain=-500,
        plane="transverse",
        metadata={
            "PulseSequenceType": "Turbo spin echo",
            "RepetitionTime": 4.5,
            "EchoTime": 0.1,
            "FlipAngle": 90,
        },
    ),
    Protocol(
        "FLAIR",
        {
            "grey": 560,
            "white": 420,
            "fluid": 90,
            "lesion": 900,
            "muscle": 260,
            "bone": 60,
            "scalp": 480,
        },
        texture_gain=-250,
        plane="coronal",
        metadata={
            "PulseSequenceType": "Turbo spin echo, inversion prepared",
            "RepetitionTime": 9.0,
            "EchoTime": 0.12,
            "InversionTime": 2.5,
            "FlipAngle": 90,
        },
    ),
)
"""Common clinical contrasts, each with slices in a different plane."""

MOTIONS = {
    ("01", "T1w"): Motion(),
    ("01", "T2w"): Motion((1.5, -2.0, 1.0), (2.0, -1.0, 1.5)),
    ("01", "FLAIR"): Motion((-1.0, 1.2, 2.3), (-1.5, 1.0, 2.5)),
    ("02", "T1w"): Motion(),
    ("02", "T2w"): Motion((-2.2, 0.7, -1.3), (1.0, 2.0, -2.0)),
    ("02", "FLAIR"): Motion((0.8, 2.5, 1.6), (-2.5, -0.5, 1.0)),
}
"""Motion of the head in each scan, by participant label and suffix.

The T1w scan is the reference and has no motion."""
