"""The exceptions of the program, each with the exit code of a run that ends with it.

The exit codes follow the draft of the BIDS execution specification and, from 64 on,
``sysexits.h``.
"""

from __future__ import annotations


class UniResError(Exception):
    """An error that ends a run, or the processing of one participant, with one readable line.

    The message says what is wrong, in which file, and what to do.
    """

    exit_code: int = 1


class InvalidDatasetError(UniResError, ValueError):
    """The folder is not a BIDS dataset this program can work on."""

    exit_code = 16


class UnknownLevelError(UniResError, ValueError):
    """The analysis level is neither ``participant`` nor ``group``."""

    exit_code = 17


class NothingSelectedError(UniResError, LookupError):
    """No image in the dataset matches the selected labels and filters."""

    exit_code = 18


class UsageError(UniResError, ValueError):
    """Options of the command line contradict each other, or a value is not possible."""

    exit_code = 64


class BadDataError(UniResError, ValueError):
    """An image or sidecar cannot be used: it is damaged, constant or of the wrong kind."""

    exit_code = 65


class MissingInputError(UniResError, FileNotFoundError):
    """A file or folder to read does not exist or has no content."""

    exit_code = 66


class OutputError(UniResError, OSError):
    """An output file or folder cannot be created at the requested place."""

    exit_code = 73


class InputOutputError(UniResError, OSError):
    """Reading or writing failed after it had begun (disk full, connection lost)."""

    exit_code = 74
