"""Reads the pages people read: their blocks, tables and links, so that tests can hold them to the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
DOCS: Final = PROJECT / "docs"
PAGES: Final = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def name(page: Path) -> str:
    """For the names of parametrized tests."""
    return str(page.relative_to(PROJECT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of each row of the tables whose header line begins with these cells, written as in the page: `a | b`."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        head, _, *body = table.strip().splitlines()
        if head.removeprefix("| ").startswith(header):
            found += [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in body]
    return found
