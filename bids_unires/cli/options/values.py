"""Values of options: what is accepted, and how it is shown in the help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable


def bare_label(prefix: str) -> Callable[[str], str]:
    """Make a converter that accepts a label with or without its prefix.

    Parameters
    ----------
    prefix
        ``sub-`` or ``ses-``.

    Returns
    -------
    callable
        From text to the label without prefix.

    Raises
    ------
    argparse.ArgumentTypeError
        By the converter, if the text is no BIDS label.
    """

    def bare(text: str) -> str:
        label = text.removeprefix(prefix)
        if not re.fullmatch(r"[0-9A-Za-z+]+", label):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no BIDS label: labels have letters and digits only"
            )
        return label

    return bare


def suffix(text: str) -> str:
    """Accept a BIDS suffix, of letters and digits.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is none.
    """
    if not re.fullmatch(r"[0-9A-Za-z]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no BIDS suffix, such as T1w")
    return text


def strength(text: str) -> float | str:
    """Accept a number without unit, or ``auto``.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is none.
    """
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number") from None


def device(text: str) -> str:
    """Accept ``auto``, ``cpu``, ``cuda`` or a GPU by its number, ``cuda:N``.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N")
    return text


def positive(text: str) -> int:
    """Accept a whole number above 0.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is none.
    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def yes_or_no(value: bool) -> str:
    """Show the default of a switch in the help."""
    return "yes" if value else "no"
