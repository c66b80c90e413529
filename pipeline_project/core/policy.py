"""The policy of a pool: a versioned, hashed document that says what is worth more, for how long, how often, how hard to search."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema

from pipeline_project.core import json_text, policy_reference, strict_yaml
from pipeline_project.core.errors import Refusal, Refused

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,9})([smhd])")
_DURATION_MAX_DAYS: Final = 36_500
_A_DURATION: Final = f"a duration from 0s to {_DURATION_MAX_DAYS}d, such as 90s, 15m or 6h"
_SOME_TIME: Final = f"a duration from 1s to {_DURATION_MAX_DAYS}d, such as 90s, 15m or 6h"
_A_QUERY: Final = "a SQL query, as text without NUL"
_A_DATABASE: Final = "a postgresql:// URL without a password, or env:NAME of a variable that holds the URL"


class PolicyRefused(Refused):
    """The policy is not valid; nothing was stored. The message names every place, what is expected there and what was found."""

    def __init__(self, where: str, refusals: Iterable[Refusal]) -> None:
        self.refusals = list(refusals)
        super().__init__("\n".join(f"{where}: {refusal}" for refusal in self.refusals))


def seconds(text: object) -> int:
    """Whole seconds of a duration such as 15m. Raises ValueError."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    length = int(match[1]) * _UNITS[match[2]] if match else -1
    if not 0 <= length <= _DURATION_MAX_DAYS * _UNITS["d"]:
        raise ValueError(_A_DURATION)
    return length


def duration(length: int) -> str:
    """The shortest text of so many seconds; `seconds` reads it back."""
    unit = next(unit for unit in ("d", "h", "m", "s") if length % _UNITS[unit] == 0)
    return f"{length // _UNITS[unit]}{unit}" if length else "0s"


def _some_time(length: int) -> int:
    if length == 0:
        raise ValueError(_SOME_TIME)
    return length


def _reachable(database: str) -> str:
    """`env:NAME`, or a URL. A policy is stored, shown and compared in clear: a password has no place in it."""
    if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", database):
        return database
    url = urlsplit(database)
    if not url.scheme.startswith("postgresql") or url.password or "password" in parse_qs(url.query):
        raise ValueError(_A_DATABASE)
    return database


def _query(text: str) -> str:
    """Text that jsonb can hold. What it selects is for the first pull to see."""
    if not text.strip():
        raise ValueError(_A_QUERY)
    json_text.canonical(text)
    return text


Duration = Annotated[
    int, BeforeValidator(seconds), PlainSerializer(duration, when_used="json"), WithJsonSchema({"type": "string", "expected": _A_DURATION})
]
"""Whole seconds in Python; text such as 15m in YAML and JSON."""
PositiveDuration = Annotated[Duration, AfterValidator(_some_time), WithJsonSchema({"type": "string", "expected": _SOME_TIME})]
Query = Annotated[str, AfterValidator(_query), WithJsonSchema({"type": "string", "expected": _A_QUERY})]
DatabaseUrl = Annotated[str, AfterValidator(_reachable), WithJsonSchema({"type": "string", "expected": _A_DATABASE})]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Ageing(_Section):
    step: PositiveDuration = Field(default=seconds("1h"), description="An item gains the bonus for each whole step it has waited")
    bonus: int = Field(default=0, ge=0, le=10**12, description="Points per step; 0 = waiting is worth nothing")


class Objective(_Section):
    ageing: Ageing = Field(default=Ageing(), description="What waiting adds to the weight of an item")


class Ttl(_Section):
    hold: PositiveDuration = Field(default=seconds("15m"), description="A selected item that nobody claims for so long is released")
    lease: PositiveDuration = Field(default=seconds("5m"), description="A claim without a heartbeat lasts so long")
    lease_max: PositiveDuration = Field(
        default=seconds("7d"), description="No executor may ask for a longer lease, by claim or heartbeat; `lease` itself may be longer"
    )


class Retries(_Section):
    max_attempts: int = Field(default=3, ge=1, le=1000, description="Claims an item may use up before it has failed")
    backoff: Duration = Field(default=seconds("30s"), description="A requeued item waits so long before it competes again")
    on_failure: Literal["keep_hold", "requeue"] = Field(
        default="keep_hold", description="keep_hold = try again with the capacity it has; requeue = give it back and compete again"
    )
    bundle_on_failure: Literal["keep_rest", "cancel_rest"] = Field(
        default="keep_rest", description="What happens to a bundle of which one member has failed for good"
    )
    quarantine_after: int | None = Field(
        default=None, ge=1, le=100_000, description="Failures, over all its revivals, after which an item is quarantined; null = never"
    )


