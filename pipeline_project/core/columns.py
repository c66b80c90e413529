"""Columns of input from strangers: checked value by value, each bad row refused once with its line, field, expected and found."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import compress
from typing import Any, Final

from pipeline_project.core import json_text
from pipeline_project.core.errors import Refusal, Refused, UsageError
from pipeline_project.core.packing import INT64_MAX

KEY_LENGTH_LIMIT: Final = 256
FOUND_LENGTH_LIMIT: Final = 80


class Kind(Enum):
    """What a column holds; each file format has its own way to say it."""

    TEXT = auto()
    INTEGER = auto()
    INSTANT = auto()
    OBJECT = auto()  # any JSON object
    QUANTITIES = auto()  # a JSON object of integers


@dataclass(frozen=True, slots=True)
class Field:
    """One column that a file may or must have."""

    kind: Kind
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Raw columns, as the sender's format made them.

    lines    n 1-based lines (CSV, JSON lines) or rows (Parquet, queries) of the input
    columns  name -> n values, None = absent; an optional column may be missing
    """

    lines: list[int]
    columns: dict[str, list[Any]]


class Unfit(Refused):
    """A value that its column cannot take; only `Inspection` catches it. `within` names the part of the value that is wrong."""

    def __init__(self, expected: str, found: object, *, within: str = "") -> None:
        super().__init__(f"expected {expected}, found {shown(found)}")
        self.expected, self.found, self.within = expected, found, within


class Inspection:
    """Walks a table column by column and remembers the first thing wrong with each row."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names: list[Any] = table.columns["key"]
        self._refused: dict[int, Refusal] = {}

    def column(self, name: str, check: Callable[[Any], Any], *, required: bool = False) -> list[Any]:
        """The checked values; None where a row has none, or an unfit one."""
        values = self._table.columns.get(name)
        if values is None:
            assert not required, "check_header comes first"
            return [None] * len(self._table.lines)
        if not required and values.count(None) == len(values):
            return values
        checked: list[Any] = []
        for row, value in enumerate(values):
            if value is None and not required:
                checked.append(None)
                continue
            try:
                checked.append(check(value))
            except Unfit as unfit:
                self.refuse(row, name + unfit.within, unfit.expected, shown(unfit.found))
                checked.append(None)
        return checked

    def refuse(self, row: int, field: str, expected: str, found: str) -> None:
        item = self._names[row]
        known = isinstance(item, str) and item.isprintable() and len(item) <= KEY_LENGTH_LIMIT
        refusal = Refusal(line=self._table.lines[row], field=field, expected=expected, found=found, item=item if known else None)
        self._refused.setdefault(row, refusal)

    def refuse_repeated(self, keys: list[Any], seen: dict[str, int]) -> None:
        """Refuse each row whose key an accepted row had before, in this table or an earlier one. `seen`: key -> line, updated."""
        for row, (key, line) in enumerate(zip(keys, self._table.lines, strict=True)):
            if row not in self._refused and (first := seen.setdefault(key, line)) != line:
                self.refuse(row, "key", "a unique key", f"the key of line {first} again")

    def keep(self, values: list[Any]) -> list[Any]:
        """Those of the rows that nothing is wrong with."""
        if not self._refused:
            return values
        return list(compress(values, (row not in self._refused for row in range(len(values)))))

    @property
    def refusals(self) -> list[Refusal]:
        """In the order of the lines."""
        return [self._refused[row] for row in sorted(self._refused)]


def check_header(names: Collection[str], fields: Mapping[str, Field], *, where: str) -> None:
    """Refuse a whole file whose columns are not the expected ones, before any row is read. Raises UsageError that names all of them."""
    complaints = [f"unknown column {shown(name)}{suggestion(name, fields)}" for name in names if name not in fields]
    complaints += [f"missing column {name!r}" for name, field in fields.items() if field.required and name not in names]
    complaints += [f"column {name!r} twice" for name in fields if list(names).count(name) > 1]
    if complaints:
        required = ", ".join(name for name, field in fields.items() if field.required)
        optional = ", ".join(name for name, field in fields.items() if not field.required)
        raise UsageError(f"{where}: {'; '.join(complaints)}. Expected the columns {required} and optionally {optional}")


def gather(rows: Iterable[tuple[int, Any]], fields: Mapping[str, Field]) -> tuple[Table, list[Refusal]]:
    """Turn rows (line, mapping) into columns; a row that is no mapping, or has a field that nobody knows, is refused."""
    lines: list[int] = []
    kept: list[Mapping[str, Any]] = []
    refusals = []
    known = fields.keys()
    for line, row in rows:
        if not isinstance(row, Mapping):
            refusals.append(Refusal(line=line, field="row", expected="an object with " + ", ".join(fields), found=shown(row)))
        elif not row.keys() <= known:
            stray = next(name for name in row if name not in known)
            found = shown(stray) + suggestion(stray, fields)
            refusals.append(Refusal(line=line, field="row", expected="one of the fields " + ", ".join(fields), found=found))
        else:
            lines.append(line)
            kept.append(row)
    return Table(lines=lines, columns={name: [row.get(name) for row in kept] for name in fields}), refusals


def text_key(value: Any) -> str:
    """Text that names something: short, visible, storable."""
    # Printable text has no control characters and no surrogates. The search is for the rest, for example a no-break space.
    if type(value) is str and 0 < len(value) <= KEY_LENGTH_LIMIT and (value.isprintable() or not _UNPRINTABLE.search(value)):
        return value
    raise Unfit(f"text of 1 to {KEY_LENGTH_LIMIT} characters without control characters and lone surrogates", value)


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def whole(lowest: int, highest: int = INT64_MAX) -> Callable[[Any], int]:
    """A check for whole numbers of a range. 3.0 is no whole number: a float has already lost digits that we cannot see."""
    expected = f"a whole number from {lowest} to {highest}"

    def check(value: Any) -> int:
        if type(value) is int and lowest <= value <= highest:
            return value
        raise Unfit(expected, value)

    return check


def json_object(value: Any, expected: str) -> dict[str, Any]:
    """An object, or its JSON text."""
    if isinstance(value, str):
        try:
            value = json_text.decode(value)
        except ValueError as error:
            raise Unfit(f"{expected}; it is not JSON: {error}", value) from None
    if not isinstance(value, dict):
        raise Unfit(expected, value)
    return value


def shown(value: object) -> str:
    """A value as an error message shows it: at most 80 characters, escaped, without a copy of all of it."""
    if value is None:
        return "nothing"
    if isinstance(value, str | bytes) and len(value) > FOUND_LENGTH_LIMIT:
        return f"{value[:40]!r:.56}... ({len(value):,} in all)"
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python refuses to write out integers of more than 4300 digits
        return f"a {type(value).__name__} of absurd size"
    return text if len(text) <= FOUND_LENGTH_LIMIT else text[: FOUND_LENGTH_LIMIT - 3] + "..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = FOUND_LENGTH_LIMIT


def suggestion(name: object, known: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; empty when nothing is close."""
    close = difflib.get_close_matches(str(name)[:KEY_LENGTH_LIMIT], list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
