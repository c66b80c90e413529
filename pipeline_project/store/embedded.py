"""The embedded PostgreSQL of one installation: started for its first user, shared by all, stopped soon after its last.

Nobody has to remember to stop it, and kill -9 of anybody leaks nothing, because the kernel keeps the books, in four locks (flock):

users.lock    shared by every process that uses the server; the reaper wants it alone, and so learns that the last user is gone
admin.lock    held while somebody starts or stops the server
server.lock   inherited by the postmaster and all its children; free only when the last of them has ended
reaper.lock   held by the one reaper, a detached process that stops the server

Order: users before admin. The reaper goes the other way, and therefore never waits for users.lock while it has admin.lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store.postgres_account import Account, durable_folder
from pipeline_project.store.postgres_binaries import find_binaries
from pipeline_project.store.postgres_server import START_S, SUPERUSER, PostgresServer

__all__ = ["SUPERUSER", "EmbeddedPostgres", "find_binaries"]

GRACE_S: Final = 2.0  # a script of several commands should not restart the server for each
ORPHAN_S: Final = 10.0  # longer than a postmaster takes from its fork to its socket


class EmbeddedPostgres:
    """A PostgreSQL server under `state_dir`, reached through a Unix socket that only its owner can open.

    Use it as a context manager, or `acquire` and `release`. Any number of processes may do so at once.
    """

    def __init__(self, state_dir: Path, pg_bin: Path | None = None) -> None:
        self.state_dir = state_dir.resolve()  # one folder has one name, in locks, sockets and /proc
        self._pg_bin = pg_bin
        self._hold: int | None = None

    def acquire(self) -> Self:
        """Start the server when it does not run, and keep it running until `release` or the end of this process."""
        if self._hold is None:
            hold = _lock(self._path("users.lock"), fcntl.LOCK_SH)
            try:
                with self._admin():
                    self._ensure_reaper()  # first: a server without one would outlive us if we were killed in between
                    self._ensure_running()
            except BaseException:
                os.close(hold)
                raise
            self._hold = hold
        return self

    def release(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def keep_across_exec(self) -> None:
        """Let the program that this process becomes (os.exec*) hold the server in its place."""
        if self._hold is not None:
            os.set_inheritable(self._hold, True)

    def stop(self) -> None:
        """Stop the server, whoever uses it."""
        with self._admin():
            self.server.stop()

    def url(self, database: str, user: str) -> str:
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(str(self.server.socket))}"

    def status(self) -> dict[str, object]:
        """What `pipeline doctor` shows; starts nothing."""
        server = self.server
        return {
            "version": server.binaries.version,
            "binaries": str(server.binaries.folder),
            "binaries_from": server.binaries.source,
            "data": str(server.data),
            "socket": str(server.socket),
            "log": str(server.log),
            "account": server.account.name,
            "running": server.ready(),
            "pid": server.postmaster(),
        }

    @cached_property
    def server(self) -> PostgresServer:
        wanted = self.state_dir / "postgres"
        account = Account.to_serve(wanted)
        return PostgresServer(durable_folder(wanted, account), account, self._pg_bin)

    def reap(self, reaper_lock: int) -> None:
        """Wait for the last user's end, then stop the server."""
        while True:
            with _locked(self._path("users.lock"), fcntl.LOCK_EX):
                pass
            time.sleep(GRACE_S)
            with self._admin(), contextlib.suppress(BlockingIOError), _locked(self._path("users.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB):
                self.server.stop()
                os.close(reaper_lock)  # while users are still kept out: the next one must find it free, and send a new reaper
                return

    def _ensure_running(self) -> None:
        began = time.monotonic()
        while not self.server.ready():
            with contextlib.suppress(BlockingIOError), _locked(self._path("server.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
                self.server.start(lock)
                return
            # Somebody who was killed has started one, or left some of its processes: it comes up, or they go down.
            waited = time.monotonic() - began
            if waited > ORPHAN_S and self.server.unreachable():
                self.server.abort()
            if waited > START_S:
                raise DatabaseUnavailable(
                    f"A server that holds {self._path('server.lock')} does not answer in {self.server.socket}. "
                    f"Does another container use the folder? See {self.server.log}."
                )
            time.sleep(0.05)

    def _ensure_reaper(self) -> None:
        try:
            lock = _lock(self._path("reaper.lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # one is alive
        reaper = [sys.executable, "-m", "pipeline_project.store.embedded", "reap", str(self.state_dir), str(lock)]
        # The shell leaves at once and the reaper becomes nobody's child: no zombie in a user that runs for days.
        detach = ["/bin/sh", "-c", '"$@" &', "sh", *reaper]
        try:
            with self.server.log.open("ab") as log:  # never our own stdout: who reads that would wait for the reaper's end
                subprocess.run(
                    detach, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, pass_fds=(lock,), check=True
                )
        finally:
            os.close(lock)

    def _admin(self) -> contextlib.AbstractContextManager[int]:
        return _locked(self._path("admin.lock"), fcntl.LOCK_EX)

    def _path(self, name: str) -> Path:
        return self.server.home / name


def _lock(path: Path, operation: int) -> int:
    """An open file that holds the lock until it is closed, by us or by our end. Raises BlockingIOError under LOCK_NB."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _locked(path: Path, operation: int) -> Iterator[int]:
    descriptor = _lock(path, operation)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["reap", state_dir, reaper_lock]:
            EmbeddedPostgres(Path(state_dir)).reap(int(reaper_lock))
        case _:
            sys.exit("usage: python -m pipeline_project.store.embedded reap STATE_DIR LOCK_DESCRIPTOR")
