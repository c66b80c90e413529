"""The file of roots: a line for each seal, appended and never changed, to be kept where the database's owner cannot reach it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline_project.core.errors import CheckFailed
from pipeline_project.core.seals import Seal


@dataclass(frozen=True, slots=True)
class Roots:
    """One database's file of JSON lines. Writers take turns by a kernel lock; each line is on the disk before `append` returns."""

    path: Path

    def append(self, following: Callable[[int], Iterable[Seal]]) -> int:
        """Write the seals that follow the file's last one, which `following` is asked for by number; how many those were."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_torn_line(file)
            last = _last_line(file)
            lines = [json.dumps(seal.as_dict()).encode() + b"\n" for seal in following(_parse(self.path, last).seal_id if last else 0)]
            if lines:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
        if new:
            _sync_folder(self.path.parent)
        return len(lines)

    def last(self) -> Seal | None:
        """The newest whole line. Raises CheckFailed where that is no seal."""
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            line = _last_line(file)
        return _parse(self.path, line) if line else None

    def seals(self) -> Iterator[Seal]:
        """Every line, oldest first, without holding them all. A last line without its end was torn by a crash, and is left out.

        Raises CheckFailed at a line that is no seal, or does not follow from itself and the one before it.
        """
        before: Seal | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                seal = _parse(self.path, line, number)
                if seal.chain != seal.expected_chain():
                    raise CheckFailed(
                        f"{self.path} line {number}, seal {seal.seal_id}: its hash is not that of what it says: the file was edited here"
                    )
                if before and (seal.seal_id != before.seal_id + 1 or seal.previous != before.chain):
                    raise CheckFailed(
                        f"{self.path} line {number}: expected seal {before.seal_id + 1} after {before.chain.hex()[:16]},"
                        f" found seal {seal.seal_id} after {seal.previous.hex()[:16]}: lines were removed, moved or rewritten here"
                    )
                yield seal
                before = seal


def _parse(path: Path, line: bytes, number: int | None = None) -> Seal:
    try:
        return Seal.of(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        where = f"line {number}" if number else "last line"
        raise CheckFailed(f"{path} {where}: expected a seal as `pipeline audit seal` writes it, found {line[:80]!r}") from broken


def _last_line(file: IO[bytes]) -> bytes:
    """The last whole line, b"" where there is none."""
    tail = _tail(file, lines=2)
    whole = tail[: tail.rfind(b"\n") + 1]
    return whole.splitlines()[-1] if whole else b""


def _drop_torn_line(file: IO[bytes]) -> None:
    """What a crash cut off in the middle of a line goes: its seal is written again."""
    tail = _tail(file, lines=1)
    file.truncate(file.seek(0, os.SEEK_END) - (len(tail) - tail.rfind(b"\n") - 1))


def _tail(file: IO[bytes], *, lines: int) -> bytes:
    """The end of a file, read backwards until it holds so many ends of lines."""
    start, tail = file.seek(0, os.SEEK_END), b""
    while start > 0 and tail.count(b"\n") < lines:
        size = min(4096, start)
        start = file.seek(start - size)
        tail = file.read(size) + tail
    return tail


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
