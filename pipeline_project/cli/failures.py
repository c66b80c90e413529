"""What a failure looks like at the front door: its kind, one sentence, an exit code; a traceback only for a bug of ours."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from pipeline_project.core.errors import PipelineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a command ended badly.

    exit_code   2 usage, 3 stale plan, 4 check failed, 5 refused by a constraint, 1 anything else
    """

    kind: str
    message: str
    exit_code: int

    def as_dict(self) -> dict[str, dict[str, str]]:
        return {"error": {"kind": self.kind, "message": self.message}}


_LOOK = {
    "55P03": "somebody holds what it needs, and `pipeline feed status` may name who",
    "42501": "the role in PIPELINE_ROLE may not do this",
}
"""What to do about a refusal of PostgreSQL's, by its SQLSTATE, where there is more to say than to look around."""


def explain(failure: Exception) -> Failure | None:
    """The failure in words, when it is one that we or the world are known for; None for a bug."""
    if isinstance(failure, PipelineError):
        return Failure(kind=type(failure).__name__, message=str(failure), exit_code=failure.exit_code)
    if isinstance(failure, UnicodeEncodeError):  # the shell's bytes, which Python hands on as they are
        return Failure(kind="UsageError", message=f"expected arguments in UTF-8, found {failure.object!r:.80}", exit_code=2)
    return _from_database(failure) or _from_settings(failure)


def _from_database(failure: Exception) -> Failure | None:
    """What PostgreSQL itself refused: a constraint is a refusal like ours, the rest is named by its own first sentence."""
    exc = sys.modules.get("sqlalchemy.exc")  # not imported: then it cannot have failed
    if exc is None or not isinstance(failure, exc.DBAPIError):
        return None
    said = str(failure.orig).strip().splitlines() or [type(failure.orig).__name__]
    state = getattr(failure.orig, "sqlstate", None)
    if failure.connection_invalidated or _is_cut_off(failure.orig, state):
        message = f"the connection to the database was lost: {said[0]}. Look at `pipeline doctor`, then repeat the command."
        return Failure(kind="DatabaseUnavailable", message=message, exit_code=1)
    if isinstance(failure, exc.IntegrityError):
        return Failure(kind="Refused", message=f"the database refused it: {said[0]}", exit_code=5)
    look = _LOOK.get(state or "", "look at `pipeline doctor`")
    message = f"PostgreSQL {state or 'error'}: {said[0]}. Nothing of this step was written; {look}."
    return Failure(kind="DatabaseError", message=message, exit_code=1)


def _is_cut_off(cause: BaseException | None, state: str | None) -> bool:
    """The connection is gone: no answer at all, or PostgreSQL's words for it (classes 08 and 57P)."""
    return type(cause).__name__ == "OperationalError" if state is None else state.startswith(("08", "57P"))


def _from_settings(failure: Exception) -> Failure | None:
    """An environment variable of ours that cannot be read."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(failure, pydantic.ValidationError) or failure.title != "Settings":
        return None
    wrong = "; ".join(
        f"PIPELINE_{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}, found {error['input']!r}" for error in failure.errors()
    )
    return Failure(kind="UsageError", message=wrong, exit_code=2)
