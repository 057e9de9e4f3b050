"""`documentation`: a retrieval set from the documentation of the installed Python packages."""

from __future__ import annotations

from dupmae.corpus.python_docs.documentation import Counts, build
from dupmae.settings import Documentation


def documentation(settings: Documentation) -> Counts:
    """Write the set; errors as `dupmae.corpus.python_docs.documentation.build`."""
    return build(
        settings.out, **{name: getattr(settings, name) for name in type(settings).model_fields if name != "out"}
    )
