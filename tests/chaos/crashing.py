"""A PostgreSQL server of a test's own, to be crashed or starved: the suite's is used by others."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import EmbeddedPostgres
from tests.world import NOON


@contextmanager
def database_of_its_own() -> Iterator[Database]:
    """In simulated time, on a server that ends with the block."""
    with folder("pipeline-own-") as home:
        database = Database.find("own", Settings(home=home))
        assert database.server is not None
        try:
            schema.create(database, simulation_start=NOON)
            yield database
        finally:
            database.close()
            database.server.stop()


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Not below pytest's own, which the server's account cannot enter."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home.rename(home.with_suffix(".gone")))  # in one step: the reaper finds no folder any more to lay its locks into


def crash(server: EmbeddedPostgres) -> None:
    """`pg_ctl -m immediate`: nothing is written down any more. And start again, which recovers from the log."""
    programs, account = server.server.binaries.folder, server.server.account
    stop = [str(programs / "pg_ctl"), "-D", str(server.server.data), "-m", "immediate", "-s", "-w", "stop"]
    subprocess.run(account.becoming(*stop), check=True, cwd="/")
    server._ensure_running()
