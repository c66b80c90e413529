"""One data folder, and the PostgreSQL server that serves it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Final

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store.postgres_account import Account
from pipeline_project.store.postgres_binaries import Binaries, find_binaries, within_reach

SUPERUSER: Final = "postgres"
START_S: Final = 120.0  # crash recovery of a few GB of WAL included
STOP_S: Final = 120.0  # the shutdown checkpoint included
SOCKET_FILE: Final = ".s.PGSQL.5432"
LOG_BYTES_MAX: Final = 16 * 2**20

CONFIGURATION: Final = """\
# Written at every start; your own settings belong into postgresql.auto.conf (ALTER SYSTEM).
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 15min
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
logging_collector = off
fsync = {fsync}
"""


class PostgresServer:
    """The server of the data folder in `home`. Whoever calls start or stop holds the lock that keeps others from it."""

    def __init__(self, home: Path, account: Account, pg_bin: Path | None) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "server.log"
        # Hashed, as a socket's path has room for 107 bytes; not in $TMPDIR, as all users must find the same.
        self.socket = Path("/tmp") / f"pipeline-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}"  # noqa: S108  # 0700, and its owner is checked
        self.account = account
        self._pg_bin = pg_bin

    @cached_property
    def binaries(self) -> Binaries:
        return within_reach(find_binaries(self._pg_bin), self.account, self.home)

    # Is it alive?

    def ready(self) -> bool:
        """Whether it takes connections."""
        if self.postmaster() is None:
            return False
        asking = [str(self.binaries.folder / "pg_isready"), "-q", "-h", str(self.socket), "-p", "5432", "-t", "3"]
        return subprocess.run(asking, env=_environment(), cwd="/", check=False).returncode == 0

    def unreachable(self) -> bool:
        """Whether nobody will ever connect: its postmaster or its socket is gone, or not yet there."""
        return self.postmaster() is None or not (self.socket / SOCKET_FILE).exists()

    def postmaster(self) -> int | None:
        """The pid in postmaster.pid, if that process really serves this folder: the file alone proves nothing."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", maxsplit=1)[0])
        except (OSError, ValueError):
            return None
        return pid if pid in self.processes() else None

    def processes(self) -> set[int]:
        """PostgreSQL processes whose working directory is the data folder: the postmaster and all that it forks."""
        return {int(process.name) for process in Path("/proc").glob("[0-9]*") if _serves(process, self.data)}

    # Start and stop

    def start(self, lock: int) -> None:
        """Start it, on a new data folder if there is none; `lock` is an open file that all its processes will inherit.

        That nobody else holds the lock proves that no earlier server lives, whatever postmaster.pid says.
        """
        if (stranger := self.postmaster()) is not None:
            raise DatabaseUnavailable(f"PostgreSQL process {stranger}, not started by us, serves {self.data}. Stop it first.")
        self.abort()  # a server whose folder was deleted lives on for a minute, and takes its socket's path with it when it goes
        self._wait_for_end()
        self._make_data_folder()
        self._make_socket_folder()
        self._write_configuration()
        for stale in (self.data / "postmaster.pid", self.socket / SOCKET_FILE, self.socket / f"{SOCKET_FILE}.lock"):
            stale.unlink(missing_ok=True)
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", f"{START_S:.0f}", "-s", "start", inherited=(lock,))

    def stop(self) -> None:
        """Disconnect everybody and shut down in order."""
        postmaster = self.postmaster()
        if postmaster is not None:
            _signal({postmaster}, signal.SIGINT)  # PostgreSQL's "fast shutdown"
        self._wait_for_end()
        shutil.rmtree(self.socket, ignore_errors=True)

    def abort(self) -> None:
        """End all its processes at once; the next start recovers from the log."""
        _signal(self.processes(), signal.SIGQUIT)

    def _wait_for_end(self) -> None:
        give_up = time.monotonic() + STOP_S
        while left := self.processes():
            if time.monotonic() > give_up:
                raise DatabaseUnavailable(f"PostgreSQL in {self.data} did not end within {STOP_S:.0f} s: {sorted(left)}. See {self.log}.")
            time.sleep(0.05)

    def _make_data_folder(self) -> None:
        version = self.data / "PG_VERSION"
        if not self.data.exists():
            self._initialise()
        found = version.read_text().strip() if version.exists() else "no"
        if found != str(self.binaries.major):
            raise DatabaseUnavailable(
                f"{self.data}: expected the data of PostgreSQL {self.binaries.major} ({self.binaries.folder}), found {found} PG_VERSION. "
                "Set PIPELINE_PG_BIN to programs of the folder's version, or dump with those and restore under a new PIPELINE_HOME."
            )

    def _initialise(self) -> None:
        for abandoned in self.home.glob("init-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        half = Path(tempfile.mkdtemp(prefix="init-", dir=self.home))
        self.account.own(half)
        sync = [] if _fsync() == "on" else ["--no-sync"]
        self._run("initdb", "-D", str(half), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", *sync)
        with (half / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude_if_exists = 'pipeline.conf'\n")
        half.rename(self.data)  # in one step: a killed initdb never leaves half a data folder behind

    def _make_socket_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.socket.mkdir(mode=0o700)
            self.account.own(self.socket)
        found = self.socket.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise DatabaseUnavailable(
                f"{self.socket}: expected a folder of user {self.account.name} with mode drwx------, "
                f"found {stat.filemode(found.st_mode)} of user id {found.st_uid}. Remove it."
            )

    def _write_configuration(self) -> None:
        lines = CONFIGURATION.format(socket=self.socket, fsync=_fsync())
        if self.binaries.has_library("pg_stat_statements"):
            lines += "shared_preload_libraries = 'pg_stat_statements'\n"
        if self._knows("wal_compression", "lz4"):
            lines += "wal_compression = lz4\n"
        configuration = self.data / "pipeline.conf"
        configuration.write_text(lines)
        self.account.own(configuration)

    # Programs

    def _run(self, program: str, *arguments: str, inherited: tuple[int, ...] = ()) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.old"))
        command = self.account.becoming(str(self.binaries.folder / program), *arguments)
        with self.log.open("ab") as log:  # a file: the postmaster keeps it open, and a pipe would never end
            before = log.tell()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                pass_fds=inherited,
                check=False,
            )
        if done.returncode:
            said = self.log.read_bytes()[before:].decode(errors="replace")
            raise DatabaseUnavailable(
                f"{program} of PostgreSQL {self.binaries.version} failed with exit code {done.returncode} as user {self.account.name}; "
                f"{self.log} says:\n{said[-2000:]}"
            )

    def _knows(self, setting: str, value: str) -> bool:
        """Whether this build of PostgreSQL takes the value."""
        asking = [str(self.binaries.folder / "postgres"), "-D", str(self.data), "-c", f"{setting}={value}", "-C", setting]
        asked = subprocess.run(self.account.becoming(*asking), capture_output=True, env=_environment(), cwd="/", check=False)
        return asked.returncode == 0


def _serves(process: Path, data: Path) -> bool:
    try:
        folder = str((process / "cwd").readlink()).removesuffix(" (deleted)")
        return folder == str(data) and (process / "exe").readlink().name.startswith("postgres")
    except OSError:  # it ended meanwhile, or is another user's
        return False


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment() -> dict[str, str]:
    """Ours without what would redirect PostgreSQL's programs or translate their words."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _fsync() -> str:
    """Tests of anything but durability may turn it off."""
    return "off" if os.environ.get("PIPELINE_PG_FSYNC") == "off" else "on"
