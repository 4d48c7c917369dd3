"""Slices that went wrong: found, mended or left out (``--robust``)."""
