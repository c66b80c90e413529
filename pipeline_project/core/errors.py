"""The failures we expect; a class docstring is what an operator reads, with what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar


class PipelineError(Exception):
    """Something failed that we foresaw; the message says what, and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(PipelineError):
    """The command or call itself is wrong. Correct it and call again."""

    exit_code = 2


class StalePlan(PipelineError):
    """The world moved on since this was planned or previewed; nothing was written. Plan again."""

    exit_code = 3


class CheckFailed(PipelineError):
    """A check or an invariant does not hold. Look at the rows it names before you go on."""

    exit_code = 4


class Refused(PipelineError):
    """A constraint forbids it; nothing was written. The message names the item, the expected and the found."""

    exit_code = 5


class Unknown(Refused):
    """A pool, item, resource or cycle that does not exist. The message names those that do."""


class DatabaseUnavailable(PipelineError):
    """No PostgreSQL could be reached or started. Set PIPELINE_DATABASE_URL or PIPELINE_PG_BIN, or run `pipeline doctor`."""


class SchemaMismatch(PipelineError):
    """The database's schema is older or newer than this code. Run `pipeline db migrate`, or upgrade the code."""


class Retryable(PipelineError):
    """Nothing was written; the same call with the same key may succeed."""


class Overtaken(Retryable):
    """Between our look and our write the world moved, again and again; nothing was written. Try again."""


class Fenced(Retryable):
    """Another owner has taken this cycle over. Nothing was written by this call; look at `pipeline cycle show`."""


class CycleInFlight(Retryable):
    """Another cycle of this pool is being committed or rolled back right now. Try again in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One row of input that was not accepted: where it stood, what was expected there and what was found.

    line    1-based line (CSV, JSON lines) or row (Parquet) of the input, header included
    field   column or JSON path
    """

    line: int
    field: str
    expected: str
    found: str
    item: str | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        name = f" ({self.item})" if self.item else ""
        return f"line {self.line}{name}: {self.field}: expected {self.expected}, found {self.found}"
