"""The password may come from a file, as container platforms mount secrets; it stands in no name that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from pipeline_project.store.database import Database

URL = "postgresql://me@db.example.org/work"


def found(file: Path, url: str = URL) -> Database:
    return Database.find(url, Settings(database_password_file=file))


def test_it_is_what_the_file_says_without_its_line_end_for_us_and_for_dagster(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("o'a+b/c= \n")
    database = found(file)
    assert database.url.password == "o'a+b/c= "
    assert database.name == URL
    assert sa.make_url(dagster_database.url(database, Settings())).password == "o'a+b/c= "
    assert found(file, "postgresql://me:mine@db.example.org/work").url.password == "mine"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_a_password_nothing_is_tried(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DatabaseUnavailable, match=f"PIPELINE_DATABASE_PASSWORD_FILE: expected .*{file}"):
        found(file)
