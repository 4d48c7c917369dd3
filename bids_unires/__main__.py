"""``python -m bids_unires`` is the same as the command ``bids_unires``."""

from __future__ import annotations

import sys

from .cli.main import main

# Worker processes import this module again when they start.
if __name__ == "__main__":
    sys.exit(main())
