"""Numbers stay on one line with their units: their space becomes one that does not break."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

_UNITS = ("%", "dB", "GB", "GiB", "HU", "MB", "Hz", "degrees", "h", "min", "mm", "mm3", "ms", "s")
_BETWEEN = re.compile(rf"(?<=\d) (?=(?:{'|'.join(_UNITS)})(?!\w))")
NO_BREAK = "\N{NO-BREAK SPACE}"


def kept_together(text: str) -> str:
    """The text with spaces between a number and a unit that no line ends at.

    Examples
    --------
    >>> kept_together("4 mm, noise 1 % of 3 scans").replace(NO_BREAK, "~")
    '4~mm, noise 1~% of 3 scans'
    """
    return _BETWEEN.sub(NO_BREAK, text)


class KeepTogether(SphinxPostTransform):
    """Keeps numbers together with their units in all text that is not code."""

    default_priority = 900

    def run(self, **_: Any) -> None:
        """Change the text of one document."""
        code = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, code) and (new := kept_together(text)) != text:
                text.parent.replace(text, nodes.Text(new))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_post_transform(KeepTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
