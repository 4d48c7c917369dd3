"""URLs of what a page shows."""

from __future__ import annotations

import base64
from pathlib import PurePosixPath

from bids_unires.report.page import DataUrl, url_of


def test_a_file_within_the_page_stays_as_it_is() -> None:
    content = bytes(range(256))
    url = DataUrl.of(content, "image/webp")
    assert url_of(url) == url
    start, text = url.split(",")
    assert start == "data:image/webp;base64"
    assert base64.b64decode(text) == content


def test_a_name_of_a_file_is_never_taken_for_a_file_within() -> None:
    for name in ("data:text/html,<script>", "javascript:alert(1)"):
        for path in (name, PurePosixPath(name)):
            assert ":" not in url_of(path)
