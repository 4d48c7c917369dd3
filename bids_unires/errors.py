"""One exception tree; every leaf carries the exit code a caller sees.

The codes follow the draft of the BIDS execution specification and, above 63,
``sysexits.h``.
"""

from __future__ import annotations


class UniResError(Exception):
    """Anything that ends a run, or one participant of it, with a readable line.

    The message says what is wrong, which file it is about and what to do.
    """

    exit_code: int = 1


class InvalidDatasetError(UniResError, ValueError):
    """The folder is not a BIDS dataset this program can work on."""

    exit_code = 16


class UnknownLevelError(UniResError, ValueError):
    """The analysis level is neither ``participant`` nor ``group``."""

    exit_code = 17


class NothingSelectedError(UniResError, LookupError):
    """Labels and filters leave no image to work on."""

    exit_code = 18


class UsageError(UniResError, ValueError):
    """The command line contradicts itself or names something impossible."""

    exit_code = 64


class BadDataError(UniResError, ValueError):
    """An image or sidecar cannot be used: damaged, constant, of the wrong kind."""

    exit_code = 65


class MissingInputError(UniResError, FileNotFoundError):
    """A file or folder that should be read does not exist or has no content."""

    exit_code = 66


class OutputError(UniResError, OSError):
    """An output cannot be created where it was asked for."""

    exit_code = 73


class InputOutputError(UniResError, OSError):
    """Reading or writing failed half-way (disk full, connection lost)."""

    exit_code = 74
