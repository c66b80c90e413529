"""What `pipeline doctor` looks at: one function a part of the body, one finding a symptom."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pipeline_project.cli.run import PROJECT
from pipeline_project.core.errors import PipelineError, SchemaMismatch
from pipeline_project.engine.routes import routes_of
from pipeline_project.orchestration import own_checks, structure
from pipeline_project.settings import Settings
from pipeline_project.store import catalog, invariants, schema
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import find_binaries
from pipeline_project.store.postgres_binaries import OLDEST_MAJOR

SHOWN: Final = ("dagster", "sqlalchemy", "psycopg", "pandas", "numpy", "ortools", "networkx", "great-expectations")
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
FREE_BYTES_FAIL: Final = 500 * 10**6
FREE_BYTES_WARN: Final = 5 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report; `advice` says what to do where it is not ok."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)


def examine(where: str | None, settings: Settings) -> Iterator[Finding]:
    """Everything, from the ground up; what stands on something broken is not looked at."""
    yield python()
    yield packages(PROJECT / "requirements.lock")
    yield from written(settings)
    yield file("alert routes", settings.alert_routes_file, lambda: routes_of(settings))
    yield disk(settings.state_dir)
    yield dagster_home(settings.dagster_home)
    yield from postgres(where, settings)


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    found = f"{'.'.join(map(str, version))} in {sys.prefix}"
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return Finding(name="Python", status="ok", found=found)
    return Finding(name="Python", status="fail", found=found, advice="use Python 3.11, 3.12 or 3.13: remove .venv and run ./pipeline")


def packages(lock: Path) -> Finding:
    """Installed versions against the pinned ones."""
    found = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in SHOWN)
    if not lock.exists():
        return Finding(name="packages", status="warn", found=found, advice=f"{lock} is not there: versions cannot be compared")
    pinned: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        pinned.setdefault(name, set()).add(version)  # more than one where they differ by Python
    strays = [f"{name} {version}" for name, wanted in pinned.items() if (version := _installed(name)) and version not in wanted]
    missing = [name for name in SHOWN if not _installed(name)]
    if not strays and not missing:
        return Finding(name="packages", status="ok", found=found)
    other = ", ".join(strays + [f"{name} is missing" for name in missing])
    status: Literal["warn", "fail"] = "fail" if missing else "warn"
    return Finding(
        name="packages", status=status, found=found, advice=f"not as in requirements.lock: {other}; run ./pipeline to install it"
    )


def time_zone(name: str) -> Finding:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return Finding(name="time zone", status="fail", found=name, advice="set PIPELINE_TIMEZONE to a name such as Europe/Berlin")
    return Finding(name="time zone", status="ok", found=name)


def written(settings: Settings) -> Iterator[Finding]:
    """What people set and write, and Dagster loads nothing without."""
    yield time_zone(settings.timezone)
    yield file("own checks", settings.checks_folder, lambda: own_checks.load(settings.checks_folder))
    yield file("snapshot suite", settings.snapshot_suite or structure.BUILT_IN, lambda: structure.load_suite(settings.snapshot_suite))


def file(name: str, path: Path, load: Callable[[], object]) -> Finding:
    """A file, or a folder of them, that may not be there; where it is, it must be one that can be used."""
    try:
        load()
    except PipelineError as failure:
        return Finding(name=name, status="fail", found=str(failure), advice="correct it: `found` names the place")
    return Finding(name=name, status="ok", found=str(path) if path.exists() else f"none at {path}")


def disk(folder: Path) -> Finding:
    """Room where the embedded server, artifacts and Dagster write."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:,.1f} GB free at {folder}"
    advice = "make room, or set PIPELINE_HOME to a folder on a larger disk"
    if free >= FREE_BYTES_WARN:
        return Finding(name="disk", status="ok", found=found)
    return Finding(name="disk", status="fail" if free < FREE_BYTES_FAIL else "warn", found=found, advice=advice)


def dagster_home(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        advice = "set PIPELINE_HOME to a folder that you may write"
        return Finding(name="Dagster home", status="fail", found=f"{folder}: {there} is not writable", advice=advice)
    made = (folder / "dagster.yaml").exists()
    return Finding(name="Dagster home", status="ok", found=f"{folder}" + ("" if made else ", made by the first `pipeline up`"))


def postgres(where: str | None, settings: Settings) -> Iterator[Finding]:
    """Programs, server, account, schema, promises; each needs the one before."""
    try:
        if "://" not in (where or settings.database_url):
            binaries = find_binaries(settings.pg_bin)
            found = f"PostgreSQL {binaries.version} from {binaries.source}: {binaries.folder}"
            yield Finding(name="PostgreSQL programs", status="ok", found=found)
        database = Database.find(where, settings)
    except PipelineError as failure:
        yield Finding(name="PostgreSQL", status="fail", found=str(failure), advice="see `found`, which says what to set or to run")
        return
    try:
        yield from _inside(database)
    except SchemaMismatch as failure:
        advice = f"pipeline db init --database {database.name}"
        yield Finding(name="schema", status="fail", found=str(failure), advice=advice)
    except PipelineError as failure:
        yield Finding(name="PostgreSQL server", status="fail", found=str(failure), advice="start it, or correct the URL")
    finally:
        database.close()


def _inside(database: Database) -> Iterator[Finding]:
    with database.begin() as connection:
        server = catalog.server(connection)
    found = f"{server['server_version']} at {database.name}"
    if server["server_major"] < OLDEST_MAJOR:
        yield Finding(name="PostgreSQL server", status="fail", found=found, advice=f"use PostgreSQL {OLDEST_MAJOR} or newer")
        return
    yield Finding(name="PostgreSQL server", status="ok", found=found)
    yield account(server["session_user"], superuser=server["superuser"])
    schema.check(database)
    yield Finding(name="schema", status="ok", found=schema.head())
    with database.begin(repeatable=True) as connection:
        broken = [row["name"] for row in invariants.violated(connection)]
    yield promises(broken, checked=len(invariants.names()))


def account(name: str, *, superuser: bool) -> Finding:
    """The engine never needs a superuser; one that logs in as such could switch every guard off."""
    if not superuser:
        return Finding(name="account", status="ok", found=f"{name}, no superuser")
    advice = "log in as an ordinary user that is a member of pipeline_writer: before a superuser no guard of the database counts"
    return Finding(name="account", status="warn", found=f"{name} is a superuser", advice=advice)


def promises(broken: list[str], *, checked: int) -> Finding:
    if not broken:
        return Finding(name="invariants", status="ok", found=f"all {checked} hold")
    advice = "pause the pools and look at `pipeline db check --json`, which names the rows"
    return Finding(name="invariants", status="fail", found=", ".join(broken), advice=advice)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
