"""A proxy that understands PostgreSQL's messages, and cuts a connection exactly before a request, or exactly before its answer.

Requests are counted as the server sees them: a simple Query, or a Sync that ends an extended one. When the answer to a COMMIT is cut,
the server has committed, and nobody who is connected knows.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Side = Literal["request", "answer"]

SOCKET: Final = ".s.PGSQL.5432"
REQUESTS: Final = (b"Q", b"S")
ENDS: Final = (b"Z", b"G")
"""ReadyForQuery, and CopyInResponse: after either the server waits for the client."""


@dataclass
class Line:
    """One connection, from the client through us to the server."""

    client: socket.socket
    server: socket.socket
    withheld: bool = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass
class Proxy:
    """folder   where it listens, for libpq's `host`
    counted  requests since it was armed, and `commits`, which of them were COMMITs
    """

    target: str
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="wire-")))
    counted: int = 0
    commits: list[int] = field(default_factory=list)
    _cut_at: int = 0
    _side: Side = "request"

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, n: int, side: Side) -> None:
        """Count from 1 again, and cut at the n-th request from now on; 0 = never."""
        with self._lock:
            self.counted, self._cut_at, self._side, self.commits = 0, n, side, []

    @property
    def done(self) -> bool:
        return 0 < self._cut_at <= self.counted

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            line = Line(client, server)
            for pump in (self._requests, self._answers):
                threading.Thread(target=self._until_cut, args=(pump, line), daemon=True).start()

    @staticmethod
    def _until_cut(pump: Any, line: Line) -> None:
        with contextlib.suppress(OSError, EOFError):
            pump(line)
        line.cut()

    def _requests(self, line: Line) -> None:
        line.server.sendall(_startup(line.client))
        for kind, message in _messages(line.client):
            if kind in REQUESTS and self._is_the_one(is_commit=message[5:].upper().startswith(b"COMMIT")):
                if self._side == "request":
                    return
                line.withheld = True
            line.server.sendall(message)

    def _answers(self, line: Line) -> None:
        for kind, message in _messages(line.server):
            if not line.withheld:
                line.client.sendall(message)
            elif kind in ENDS:
                return

    def _is_the_one(self, *, is_commit: bool) -> bool:
        with self._lock:
            self.counted += 1
            if is_commit:
                self.commits.append(self.counted)
            return self.counted == self._cut_at


def _startup(client: socket.socket) -> bytes:
    """The first message has no type."""
    length = _exactly(client, 4)
    return length + _exactly(client, int.from_bytes(length) - 4)


def _messages(end: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    while True:
        kind = _exactly(end, 1)
        length = _exactly(end, 4)
        yield kind, kind + length + _exactly(end, int.from_bytes(length) - 4)


def _exactly(end: socket.socket, n: int) -> bytes:
    got = bytearray()
    while len(got) < n:
        part = end.recv(n - len(got))
        if not part:
            raise EOFError
        got += part
    return bytes(got)
