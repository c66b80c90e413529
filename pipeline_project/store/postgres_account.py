"""Who the embedded server runs as: we ourselves, or an unprivileged account where we are root, which PostgreSQL refuses to be."""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pipeline_project.core.errors import DatabaseUnavailable

UNPRIVILEGED: Final = "nobody"
DATA: Final = "data"
MAY_NOT_BECOME: Final = 126
_BECOME: Final = f"""
import os, sys
uid, gid, *command = sys.argv[1:]
try:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
except OSError:
    os._exit({MAY_NOT_BECOME})
os.execv(command[0], command)
"""
SYSTEM_STATE: Final = Path("/var/lib")  # durable, as /tmp is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the operating system; `dropped` when we have to become it."""

    name: str
    uid: int
    gid: int
    dropped: bool

    @classmethod
    def to_serve(cls, folder: Path) -> Self:
        """Ourselves; as root the owner of an existing `folder` (a person who uses sudo now and then), else nobody."""
        if (uid := os.geteuid()) != 0:
            return cls(name=_name(uid), uid=uid, gid=os.getegid(), dropped=False)
        owner = folder.stat().st_uid if folder.exists() else 0
        try:
            found = pwd.getpwuid(owner) if owner else pwd.getpwnam(UNPRIVILEGED)
        except KeyError:
            raise DatabaseUnavailable(
                f"PostgreSQL does not run as root, and user {owner or UNPRIVILEGED} does not exist. "
                "Run as another user, or set PIPELINE_DATABASE_URL."
            ) from None
        return cls(name=found.pw_name, uid=found.pw_uid, gid=found.pw_gid, dropped=True)

    def becoming(self, *command: str) -> list[str]:
        """A command line that becomes this account before it becomes the command.

        For whoever may have threads that watch forks: `subprocess` with a user forks, and below Dagster's servers gRPC, whose handlers run
        in the child, sometimes kills it there (exit code -11). A command without a user is started by vfork, which no handler sees.
        """
        return [sys.executable, "-I", "-S", "-c", _BECOME, str(self.uid), str(self.gid), *command] if self.dropped else list(command)

    def own(self, path: Path) -> None:
        if self.dropped:
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether the account may enter or execute it. Asked of the kernel: modes alone know nothing of parents and access lists."""
        if not self.dropped:
            return os.access(path, os.X_OK)
        answer = subprocess.run(self.becoming("/bin/sh", "-c", 'test -x "$1"', "sh", str(path)), cwd="/", check=False).returncode
        if answer == MAY_NOT_BECOME:  # a container's root may have little power
            raise DatabaseUnavailable(
                f"PostgreSQL does not run as root, and we may not become user {self.name}. "
                "Run as another user, or set PIPELINE_DATABASE_URL."
            )
        if answer not in (0, 1):  # killed, or it could not look: no answer at all
            raise DatabaseUnavailable(f"whether user {self.name} reaches {path}: expected yes or no, found exit code {answer}; try again")
        return answer == 0


def durable_folder(wanted: Path, account: Account) -> Path:
    """`wanted`, or a system folder where root's project is out of the account's reach: its rights are its owner's business, not ours."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if not os.access(wanted, os.W_OK):
            raise PermissionError(errno.EACCES, f"user {account.name} may not write, only user id {wanted.stat().st_uid}", str(wanted))
        if (wanted / DATA).exists() or account.reaches(wanted):  # where data are, they stay: a second place would be an empty server
            return wanted
        elsewhere = SYSTEM_STATE / f"pipeline-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]}"
        elsewhere.mkdir(mode=0o755, exist_ok=True)
        elsewhere.chmod(0o755)  # whatever our umask is
    except OSError as failure:
        raise DatabaseUnavailable(
            f"{failure.filename}: the embedded server cannot keep its data there ({failure.strerror}). "
            "Set PIPELINE_HOME to a folder that you may write."
        ) from None
    return elsewhere


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run with user ids that have no name
        return str(uid)
