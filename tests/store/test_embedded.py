"""The embedded server against everything that goes wrong on a developer's machine: each test has a server of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pipeline_project
from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store import postgres_binaries
from pipeline_project.store.embedded import SUPERUSER, EmbeddedPostgres, find_binaries
from pipeline_project.store.postgres_account import Account
from tests.world import until

# A process that uses the server until its standard input ends, or until it is killed.
USER = """
import sys
from pathlib import Path
from pipeline_project.store.embedded import EmbeddedPostgres
pg = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None).acquire()
print(pg.server.postmaster(), flush=True)
sys.stdin.read()
"""
# The same, but another program takes its place.
EXEC = """
import os, sys
from pathlib import Path
from pipeline_project.store.embedded import EmbeddedPostgres
pg = EmbeddedPostgres(Path(sys.argv[1])).acquire()
pg.keep_across_exec()
print(pg.server.postmaster(), flush=True)
os.execvp("cat", ["cat"])
"""


@pytest.fixture
def state_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that the server's account can enter, which pytest's own are not."""
    monkeypatch.setenv("PIPELINE_PG_FSYNC", "off")
    folder = Path(tempfile.mkdtemp(prefix="pipeline-test-"))
    folder.chmod(0o711)
    yield folder
    for lock in folder.glob("**/postgres/admin.lock"):
        server = EmbeddedPostgres(lock.parents[1]).server
        server.abort()
        until(lambda server=server: not server.processes())
        shutil.rmtree(server.socket, ignore_errors=True)
    until(lambda: _removed(folder))  # what a killed initdb has begun may write for a moment longer


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextlib.contextmanager
def process(script: str, *arguments: Path, python: str = sys.executable, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [python, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as started:
        try:
            yield started
        finally:
            with contextlib.suppress(OSError):
                started.communicate(timeout=60)


@contextlib.contextmanager
def user(*arguments: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has the server, and the postmaster's pid."""
    with process(USER, *arguments) as started:
        yield started, postmaster_of(started)


def postmaster_of(started: subprocess.Popen[str]) -> int:
    assert started.stdout
    return int(started.stdout.readline())


def everything_of(state_dir: Path) -> list[tuple[int, str]]:
    """Pid and command of all processes that work for this folder: postmaster, reaper, initdb, users."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(state_dir) in command:
                found.append((int(entry.name), command))
    return found


def reapers(state_dir: Path) -> list[int]:
    return [pid for pid, command in everything_of(state_dir) if " reap " in command]


def take_alone(lock: Path) -> None:
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def programs_but(state_dir: Path, name: str, script: str) -> Path:
    """A bin folder with the real programs, one of them replaced; `$real` is where it was."""
    real = find_binaries(None).folder
    folder = state_dir / f"bin-{name}"
    folder.mkdir()
    for program in postgres_binaries.PROGRAMS:
        (folder / program).symlink_to(real / program)
    (folder / name).unlink()
    (folder / name).write_text(f"#!/bin/sh\nreal='{real}'\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def ask(pg: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(pg.url("postgres", SUPERUSER), autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_a_user_gets_a_server_without_tcp_that_speaks_utf8(state_dir: Path) -> None:
    with EmbeddedPostgres(state_dir) as pg:
        shown = [ask(pg, f"show {name}") for name in ("listen_addresses", "server_encoding", "unix_socket_permissions", "timezone")]
        assert shown == ["", "UTF8", "0700", "UTC"]
        assert pg.server.socket.stat().st_mode & 0o777 == 0o700


def test_eight_processes_at_once_share_one_server_and_leave_nothing_running(state_dir: Path) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(process(USER, state_dir)) for _ in range(8)]
        assert len({postmaster_of(started) for started in users}) == 1
    until(lambda: not everything_of(state_dir))
    assert not EmbeddedPostgres(state_dir).server.socket.exists()


def test_a_killed_user_leaves_nothing_running(state_dir: Path) -> None:
    with user(state_dir) as (started, _):
        started.kill()
    until(lambda: not everything_of(state_dir))


def test_the_server_stays_while_one_of_two_users_goes(state_dir: Path) -> None:
    with user(state_dir) as (_, first):
        with user(state_dir):
            pass
        with user(state_dir) as (_, second):
            assert second == first


def test_what_was_committed_survives_a_killed_postmaster(state_dir: Path) -> None:
    with user(state_dir) as (_, postmaster), EmbeddedPostgres(state_dir) as pg:
        ask(pg, "create table kept as select 42 as answer")
        os.kill(postmaster, signal.SIGKILL)
        with EmbeddedPostgres(state_dir) as again:
            assert ask(again, "select answer from kept") == 42
            assert again.server.postmaster() != postmaster


def test_a_killed_initdb_leaves_no_half_data_folder(state_dir: Path) -> None:
    killed = programs_but(state_dir, "initdb", '"$real/initdb" "$@"; kill -9 $$')
    with pytest.raises(DatabaseUnavailable, match="initdb of PostgreSQL"):
        EmbeddedPostgres(state_dir, killed).acquire()
    assert list((state_dir / "postgres").glob("init-*"))
    with EmbeddedPostgres(state_dir) as pg:
        assert ask(pg, "select 1") == 1
    assert not list((state_dir / "postgres").glob("init-*"))


def test_a_server_that_a_killed_user_was_starting_is_waited_for(state_dir: Path) -> None:
    """Two servers on one data folder would destroy it; nothing but the inherited lock tells that the first is on its way."""
    state_dir.chmod(0o777)
    slow = programs_but(
        state_dir, "pg_ctl", f'touch {state_dir}/begun; until test -e {state_dir}/go; do sleep 0.02; done; "$real/pg_ctl" "$@"'
    )
    with process(USER, state_dir, slow) as first:
        until((state_dir / "begun").exists)
        first.kill()
        first.wait()
        with pytest.raises(BlockingIOError):
            take_alone(state_dir / "postgres" / "server.lock")
        with process(USER, state_dir) as second:
            (state_dir / "go").touch()
            postmaster = postmaster_of(second)
            assert [pid for pid, command in everything_of(state_dir) if "-D" in command and "pg_ctl" not in command] == [postmaster]


def test_a_recycled_pid_in_the_pid_file_is_no_server(state_dir: Path) -> None:
    with EmbeddedPostgres(state_dir) as pg:
        pid_file = pg.server.data / "postmaster.pid"
        _, _, rest = pid_file.read_text().partition("\n")
        pg.stop()
        # Of the server's own account: another's would not deceive even PostgreSQL.
        with subprocess.Popen(pg.server.account.becoming("/bin/cat"), stdin=subprocess.PIPE) as other:
            pid_file.write_text(f"{other.pid}\n{rest}")
            with EmbeddedPostgres(state_dir) as again:
                assert ask(again, "select 1") == 1
            assert other.poll() is None
            other.communicate()


def test_a_path_with_spaces_and_200_bytes_is_as_good_as_any(state_dir: Path) -> None:
    deep = state_dir / "with some spaces é" / ("x" * (200 - len(os.fsencode(state_dir)) - 21))
    assert len(os.fsencode(deep)) == 200
    with EmbeddedPostgres(deep) as pg:
        assert ask(pg, "select 1") == 1


def test_a_program_that_takes_the_users_place_keeps_the_server(state_dir: Path) -> None:
    with process(EXEC, state_dir) as started:
        postmaster = postmaster_of(started)
        until(lambda: Path(f"/proc/{started.pid}/comm").read_text().strip() == "cat")
        server = EmbeddedPostgres(state_dir).server
        with pytest.raises(BlockingIOError):
            take_alone(state_dir / "postgres" / "users.lock")
        assert server.postmaster() == postmaster
    until(lambda: not everything_of(state_dir))


def test_the_next_user_replaces_a_killed_reaper(state_dir: Path) -> None:
    with user(state_dir):
        until(lambda: len(reapers(state_dir)) == 1)
        for pid in reapers(state_dir):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not reapers(state_dir))
    assert EmbeddedPostgres(state_dir).server.ready()
    with user(state_dir):
        pass
    until(lambda: not everything_of(state_dir))


def test_a_deleted_folder_does_not_haunt_the_next_server(state_dir: Path) -> None:
    with EmbeddedPostgres(state_dir) as pg:
        old = pg.server.processes()
        shutil.rmtree(state_dir / "postgres")
        with EmbeddedPostgres(state_dir) as again:
            assert ask(again, "select 1") == 1
            assert not old & {pid for pid, _ in everything_of(state_dir)}


def test_data_of_another_major_version_is_left_alone(state_dir: Path) -> None:
    with EmbeddedPostgres(state_dir) as pg:
        pg.stop()
    (pg.server.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(DatabaseUnavailable, match="found 14"):
        EmbeddedPostgres(state_dir).acquire()


def test_a_socket_folder_that_others_can_enter_is_refused(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir).server
    server.socket.mkdir()
    server.socket.chmod(0o755)
    with pytest.raises(DatabaseUnavailable, match="mode drwx------, found drwxr-xr-x"):
        EmbeddedPostgres(state_dir).acquire()


def test_asking_for_the_status_starts_nothing(state_dir: Path) -> None:
    status = EmbeddedPostgres(state_dir).status()
    assert (status["running"], status["pid"]) == (False, None)
    assert not everything_of(state_dir)


def test_a_url_keeps_odd_names_apart(state_dir: Path) -> None:
    url = EmbeddedPostgres(state_dir).url("a/b", "c@d")
    assert url.startswith("postgresql://c%40d@/a%2Fb?host=/")


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@only_root
def test_as_root_the_programs_are_copied_to_where_the_account_can_run_them(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = state_dir / "hidden"
    hidden.mkdir(mode=0o700)
    package = find_binaries(None).folder.parents[1]
    for tree in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(tree, hidden / tree.name)
    monkeypatch.setattr(postgres_binaries, "_wheel_folder", lambda: hidden / package.name / "pginstall" / "bin")
    with EmbeddedPostgres(state_dir) as pg:
        assert ask(pg, "select 1") == 1
        assert Path(str(pg.status()["binaries"])).is_relative_to(state_dir / "postgres")


@only_root
def test_an_unprivileged_user_needs_no_root(state_dir: Path) -> None:
    nobody = Account.to_serve(Path("/nonexistent"))
    python = next(
        (path for path in (sys.executable, shutil.which("python3", path=os.defpath)) if path and nobody.reaches(Path(path))), None
    )
    if python is None or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode:
        pytest.skip("every Python 3.11 or newer of this machine is root's alone")
    paths = [str(Path(pipeline_project.__file__).parents[1]), str(find_binaries(None).folder.parents[2])]
    own = state_dir / "own"
    own.mkdir()
    nobody.own(own)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with process(USER, own, python=python, env=environment, cwd="/", user=nobody.uid, group=nobody.gid, extra_groups=[]) as started:
        assert Path(f"/proc/{postmaster_of(started)}").stat().st_uid == nobody.uid
    until(lambda: not everything_of(own))
