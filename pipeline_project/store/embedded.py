"""The embedded PostgreSQL of one installation: started for its first user, shared by all, stopped soon after its last.

Nobody has to remember to stop it, and kill -9 of anybody leaves no trace, because the kernel does the book-keeping with four locks (flock):

users.lock    shared by every process that uses the server; the reaper wants it exclusively, and so learns that the last user is gone
admin.lock    exclusive while somebody starts or stops the server
server.lock   inherited by the postmaster and all its children, held until the last of them has ended
reaper.lock   held by the one reaper, a detached process that stops the server

Order: users before admin. The reaper goes the other way and therefore never waits for users.lock while it has admin.lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store.postgres_account import Account, durable_folder
from pipeline_project.store.postgres_binaries import WHEEL, Binaries, find_binaries

SUPERUSER: Final = "postgres"
GRACE_S: Final = 2.0  # a script of several commands should not restart the server for each
START_S: Final = 120.0  # crash recovery of a few GB of WAL included
STOP_S: Final = 120.0  # the shutdown checkpoint included
ORPHAN_S: Final = 10.0  # longer than a postmaster takes from fork to socket
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


class EmbeddedPostgres:
    """A PostgreSQL server under `state_dir`, reached through a Unix socket that only its owner can open.

    Use it as a context manager, or `acquire` and `release`. Any number of processes may do so at once.
    """

    def __init__(self, state_dir: Path, pg_bin: Path | None = None) -> None:
        self.state_dir = state_dir.resolve()
        self._pg_bin = pg_bin
        self._hold: int | None = None

    def acquire(self) -> Self:
        """Start the server when it does not run, and keep it running until `release` or the end of this process."""
        if self._hold is None:
            hold = _lock(self.home / "users.lock", fcntl.LOCK_SH)
            try:
                with self._admin():
                    self._ensure_reaper()  # first: a server without a reaper would outlive us if we were killed in between
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
            self._stop()

    def url(self, database: str, user: str) -> str:
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(str(self.socket))}"

    def status(self) -> dict[str, object]:
        """What `pipeline doctor` shows; starts nothing."""
        return {
            "version": self.binaries.version,
            "binaries": str(self.binaries.folder),
            "binaries_from": self.binaries.source,
            "data": str(self.data),
            "socket": str(self.socket),
            "log": str(self.log),
            "account": self.account.name,
            "running": self._ready(),
            "pid": self._postmaster(),
        }

    # Where things are

    @cached_property
    def account(self) -> Account:
        return Account.to_serve(self.state_dir / "postgres")

    @cached_property
    def home(self) -> Path:
        return durable_folder(self.state_dir / "postgres", self.account)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    @cached_property
    def socket(self) -> Path:
        """Hashed, as a socket's path has room for 107 bytes; not $TMPDIR, as all users must find the same."""
        return Path("/tmp") / f"pipeline-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]}"  # noqa: S108  # 0700, its owner is checked

    @cached_property
    def binaries(self) -> Binaries:
        found = find_binaries(self._pg_bin)
        if self.account.reaches(found.folder / "postgres"):
            return found
        if WHEEL not in found.folder.parts:
            raise DatabaseUnavailable(
                f"{found.folder} ({found.source}): user {self.account.name} cannot run it. Open the folder's path for that user."
            )
        return self._copied(found)

    def _copied(self, found: Binaries) -> Binaries:
        """The wheel's programs where the server's account can reach them; they find their libraries by relative paths."""
        copy = self.home / f"binaries-{found.version}"
        package = found.folder.parents[1]
        if not copy.exists():
            half = Path(tempfile.mkdtemp(prefix="copy-", dir=self.home))
            for tree in (package, package.with_name(f"{package.name}.libs")):
                if tree.exists():
                    shutil.copytree(tree, half / tree.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.py", "__pycache__"))
            subprocess.run(["chmod", "-R", "a+rX", str(half)], check=True)  # noqa: S607  # of the system, wherever it is
            with contextlib.suppress(OSError):  # another process was faster: its copy is as good
                half.rename(copy)
            shutil.rmtree(half, ignore_errors=True)
        return Binaries(folder=copy / package.name / found.folder.relative_to(package), source=found.source, version=found.version)

    # Start

    def _ensure_running(self) -> None:
        began = time.monotonic()
        while not self._ready():
            with contextlib.suppress(BlockingIOError), _locked(self.home / "server.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as server_lock:
                self._start(server_lock)
                return
            # A postmaster or some child of one lives: it is starting or stopping, or it can never be reached again.
            waited = time.monotonic() - began
            if waited > ORPHAN_S and (self._postmaster() is None or not (self.socket / SOCKET_FILE).exists()):
                _signal(self._processes(), signal.SIGQUIT)
            if waited > START_S:
                raise DatabaseUnavailable(
                    f"A server holds {self.home}/server.lock and does not answer in {self.socket}. "
                    f"Does another container use the folder? See {self.log}."
                )
            time.sleep(0.05)

    def _start(self, server_lock: int) -> None:
        if strangers := self._processes():
            raise DatabaseUnavailable(f"PostgreSQL processes {sorted(strangers)} that we did not start use {self.data}. Stop them first.")
        self._make_data_folder()
        self._make_socket_folder()
        self._write_configuration()
        for stale in (self.data / "postmaster.pid", self.socket / SOCKET_FILE, self.socket / f"{SOCKET_FILE}.lock"):
            stale.unlink(missing_ok=True)  # server.lock proves it: their pid, if it lives, is somebody else by now
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", f"{START_S:.0f}", "-s", "start", pass_fds=(server_lock,))

    def _make_data_folder(self) -> None:
        version = self.data / "PG_VERSION"
        if not version.exists():
            for abandoned in self.home.glob("init-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            half = Path(tempfile.mkdtemp(prefix="init-", dir=self.home))
            self.account.own(half)
            sync = [] if _fsync() == "on" else ["--no-sync"]
            self._run("initdb", "-D", str(half), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", *sync)
            with (half / "postgresql.conf").open("a") as configuration:
                configuration.write("\ninclude_if_exists = 'pipeline.conf'\n")
            half.rename(self.data)  # in one step: a killed initdb never leaves half a data folder behind
        if (found := int(version.read_text())) != self.binaries.major:
            raise DatabaseUnavailable(
                f"{self.data} is of PostgreSQL {found}, the programs in {self.binaries.folder} of {self.binaries.version}. "
                f"Set PIPELINE_PG_BIN to the bin folder of a PostgreSQL {found}, or dump with it and restore into a new PIPELINE_HOME."
            )

    def _make_socket_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self.socket.mkdir(mode=0o700)
            self.account.own(self.socket)
        found = self.socket.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise DatabaseUnavailable(
                f"{self.socket}: expected a folder of user {self.account.name} with mode 700, "
                f"found {stat.filemode(found.st_mode)} of user id {found.st_uid}. Remove it."
            )

    def _write_configuration(self) -> None:
        lines = CONFIGURATION.format(socket=self.socket, fsync=_fsync())
        if self.binaries.library("pg_stat_statements"):
            lines += "shared_preload_libraries = 'pg_stat_statements'\n"
        if self._accepts("wal_compression=lz4"):
            lines += "wal_compression = lz4\n"
        configuration = self.data / "pipeline.conf"
        configuration.write_text(lines)
        self.account.own(configuration)

    # The server's processes

    def _ready(self) -> bool:
        if self._postmaster() is None:
            return False
        asked = subprocess.run(
            [str(self.binaries.folder / "pg_isready"), "-q", "-h", str(self.socket), "-p", "5432", "-t", "3"],
            env=_environment(),
            cwd="/",
            check=False,
        )
        return asked.returncode == 0

    def _postmaster(self) -> int | None:
        """The pid that postmaster.pid names, when that process really serves our data folder: a pid file alone proves nothing."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", maxsplit=1)[0])
        except (OSError, ValueError):
            return None
        return pid if pid in self._processes() else None

    def _processes(self) -> set[int]:
        """PostgreSQL processes whose working directory is our data folder: the postmaster and everything it forks."""
        return {int(process.name) for process in Path("/proc").glob("[0-9]*") if _serves(process, self.data)}

    def _stop(self) -> None:
        postmaster = self._postmaster()
        if postmaster is not None:
            _signal({postmaster}, signal.SIGINT)  # PostgreSQL's fast shutdown
        give_up = time.monotonic() + STOP_S
        while self._processes():
            if time.monotonic() > give_up:
                raise DatabaseUnavailable(
                    f"PostgreSQL in {self.data} did not stop within {STOP_S:.0f} s: processes {sorted(self._processes())}. See {self.log}."
                )
            time.sleep(0.05)
        shutil.rmtree(self.socket, ignore_errors=True)

    # The reaper

    def _ensure_reaper(self) -> None:
        try:
            lock = _lock(self.home / "reaper.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # one is alive
        reaper = [sys.executable, "-m", "pipeline_project.store.embedded", "reap", str(self.state_dir), str(lock)]
        with self.log.open("ab") as log:  # never our own stdout: who reads it would wait for the reaper's end
            # The shell leaves at once and the reaper becomes nobody's child, so that it is no zombie in a user that runs for days.
            subprocess.run(
                ["/bin/sh", "-c", '"$@" &', "sh", *reaper],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=(lock,),
                check=True,
            )
        os.close(lock)

    def reap(self, reaper_lock: int) -> None:
        """Wait for the last user's end, then stop the server."""
        while True:
            with _locked(self.home / "users.lock", fcntl.LOCK_EX):
                pass
            time.sleep(GRACE_S)
            with self._admin(), contextlib.suppress(BlockingIOError), _locked(self.home / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._stop()
                os.close(reaper_lock)  # while users are still kept out: the next one must find it free, and send a new reaper
                return

    # Programs and locks

    def _admin(self) -> contextlib.AbstractContextManager[int]:
        return _locked(self.home / "admin.lock", fcntl.LOCK_EX)

    def _run(self, program: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        command = [str(self.binaries.folder / program), *arguments]
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:  # a file: the postmaster keeps it open, and a pipe would never end
            before = log.tell()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                pass_fds=pass_fds,
                check=False,
                **self.account.dropping(),
            )
        if done.returncode:
            said = self.log.read_bytes()[before:].decode(errors="replace")
            raise DatabaseUnavailable(
                f"{program} of PostgreSQL {self.binaries.version} failed with exit code {done.returncode} as user {self.account.name}; "
                f"{self.log} says:\n{said[-2000:]}"
            )

    def _accepts(self, setting: str) -> bool:
        """Whether this build of PostgreSQL knows the value."""
        name = setting.split("=", maxsplit=1)[0]
        command = [str(self.binaries.folder / "postgres"), "-D", str(self.data), "-c", setting, "-C", name]
        return (
            subprocess.run(command, capture_output=True, env=_environment(), cwd="/", check=False, **self.account.dropping()).returncode
            == 0
        )


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


def _serves(process: Path, data: Path) -> bool:
    try:
        return (process / "cwd").readlink() == data and (process / "exe").readlink().name.startswith("postgres")
    except OSError:  # it ended meanwhile, or is another user's
        return False


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment() -> dict[str, str]:
    """Ours without what would redirect PostgreSQL's programs or translate their output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _fsync() -> str:
    """Tests of anything but durability may turn it off."""
    return "off" if os.environ.get("PIPELINE_PG_FSYNC") == "off" else "on"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["reap", state_dir, reaper_lock]:
            EmbeddedPostgres(Path(state_dir)).reap(int(reaper_lock))
        case _:
            sys.exit("usage: python -m pipeline_project.store.embedded reap STATE_DIR LOCK_DESCRIPTOR")
