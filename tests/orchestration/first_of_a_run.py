"""What a process of a run does first, for a test that starts one. Nothing of ours is imported before."""

from __future__ import annotations

import importlib
from multiprocessing.connection import Connection


def tell(module: str, line: Connection) -> None:
    """Whether this process can ask Great Expectations, and whether it started it itself, once this module and our package are loaded."""
    importlib.import_module(module)
    from pipeline_project.orchestration import expectations

    line.send((expectations._line.cache_info().currsize == 1, expectations._started.cache_info().currsize == 1))
