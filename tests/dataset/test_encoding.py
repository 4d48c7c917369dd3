from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.dataset.encoding import UTF8, decode

UNICODE = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
}
WITHOUT_MARK = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
# Letters of any alphabet, after two characters of ASCII as JSON begins with.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map('{"'.__add__)


@given(text=TEXTS, codec=st.sampled_from(list(UNICODE)))
def test_unicode_is_known_by_its_mark(text: str, codec: str) -> None:
    found = decode(text.encode(codec))
    assert (found.content, found.encoding) == (text, UNICODE[codec])
    assert (found.fault is None) is (found.encoding == UTF8)


@given(text=TEXTS, codec=st.sampled_from(WITHOUT_MARK))
def test_unicode_without_a_mark_is_known_by_its_zeros(text: str, codec: str) -> None:
    assert decode(text.encode(codec)).content == text


@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ['{"Name": "Größe"}', "Sjögren\tå", "señor, Curaçao"])
def test_a_byte_for_each_letter_is_read_and_told(text: str, codec: str) -> None:
    found = decode(text.encode(codec))
    assert found.content == text
    assert "read as Windows-1252" in str(found.fault)
    assert "save it as UTF-8" in str(found.fault)


@given(st.binary(max_size=60))
def test_any_bytes_are_some_text(raw: bytes) -> None:
    found = decode(raw)
    assert isinstance(found.content, str)
    assert not found.content.encode("utf-8", "surrogatepass").startswith(codecs.BOM_UTF8 * 2)
