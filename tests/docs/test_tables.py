"""Every table of a page has as many cells in each row as in its header: else a reader sees a figure under the wrong word, or none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, name, read, without_blocks


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_rows_of_a_table_fit_its_header(page: Path) -> None:
    assert misfits(without_blocks(read(page))) == []


def test_a_row_that_does_not_fit_is_named() -> None:
    assert misfits("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 \\| 4 | 5 |\n| 6 |\n") == ["| 6 |"]


def misfits(text: str) -> list[str]:
    tables = [table.strip().splitlines() for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)]
    return [row for table in tables for row in table if cells(row) != cells(table[0])]


def cells(row: str) -> int:
    return len(re.split(r"(?<!\\)\|", row))
