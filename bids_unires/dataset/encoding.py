"""Decode text files that are not saved in UTF-8, the encoding that BIDS requires."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

UTF8 = "UTF-8"
# Encodings for text that is no Unicode. Windows-1252 lacks characters for some bytes; Latin-1 has
# one for every byte, so that it can decode the rest.
_WINDOWS, _LATIN = "Windows-1252", "Latin-1"


@dataclass(frozen=True)
class Text:
    """The content of a text file.

    Parameters
    ----------
    content
        The text, without a byte-order mark.
    encoding
        Name of the encoding of the file.
    """

    content: str
    encoding: str

    @property
    def fault(self) -> str | None:
        """Message about the encoding; None if it is UTF-8."""
        if self.encoding == UTF8:
            return None
        guess = self.encoding in (_WINDOWS, _LATIN)
        return (
            f"it is no UTF-8 and is read as {self.encoding}"
            + (", by which letters beyond ASCII may be wrong" if guess else "")
            + ": save it as UTF-8"
        )


def decode(raw: bytes) -> Text:
    """Decode a text whose encoding is UTF-8, UTF-16, UTF-32, Windows-1252 or Latin-1.

    UTF-16 and UTF-32 are recognised by their byte-order mark, or by the zeros among the first
    bytes. Other text that is no valid UTF-8 is taken for Windows-1252, or for Latin-1 if it has
    bytes that Windows-1252 does not define.

    Examples
    --------
    >>> decode("Größe".encode("utf-16"))
    Text(content='Größe', encoding='UTF-16')
    >>> decode("Größe".encode("latin-1")).encoding
    'Windows-1252'
    """
    # Works for any text that begins with two ASCII characters, as JSON, tables and patterns do.
    found = json.detect_encoding(raw)
    with suppress(UnicodeDecodeError):
        return Text(raw.decode(found), f"UTF-{found.split('-')[1]}")
    with suppress(UnicodeDecodeError):
        return Text(raw.decode("cp1252"), _WINDOWS)
    return Text(raw.decode("latin-1"), _LATIN)
