"""Configuration of the documentation; ``make docs`` builds it, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
# The extensions of this site, and the package that they and autodoc read.
sys.path[:0] = [str(DOCS / "extensions"), str(DOCS.parent)]

project = "bids_unires"
author = "The bids_unires developers"
copyright = f"{author}, Apache License 2.0"
release = (DOCS.parent / "version").read_text("utf-8").strip()
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    # Formulas need no network either.
    "sphinx-mathjax-offline",
    "drawn_figures",
    "generated_reference",
    "kept_together",
]
exclude_patterns = ["_build"]
# Missing references are warnings, and warnings are errors (`make docs`).
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
