"""Text files in whatever encoding a program saved them; BIDS has UTF-8."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

UTF8 = "UTF-8"
# Of Western Europe's Windows; the second, which has a character for every byte, reads the rest.
_WINDOWS, _LATIN = "Windows-1252", "Latin-1"


@dataclass(frozen=True)
class Text:
    """The content of a text file.

    Parameters
    ----------
    content
        Without the byte-order mark that it may begin with.
    encoding
        Name of the encoding that it was in.
    """

    content: str
    encoding: str

    @property
    def fault(self) -> str | None:
        """What is wrong with the encoding, for people; None if it is UTF-8."""
        if self.encoding == UTF8:
            return None
        guess = self.encoding in (_WINDOWS, _LATIN)
        return (
            f"it is no UTF-8 and is read as {self.encoding}"
            + (", by which letters beyond ASCII may be wrong" if guess else "")
            + ": save it as UTF-8"
        )


def decode(raw: bytes) -> Text:
    """Find out the encoding of a text: UTF-8, UTF-16, UTF-32, or one byte for a character.

    UTF-16 and UTF-32 are known by their byte-order mark, or by the zeros of the first
    characters. What is none of these is taken for Windows-1252, of which Latin-1 is a part.

    Examples
    --------
    >>> decode("Größe".encode("utf-16"))
    Text(content='Größe', encoding='UTF-16')
    >>> decode("Größe".encode("latin-1")).encoding
    'Windows-1252'
    """
    # For any text that begins with two characters of ASCII, as JSON, tables and patterns do.
    found = json.detect_encoding(raw)
    with suppress(UnicodeDecodeError):
        return Text(raw.decode(found), f"UTF-{found.split('-')[1]}")
    with suppress(UnicodeDecodeError):
        return Text(raw.decode("cp1252"), _WINDOWS)
    return Text(raw.decode("latin-1"), _LATIN)
