"""CSV and JSON lines as columns: what cannot be read is refused line by line, and no line is taken into memory without a limit."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from typing import Any, Final

from pipeline_project.core import json_text
from pipeline_project.core.columns import Field, Kind, Table, check_header, gather, shown
from pipeline_project.core.errors import Refusal, UsageError

LINE_BYTES_LIMIT: Final = 1024 * 1024
CHUNK_ROWS: Final = 20_000
CHUNK_BYTES: Final = 32 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class Lines:
    """The lines of a stream as text; remembers which of them could not be read, and says so to whoever asks."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._flaws: dict[int, tuple[str, str]] = {}
        self.number = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._stream.readline(LINE_BYTES_LIMIT + 1):
            self.number += 1
            self.bytes += len(line)
            if self.number == 1:
                line = line.removeprefix(_BOM)
            if len(line) > LINE_BYTES_LIMIT:
                yield self._skip(line)
                continue
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                self._flaws[self.number] = "text in UTF-8", f"the byte 0x{line[error.start]:02x} at byte {error.start + 1}"
                yield line.decode(errors="replace")

    def flaw(self, first: int, last: int) -> Refusal | None:
        """What was wrong with these lines."""
        if self._flaws:
            for number in range(first, last + 1):
                if number in self._flaws:
                    expected, found = self._flaws[number]
                    return Refusal(line=number, field="line", expected=expected, found=found)
        return None

    def _skip(self, line: bytes) -> str:
        """Read on to the end of a line too long to keep. What stands for it has as many quotes, odd or even: CSV goes on as it would."""
        quotes, length = line.count(b'"'), len(line)
        while not line.endswith(b"\n") and (line := self._stream.readline(LINE_BYTES_LIMIT)):
            quotes += line.count(b'"')
            length += len(line)
        self._flaws[self.number] = f"at most {LINE_BYTES_LIMIT} bytes", f"{length}"
        return '"\n' if quotes % 2 else "\n"


def json_chunks(stream: BufferedIOBase, fields: Mapping[str, Field], _where: str) -> Iterator[tuple[Table, list[Refusal]]]:
    """One JSON object per line. There is no header: a field that nobody knows refuses its row. Blank lines are no rows."""
    lines = Lines(stream)
    rows: list[tuple[int, Any]] = []
    refused: list[Refusal] = []
    read = 0
    for line in lines:
        number = lines.number
        if flaw := lines.flaw(number, number):
            refused.append(flaw)
        elif text := line.strip(" \t\r\n"):
            try:
                rows.append((number, json_text.decode(text)))
            except ValueError as error:
                refused.append(Refusal(line=number, field="line", expected=f"a JSON object; it is not JSON: {error}", found=shown(text)))
        if len(rows) + len(refused) >= CHUNK_ROWS or lines.bytes - read >= CHUNK_BYTES:
            table, strays = gather(rows, fields)
            yield table, refused + strays
            rows, refused, read = [], [], lines.bytes
    table, strays = gather(rows, fields)
    yield table, refused + strays


def csv_chunks(stream: BufferedIOBase, fields: Mapping[str, Field], where: str) -> Iterator[tuple[Table, list[Refusal]]]:
    """Comma-separated, quoted with ", one header line. An empty cell is an absent value; blank lines are no rows."""
    lines = Lines(stream)
    reader = csv.reader(lines, strict=True)
    header = _header(reader, lines, fields, where)
    rows: list[list[str]] = []
    starts: list[int] = []
    refused: list[Refusal] = []
    read = 0
    for start, record in _records(reader, lines, len(header)):
        if isinstance(record, Refusal):
            refused.append(record)
        else:
            starts.append(start)
            rows.append(record)
        if len(rows) + len(refused) >= CHUNK_ROWS or lines.bytes - read >= CHUNK_BYTES:
            yield _table(starts, header, rows, fields), refused
            rows, starts, refused, read = [], [], [], lines.bytes
    yield _table(starts, header, rows, fields), refused


def _header(reader: Any, lines: Lines, fields: Mapping[str, Field], where: str) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UsageError(f"{where}: expected a header line, found broken CSV ({error})") from None
    if flaw := lines.flaw(1, reader.line_num):
        raise UsageError(f"{where}: {flaw}")
    check_header(header, fields, where=where)
    return header


def _records(reader: Any, lines: Lines, width: int) -> Iterator[tuple[int, list[str] | Refusal]]:
    """Each record with the line it starts on. A record may span lines (quoted line breaks); a flaw in any of them refuses it."""
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            last = reader.line_num
            found = f"{error}" if last == start else f"{error} (lines {start} to {last} are this record; is a quote not closed?)"
            yield start, Refusal(line=start, field="record", expected="a well-formed CSV record", found=found)
            continue
        if cells is None:
            return
        if flaw := lines.flaw(start, reader.line_num):
            yield start, flaw
        elif len(cells) == width:
            yield start, cells
        elif cells:
            yield start, Refusal(line=start, field="record", expected=f"{width} cells", found=f"{len(cells)}")


def _table(lines: list[int], header: list[str], rows: list[list[str]], fields: Mapping[str, Field]) -> Table:
    cells = zip(*rows, strict=True) if rows else ([] for _ in header)
    columns = {}
    for name, column in zip(header, cells, strict=True):
        read = _integer if fields[name].kind is Kind.INTEGER else _text
        columns[name] = [read(cell) for cell in column]
    return Table(lines=lines, columns=columns)


def _text(cell: str) -> str | None:
    return cell or None


def _integer(cell: str) -> int | str | None:
    """Digits become a number; anything else stays text, and the check of the column refuses it."""
    return int(cell) if cell.isascii() and cell.isdecimal() and len(cell) <= 20 else cell or None