class Solver(_Section):
    steps: int = Field(
        default=60_000_000, ge=1, le=10**15, description="Work units of one search; the same steps give the same answer everywhere"
    )
    seconds: int = Field(default=30, ge=1, le=86_400, description="Safety net by the clock; a cycle it ends cannot be repeated bit for bit")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of every random choice")
    reproducible: bool = Field(
        default=False, description="true = the steps alone end a search, however long they take; `seconds` is not looked at"
    )


class Limits(_Section):
    max_selected: int | None = Field(
        default=None, ge=1, le=10**9, description="Items that one cycle may select at most; null = as many as fit"
    )
    chunk: int = Field(
        default=10_000,
        ge=1000,
        le=100_000,
        description="Decisions per transaction of a commit; a bundle (at most 1000 items) never spans two",
    )


Severity = Literal["warning", "error"]


class Severities(_Section):
    """Of checks that stop no run: how much it matters to this pool when one fails. Those that do stop it are always errors."""

    gap_within_policy: Severity = Field(default="warning", description="The proven gap is above max_gap")
    backlog_is_fresh: Severity = Field(default="warning", description="Items waited for longer than max_age before a cycle came")
    nobody_starves: Severity = Field(default="warning", description="An item was ready for longer than max_wait and never selected")
    ledger_invariants_hold: Severity = Field(default="error", description="A promise of the store is broken")


class Checks(_Section):
    max_gap: float = Field(
        default=0.05, ge=0, le=1, description="Warn when (upper_bound - value) / upper_bound of a selection is above it, 0 to 1"
    )
    max_wait: PositiveDuration = Field(
        default=seconds("1d"), description="Warn when an item has been eligible for longer and was never selected"
    )
    max_age: PositiveDuration = Field(default=seconds("1h"), description="Warn when the pool has items waiting and no cycle for longer")
    severity: Severities = Field(default=Severities(), description="How much a failed check matters")


class Source(_Section):
    database: DatabaseUrl | None = Field(default=None, description="Where the queries run; null = the pool's own database")
    items: Query = Field(description="What is pending there, with the columns of an item import")
    resources: Query | None = Field(
        default=None, description="What there is to use, with the columns of a resource import; null = resources are not pulled"
    )
    every: PositiveDuration = Field(default=seconds("5m"), description="Pause between two pulls")
    on_vanish: Literal["keep", "cancel"] = Field(
        default="keep", description="What becomes of a pending item that the query no longer returns"
    )
    max_vanish: int = Field(
        default=10, ge=0, le=100, description="Percent of the pending items that one pull may cancel; if more vanish, none is"
    )


class Retention(_Section):
    artifacts: PositiveDuration = Field(
        default=seconds("30d"), description="Snapshots, graphs and selections are kept so long; replay needs them"
    )
    items: PositiveDuration = Field(
        default=seconds("30d"), description="An item that has ended stays among the others so long; then history keeps it and its decisions"
    )
    transitions: PositiveDuration = Field(
        default=seconds("730d"), description="The audit trail is kept in the database so long, then in files beside the artifacts"
    )


class Policy(_Section):
    """The whole document. Every field has a default, so `{}` is a policy."""

    objective: Objective = Field(default=Objective(), description="What a selection is worth")
    ttl: Ttl = Field(default=Ttl(), description="How long unused capacity stays with an item")
    retries: Retries = Field(default=Retries(), description="What a failure leads to")
    solver: Solver = Field(default=Solver(), description="How hard to search")
    limits: Limits = Field(default=Limits(), description="How much one cycle and one transaction may do")
    checks: Checks = Field(default=Checks(), description="When to warn")
    source: Source | None = Field(
        default=None, description="Where items and resources are pulled from; null = they are submitted and imported"
    )
    retention: Retention = Field(default=Retention(), description="How long history is kept")

    def canonical(self) -> bytes:
        """The same bytes for the same policy, however it was written: JSON with sorted names and every default filled in."""
        return json_text.canonical(self.model_dump(mode="json")).encode()

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @classmethod
    def from_document(cls, document: object, where: str, lines: Mapping[strict_yaml.Path, int] | None = None) -> Policy:
        """Read what `canonical` wrote, or any parsed JSON or YAML. Raises PolicyRefused with every error at once."""
        try:
            return cls.model_validate({} if document is None else document)
        except ValidationError as invalid:
            raise PolicyRefused(where, policy_reference.refusals(invalid, cls, lines or {})) from None

    @classmethod
    def from_yaml(cls, text: str, where: str) -> Policy:
        """Read a policy file. Raises PolicyRefused with every error at once, each with its line."""
        try:
            document, lines = strict_yaml.load(text)
        except strict_yaml.YamlRefused as refused:
            raise PolicyRefused(where, [refused.refusal]) from None
        return cls.from_document(document, where, lines)

    @classmethod
    def defaults_yaml(cls) -> str:
        """A policy file with every default and what it means."""
        return policy_reference.as_yaml(cls)
