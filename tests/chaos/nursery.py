"""Processes to be killed: one Python that has imported everything forks a child for each, in milliseconds instead of seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from pipeline_project.engine.commit import Commit
from pipeline_project.engine.engine import Engine
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from tests.chaos.acts import ACTS, CHUNK
from tests.chaos.breaking import at_step, die
from tests.world import World


class Nursery:
    """`with Nursery() as nursery: nursery.kill(...)`."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.chaos.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def kill(self, engine: Engine, act: str, pool: str, prepared: Any, n: int) -> int:
        """A process makes the call and is killed before its n-th step: its end as `os.wait` tells it, 0 when the call came through."""
        assert self._process.stdin and self._process.stdout
        where = {"url": engine.database.url.render_as_string(hide_password=False), "artifacts": engine.artifacts.root}
        self._process.stdin.write(json.dumps({**where, "act": act, "pool": pool, "prepared": prepared, "n": n}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def engine_at(url: str, artifacts: str) -> Engine:
    """An engine of this process alone."""
    door = sa.make_url(url)
    return Engine.over(Database(name="", url=door, admin=door), Artifacts(artifacts), timezone="UTC")


def main() -> None:
    Commit._chunk_size = lambda _: CHUNK  # type: ignore[method-assign]  # in this process alone
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _live(**json.loads(line))
            except BaseException as failure:  # a child never becomes a second nursery
                sys.stderr.write(f"{failure!r}\n")
                os._exit(1)
            os._exit(0)
        _, ended = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
        sys.stdout.flush()


def _live(*, url: str, artifacts: str, act: str, pool: str, prepared: Any, n: int) -> None:
    engine = engine_at(url, artifacts)
    with at_step(engine.database, n, die):
        ACTS[act].call(World(engine, pool), prepared)


if __name__ == "__main__":
    main()
