"""Who the server runs as when we are root, and where its data then are."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store import postgres_account
from pipeline_project.store.postgres_account import Account, durable_folder

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=f"{tmp_path}/file/postgres: the embedded server cannot keep its data there"):
        durable_folder(tmp_path / "file" / "postgres", Account.to_serve(tmp_path))


@only_root
def test_as_root_data_that_the_account_cannot_reach_go_to_a_system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(postgres_account, "SYSTEM_STATE", tmp_path / "system")
    (tmp_path / "system").mkdir()
    found = durable_folder(closed / "postgres", Account.to_serve(closed / "postgres"))
    assert found.parent == tmp_path / "system"
    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_where_data_are_they_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second, empty server somewhere else would answer that nothing exists."""
    monkeypatch.setattr(postgres_account, "SYSTEM_STATE", tmp_path / "system")
    closed = tmp_path / "closed"
    (closed / "postgres" / postgres_account.DATA).mkdir(parents=True)
    closed.chmod(0o700)
    assert durable_folder(closed / "postgres", Account.to_serve(closed / "postgres")) == closed / "postgres"


@only_root
def test_a_question_that_was_cut_off_is_not_taken_for_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], -signal.SIGKILL)
    monkeypatch.setattr(postgres_account.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(DatabaseUnavailable, match="expected yes or no, found exit code -9; try again"):
        Account.to_serve(tmp_path).reaches(tmp_path)


@only_root
def test_becoming_the_account_needs_no_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below Dagster's servers gRPC watches them, and killed such a child now and then: exit code -11."""
    honest, how = subprocess.run, []

    def watched(command: list[str], **arguments: Any) -> subprocess.CompletedProcess[bytes]:
        how.append(arguments)
        return honest(command, **arguments)

    monkeypatch.setattr(postgres_account.subprocess, "run", watched)
    (tmp_path / "closed").mkdir(mode=0o700)
    nobody = Account.to_serve(tmp_path)
    assert (nobody.reaches(Path("/bin/sh")), nobody.reaches(tmp_path / "closed")) == (True, False)
    forking = {"user", "group", "extra_groups", "preexec_fn"}  # any of them keeps subprocess from vfork
    assert [forking & arguments.keys() for arguments in how] == [set(), set()]


@only_root
def test_as_root_the_server_of_a_persons_folder_runs_as_that_person(tmp_path: Path) -> None:
    nobody = Account.to_serve(tmp_path)  # ours, so root's
    assert nobody.name == postgres_account.UNPRIVILEGED
    os.chown(tmp_path, nobody.uid, nobody.gid)
    assert Account.to_serve(tmp_path) == nobody
    os.chown(tmp_path, 1, 1)
    assert Account.to_serve(tmp_path).uid == 1
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(DatabaseUnavailable, match="user 12345 does not exist"):
        Account.to_serve(tmp_path)
