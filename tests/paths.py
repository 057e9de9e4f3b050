"""Where the repository's folders are, for the tests that read them."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Real collections stand outside the repository; tests that use them skip when there are none.
DATA = Path(os.environ.get("DUPMAE_DATA") or ROOT.parent / "shared" / "data")
