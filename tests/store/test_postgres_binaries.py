"""Which PostgreSQL programs are taken, and what is said when none will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store import postgres_binaries
from pipeline_project.store.postgres_binaries import find_binaries


def test_a_folder_without_programs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=f"PIPELINE_PG_BIN={tmp_path}: expected a folder with postgres"):
        find_binaries(tmp_path)


def test_programs_that_are_too_old_are_refused(tmp_path: Path) -> None:
    for program in postgres_binaries.PROGRAMS:
        (tmp_path / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.2'\n")
        (tmp_path / program).chmod(0o755)
    with pytest.raises(DatabaseUnavailable, match=r"expected PostgreSQL 15 or newer, found 13\.2"):
        find_binaries(tmp_path)


def test_without_wheel_and_system_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "_wheel_folder", lambda: None)
    monkeypatch.setattr(postgres_binaries, "_system_folders", lambda: iter(()))
    with pytest.raises(DatabaseUnavailable, match="PIPELINE_DATABASE_URL"):
        find_binaries(None)
