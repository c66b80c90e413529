"""The same day decided by simple rules, in memory: what anybody could do without an optimiser, to compare the engine with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipeline_project.core.lifecycle import HOLDING, State, event_of
from pipeline_project.scenarios.stands import HOLD, Cancelled, Day, Delayed, Event, Known, Step, Wish

Rule = Callable[[Sequence[Wish]], Sequence[Wish]]
"""Whom to serve first, out of all that wait, given in the order of becoming known. A cycle gives each what it wants, if it still fits."""


def greedy(waiting: Sequence[Wish]) -> Sequence[Wish]:
    """The largest planes first, ties in the order of becoming known."""
    return sorted(waiting, key=lambda wish: -wish.weight)


def first_come(waiting: Sequence[Wish]) -> Sequence[Wish]:
    """In the order of becoming known; a delay does not cost the place in the queue."""
    return waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the day ended. `value`: seats of the completed departures. `states`: key -> final state."""

    value: int
    states: dict[str, State]

    def count(self, state: State) -> int:
        return sum(found is state for found in self.states.values())


def play(day: Day, rule: Rule) -> Outcome:
    """The whole day under one rule, with the item lifecycle and the clock of the engine."""
    apron = Apron(capacity=day.resources)
    for step in day.steps():
        apron.take(step, rule)
    value = sum(apron.wishes[key].weight for key, state in apron.states.items() if state is State.COMPLETED)
    return Outcome(value=value, states=apron.states)


@dataclass(slots=True, kw_only=True)
class Apron:
    """The stands and everybody who wants one. Dictionaries keep the order of becoming known."""

    capacity: dict[str, int]
    wishes: dict[str, Wish] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    held_since: dict[str, datetime] = field(default_factory=dict)
    in_use: Counter[str] = field(default_factory=Counter)

    def take(self, step: Step, rule: Rule) -> None:
        for key in step.left:
            self._move_if(key, {State.CLAIMED}, State.COMPLETED)
        for event in step.events:
            self._hear(event)
        self._sweep(step.at)
        if step.cycle:
            self._cycle(step.at, rule)
        for key in step.claims:
            self._move_if(key, {State.SELECTED}, State.CLAIMED)
        self.check()

    def check(self) -> None:
        """Nothing overdrawn, and the counters are the holds, counted another way."""
        holds = Counter(cell for key, state in self.states.items() if state in HOLDING for cell in self.wishes[key].cells)
        assert holds == self.in_use, f"counted {self.in_use}, held {holds}"
        overdrawn = {cell: used for cell, used in holds.items() if used > self.capacity[cell]}
        assert not overdrawn, f"overdrawn: {overdrawn}"

    def _hear(self, event: Event) -> None:
        match event:
            case Known():
                assert event.key not in self.wishes, f"{event.key} became known twice"
                self.wishes[event.key], self.states[event.key] = event, State.PENDING
            case Delayed():
                self._move_if(event.key, {State.SELECTED}, State.PENDING)
                self._move(event.key, State.PENDING)
                self.wishes[event.key] = event
            case Cancelled():
                self._move_if(event.key, {State.PENDING, State.SELECTED, State.CLAIMED}, State.CANCELLED)

    def _sweep(self, now: datetime) -> None:
        for key, wish in self.wishes.items():
            if wish.expires_at <= now:
                self._move_if(key, {State.PENDING, State.SELECTED}, State.EXPIRED)
        for key, since in list(self.held_since.items()):
            if since + HOLD <= now:
                self._move_if(key, {State.SELECTED}, State.PENDING)

    def _cycle(self, now: datetime, rule: Rule) -> None:
        for wish in rule([wish for key, wish in self.wishes.items() if self.states[key] is State.PENDING]):
            if all(self.in_use[cell] < self.capacity[cell] for cell in wish.cells):
                self._move(wish.key, State.SELECTED)
                self.held_since[wish.key] = now

    def _move_if(self, key: str, found: set[State], to: State) -> None:
        if self.states[key] in found:
            self._move(key, to)

    def _move(self, key: str, to: State) -> None:
        before, cells = self.states[key], self.wishes[key].cells
        event_of(before, to)  # raises where the engine would
        self.states[key] = to
        if to in HOLDING and before not in HOLDING:
            self.in_use.update(cells)
        elif before in HOLDING and to not in HOLDING:
            self.in_use -= Counter(cells)  # drops what comes to zero
        if to is not State.SELECTED:
            self.held_since.pop(key, None)
