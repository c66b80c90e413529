"""Parquet as columns: types are settled for the whole file before any row is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BufferedIOBase
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline_project.core.columns import Field, Kind, Table, check_header
from pipeline_project.core.errors import Refusal, UsageError

CHUNK_ROWS: Final = 20_000
CHUNK_BYTES: Final = 32 * 1024 * 1024


def chunks(stream: BufferedIOBase, fields: Mapping[str, Field], where: str) -> Iterator[tuple[Table, list[Refusal]]]:
    """Row number = line. Raises UsageError for a file that is no Parquet, or has a column of another type than expected."""
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        check_header(schema.names, fields, where=where)
        _check_types(schema, fields, where)
        line = 1
        for batch in file.iter_batches(batch_size=_batch_rows(file.metadata)):
            columns = {name: _values(batch.column(name)) for name in schema.names}
            yield Table(lines=list(range(line, line + batch.num_rows)), columns=columns), []
            line += batch.num_rows
    except pa.ArrowException as error:
        raise UsageError(f"{where}: expected a Parquet file, found {error}") from None


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows per batch, so that a batch of large payloads does not fill the memory."""
    size: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES * int(metadata.num_rows) // max(size, 1)))


def _is_text(kind: pa.DataType) -> bool:
    if pt.is_dictionary(kind):
        kind = kind.value_type
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _is_instant(kind: pa.DataType) -> bool:
    return bool(pt.is_timestamp(kind) and kind.tz is not None)


def _is_quantities(kind: pa.DataType) -> bool:
    return bool(pt.is_map(kind) and _is_text(kind.key_type) and pt.is_integer(kind.item_type))


ACCEPTED: Final[dict[Kind, tuple[str, Callable[[pa.DataType], bool]]]] = {
    Kind.TEXT: ("text", _is_text),
    Kind.INTEGER: ("integers (cast it: a float has already lost digits)", lambda kind: bool(pt.is_integer(kind))),
    Kind.INSTANT: ("timestamps with time zone, or ISO 8601 text", lambda kind: _is_instant(kind) or _is_text(kind)),
    Kind.OBJECT: ("JSON text", _is_text),
    Kind.QUANTITIES: ("map<string, int64>, or JSON text", lambda kind: _is_quantities(kind) or _is_text(kind)),
}


def _check_types(schema: pa.Schema, fields: Mapping[str, Field], where: str) -> None:
    complaints = []
    for column in schema:
        expected, accepts = ACCEPTED[fields[column.name].kind]
        if not (accepts(column.type) or (pt.is_null(column.type) and not fields[column.name].required)):
            complaints.append(f"column {column.name!r}: expected {expected}, found {column.type}")
    if complaints:
        raise UsageError(f"{where}: {'; '.join(complaints)}")


def _values(column: pa.Array) -> list[Any]:
    if pt.is_map(column.type):
        return _maps(column)
    if pt.is_timestamp(column.type):
        ticks_per_s = _TICKS_PER_S[column.type.unit]
        return [None if ticks is None else _instant(ticks, ticks_per_s) for ticks in column.cast(pa.int64()).to_pylist()]
    return _plain(column)


def _instant(ticks: int, ticks_per_s: int) -> datetime | int:
    """By hand: Arrow wraps around when it casts a far time, and stops at a zone it does not know.

    A time beyond the year 9999 stays a number, which the check refuses.
    """
    try:
        return _EPOCH + timedelta(microseconds=ticks * 10**6 // ticks_per_s)
    except OverflowError:
        return ticks


_TICKS_PER_S: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _maps(column: pa.Array) -> list[Any]:
    """Dictionaries from a map column, by its offsets: `to_pylist` takes several times as long.

    A map in which a key stands twice stays a list of pairs, which the check refuses: a dictionary would drop one of them.
    """
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    keys, quantities = _plain(column.keys[first:last]), _plain(column.items[first:last])
    maps: list[Any] = []
    for start, end, valid in zip(offsets, offsets[1:], column.is_valid().to_pylist(), strict=False):
        pairs = list(zip(keys[start - first : end - first], quantities[start - first : end - first], strict=True))
        distinct = dict(pairs)
        maps.append((distinct if len(distinct) == len(pairs) else pairs) if valid else None)
    return maps


def _plain(column: pa.Array) -> list[Any]:
    """Python values. Parquet does not promise that its text is UTF-8: broken text is passed on in a form that every check refuses."""
    if pt.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        raw = column.cast(pa.large_binary() if pt.is_large_string(column.type) else pa.binary())
        return [None if text is None else text.decode(errors="surrogateescape") for text in raw.to_pylist()]
