"""The file of roots: whole lines, each once, and every edit of them noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline_project.core.errors import CheckFailed
from pipeline_project.core.positions import START, Position
from pipeline_project.core.seals import Seal
from pipeline_project.store.roots import Roots


def chain(length: int) -> list[Seal]:
    made: list[Seal] = []
    for number in range(1, length + 1):
        before = made[-1] if made else None
        leaves, names = bytes([number]) * 32, b"names"
        at = datetime(2026, 1, 15, tzinfo=UTC)
        after = before.until if before else START
        made.append(Seal.close(leaves=leaves, names=names, previous=before, sealed_at=at, after=after, until=Position(number, 1)))
    return made


def following(seals: list[Seal]) -> Callable[[int], Iterable[Seal]]:
    return lambda last: [seal for seal in seals if seal.seal_id > last]


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "made" / "roots.jsonl")


def test_what_was_appended_is_read(roots: Roots) -> None:
    seals = chain(60)
    assert roots.append(following(seals[:7])) == 7
    assert roots.append(following(seals)) == 53
    assert roots.append(following(seals)) == 0
    assert list(roots.seals()) == seals
    assert roots.last() == seals[-1]


def test_a_line_that_a_crash_tore_is_written_again(roots: Roots) -> None:
    seals = chain(3)
    roots.append(following(seals[:2]))
    whole = roots.path.read_bytes()
    roots.path.write_bytes(whole + b'{"seal": 3, "sea')
    assert list(roots.seals()) == seals[:2]
    assert roots.append(following(seals)) == 1
    assert list(roots.seals()) == seals
    roots.path.write_bytes(whole[:20])  # the very first line
    assert roots.last() is None
    assert roots.append(following(seals)) == 3
    assert list(roots.seals()) == seals


def test_two_who_append_at_once_write_each_seal_once(roots: Roots) -> None:
    seals = chain(40)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda upto: roots.append(following(seals[:upto])), range(1, 41)))
    assert list(roots.seals()) == seals


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: [lines[0], lines[1] | {"rows": 9}, lines[2]], "line 2, seal 2: its hash is not that of what it says"),
        (lambda lines: [lines[0], lines[2]], "line 2: expected seal 2"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 2: expected seal 3"),
        (lambda lines: [lines[0], {"seal": 2}, lines[2]], "line 2: expected a seal as"),
    ],
)
def test_an_edited_file_says_where(roots: Roots, edit: Callable[[list[dict[str, object]]], list[dict[str, object]]], said: str) -> None:
    roots.append(following(chain(3)))
    lines = [json.loads(line) for line in roots.path.read_text().splitlines()]
    roots.path.write_text("".join(json.dumps(line) + "\n" for line in edit(lines)))
    with pytest.raises(CheckFailed, match=said):
        list(roots.seals())
