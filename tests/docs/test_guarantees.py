"""The page of guarantees names every invariant, and no file or test that is not there."""

from __future__ import annotations

import re

import pytest

from pipeline_project.store import invariants
from tests.docs.pages import DOCS, PROJECT, read, rows

PAGE = read(DOCS / "guarantees.md")
FILES = sorted(set(re.findall(r"`([\w/]+\.(?:py|sql))`", PAGE)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def test_every_invariant_is_listed_in_the_order_of_the_code() -> None:
    assert [cells[0].strip("`") for cells in rows(PAGE, "invariant | promise")] == list(invariants.names())


@pytest.mark.parametrize("path", FILES)
def test_every_file_it_names_is_there(path: str) -> None:
    found = PROJECT / path if path.startswith("tests/") else PROJECT / "pipeline_project" / path
    assert found.is_file()


@pytest.mark.parametrize(("path", "test"), TESTS)
def test_every_test_it_names_is_there(path: str, test: str) -> None:
    assert re.search(rf"^ *def {test}\(", (PROJECT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_guarantee_is_proven_by_a_test() -> None:
    guarantees = rows(PAGE, "guarantee |") + rows(PAGE, "rule |")
    assert len(guarantees) > 30
    assert [cells[0] for cells in guarantees if not re.search(r"`tests/[\w/]+\.py::test_\w+`", cells[3])] == []
