"""With how many threads the libraries of numbers compute: OpenBLAS, OpenMP, and what else threadpoolctl knows."""

import sys
from functools import lru_cache
from typing import Any


def limited(threads: int) -> Any:
    """Have them compute with so many threads from now on; as a context, while it is entered. Needs threadpoolctl, a part of
    scikit-learn's installation.
    """
    return _loaded(len(sys.modules)).limit(limits=threads)


@lru_cache(maxsize=1)
def _loaded(_modules: int) -> Any:
    """Return the libraries that are loaded. To look for them takes some milliseconds: again only once more modules are."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
