"""What every test shares: no time limit on single examples, which a busy machine would break at random."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dupmae", deadline=None)
settings.load_profile("dupmae")
