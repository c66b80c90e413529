"""What a process of a run does first, for a test that starts one. Nothing of ours is imported before."""

from __future__ import annotations

import importlib
from multiprocessing.connection import Connection


def tell(module: str, line: Connection) -> None:
    """Whether Great Expectations is being loaded, once this module of Dagster's and our package are."""
    importlib.import_module(module)
    from pipeline_project.orchestration import expectations

    line.send(expectations._process.cache_info().currsize == 1)
