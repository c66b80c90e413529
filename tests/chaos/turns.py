"""Two calls of the engine in turns, statement by statement: not by sleeping and hoping, but by holding each before its next step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import psycopg
import sqlalchemy as sa

from pipeline_project.store.database import Database
from tests.store.planting import run

Standing = Literal["paused", "blocked", "done"]

PATIENCE_S: Final = 60.0
"""A step that takes longer hangs: nothing in the engine waits so long for a lock."""

LOOK_S: Final = 0.01
"""After so long without news we ask PostgreSQL whether the player waits for a lock."""

STEPS_LIMIT: Final = 300
"""No call has so many: a race that never ends is told from one that does."""


class PlayOver(Exception):
    """Nobody watches any more."""


class Player:
    """A call in a thread of its own, which stops before each statement and each COMMIT until it is granted one more step."""

    def __init__(self, name: str, act: Callable[[], Any]) -> None:
        self.name = name
        self.backend: int | None = None
        self.steps = 0
        self.answer: Any = None
        self.failure: Exception | None = None
        self._left = False
        self._act = act
        self._news = threading.Condition()
        self._standing: Literal["running"] | Standing = "running"
        self.thread = threading.Thread(target=self._play, name=name, daemon=True)

    @property
    def done(self) -> bool:
        return self._standing == "done"

    def pause(self, backend: int) -> None:
        """Called by the player's own thread before a step."""
        with self._news:
            self.backend = backend
            if not self._left:
                self._standing = "paused"
                self._news.notify_all()
                granted = self._news.wait_for(lambda: self._left or self._standing == "running", PATIENCE_S)
                assert granted, f"{self.name} was never granted its next step"
            if self._left:
                raise PlayOver(self.name)

    def leave(self) -> None:
        """The play is over for it: it fails before its next step, and so holds no lock of those who come after."""
        with self._news:
            self._left = True
            self._standing = "done"
            self._news.notify_all()

    def begin(self) -> None:
        """Up to before its first step."""
        self.thread.start()
        self._await(lambda: False)

    def step(self, waits: Callable[[], bool]) -> Standing:
        """Grant one step, unless it is still in the last one; where that leads to."""
        with self._news:
            if self._standing == "paused":
                self.steps += 1
                assert self.steps < STEPS_LIMIT, f"{self.name} never ends"
                self._standing = "running"
                self._news.notify_all()
        return self._await(waits)

    def _await(self, waits: Callable[[], bool]) -> Standing:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            with self._news:
                if self._news.wait_for(lambda: self._standing != "running", LOOK_S):
                    return self._standing  # type: ignore[return-value]  # it is not "running", which is what we waited for
            if waits():
                return "blocked"
        raise AssertionError(f"{self.name} hangs in step {self.steps}")

    def _play(self) -> None:
        try:
            self.answer = self._act()
        except Exception as failure:  # what a race comes to is judged by the test
            self.failure = failure
        with self._news:
            self._standing = "done"
            self._news.notify_all()


class Stage:
    """Lets players of one database act in turns."""

    def __init__(self, database: Database) -> None:
        self._players: dict[threading.Thread, Player] = {}
        self._engine = database.engine
        self._watcher = sa.create_engine(database.admin, poolclass=sa.StaticPool, isolation_level="AUTOCOMMIT")

    def interleave(self, first: Callable[[], Any], second: Callable[[], Any], steps: int) -> tuple[Player, Player]:
        """`first` up to before its step `steps + 1`, then the whole of `second`, then the rest of `first`.

        Where `second` waits for a lock of `first`, that one goes on a step at a time until it has given it.
        """
        ahead, whole = (Player(name, act) for name, act in (("first", first), ("second", second)))
        with self._watched():
            try:
                self._play(ahead, whole, steps)
            except BaseException:
                for player in (ahead, whole):
                    player.leave()
                raise
        return ahead, whole

    def _play(self, ahead: Player, whole: Player, steps: int) -> None:
        self._enter(ahead)
        while not ahead.done and ahead.steps < steps:
            self._step(ahead, whole)
        self._enter(whole)
        while not whole.done:
            if self._step(whole, ahead) == "blocked":
                self._step(ahead, whole)
        while not ahead.done:
            self._step(ahead, whole)
        for player in (ahead, whole):
            player.thread.join(PATIENCE_S)

    def close(self) -> None:
        self._watcher.dispose()

    def _enter(self, player: Player) -> None:
        self._players[player.thread] = player  # by its thread: the engine's connections are shared
        player.begin()

    def _step(self, player: Player, other: Player) -> Standing:
        return player.step(lambda: self._blocks(other, player))

    def _blocks(self, holder: Player, waiter: Player) -> bool:
        if waiter.backend is None or holder.backend is None:
            return False
        with self._watcher.connect() as connection:
            blockers = run(connection, "select pg_blocking_pids(:pid)", pid=waiter.backend).scalar_one()
        return holder.backend in blockers

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def before_statement(connection: sa.Connection, *_: Any) -> None:
            self._pause(connection)

        sa.event.listen(self._engine, "before_cursor_execute", before_statement)
        sa.event.listen(self._engine, "commit", self._pause)
        try:
            yield
        finally:
            sa.event.remove(self._engine, "before_cursor_execute", before_statement)
            sa.event.remove(self._engine, "commit", self._pause)
            self._players.clear()

    def _pause(self, connection: sa.Connection) -> None:
        player = self._players.get(threading.current_thread())
        if player is not None:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            player.pause(driver.info.backend_pid)
