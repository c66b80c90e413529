"""The page of lifecycles draws and lists exactly the moves that the code allows."""

from __future__ import annotations

import re

from pipeline_project.core.lifecycle import CYCLE_MOVES, MOVES, CycleStatus, Event, State
from tests.docs.pages import DOCS, blocks, read, rows

PAGE = read(DOCS / "lifecycles.md")
ITEM_DIAGRAM, CYCLE_DIAGRAM = blocks(PAGE, "mermaid")
ITEM_MOVES = {(str(at), str(to), str(event)) for (at, to), event in MOVES.items()}
ARROW = re.compile(r"^ +(\S+) --> (\S+?)(?:: (\S+))?$", re.MULTILINE)


def test_the_table_of_items_is_the_table_of_the_code() -> None:
    listed = {(at, to, event) for at, to, event, _ in rows(PAGE, "from | to | event")}
    assert listed == ITEM_MOVES | {("(new)", str(State.PENDING), str(Event.SUBMIT))}


def test_the_diagram_of_items_shows_every_move() -> None:
    drawn = set(ARROW.findall(ITEM_DIAGRAM))
    assert drawn == ITEM_MOVES | {("[*]", "pending", "submit"), ("completed", "[*]", "")}


def test_the_table_of_cycles_is_the_table_of_the_code() -> None:
    listed = {(at, to) for at, to, _ in rows(PAGE, "from | to | when")}
    assert listed == {(str(at), str(to)) for at, to in CYCLE_MOVES}


def test_the_diagram_of_cycles_shows_every_move() -> None:
    ends = {str(status) for status in CycleStatus} - {str(at) for at, _ in CYCLE_MOVES}
    drawn = {(at, to) for at, to, _ in ARROW.findall(CYCLE_DIAGRAM)}
    assert drawn == {(str(at), str(to)) for at, to in CYCLE_MOVES} | {("[*]", "planned")} | {(end, "[*]") for end in ends}
