"""`python -m dupmae`: the same as the command `dupmae`."""

from __future__ import annotations

import sys

from dupmae.cli import main

if __name__ == "__main__":
    sys.exit(main())
