"""What a pool must be after each call, worked out in plain Python from the documents, in a few dozen lines and without SQL.

Weights are distinct powers of two, so that no two selections are worth the same: the best one is the only right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations
from typing import Final

HOLD_S: Final = 60
LEASE_S: Final = 30
BACKOFF_S: Final = 10
MAX_ATTEMPTS: Final = 2
QUARANTINE_AFTER: Final = 3
BACK: Final = ("expired", "failed", "quarantined")


class Denied(Exception):
    """The engine refuses this, by the class of this name."""


@dataclass
class Item:
    number: int
    key: str
    weight: int
    demands: dict[str, int]
    bundle: str | None = None
    size: int = 1
    expires_at: datetime | None = None
    not_before: datetime | None = None
    state: str = "pending"
    version: int = 1
    token: int = 0
    attempts: int = 0
    cycle: Cycle | None = None
    rank: int | None = None
    hold_until: datetime | None = None
    lease_until: datetime | None = None
    executor: str | None = None
    revived: bool = False

    def move(self, state: str) -> None:
        self.state, self.version = state, self.version + 1
        if state != "selected":
            self.hold_until = None
        if state not in ("selected", "claimed", "completed"):  # what is done keeps the place it had
            self.rank = None
        if state == "pending":
            self.cycle = None
        if state != "claimed":
            self.lease_until = self.executor = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def is_awake(self, now: datetime) -> bool:
        return self.not_before is None or self.not_before <= now


@dataclass
class Cycle:
    """Planned candidates in rank order, each its items with the versions seen. What a reprocess chose it may have held before."""

    number: int
    chosen: list[list[tuple[Item, int]]]
    seen: set[str]
    status: str = "planned"
    reprocess: bool = False


@dataclass
class Oracle:
    now: datetime
    capacity: dict[str, int]
    items: dict[str, Item] = field(default_factory=dict)
    cycles: list[Cycle] = field(default_factory=list)
    paused: bool = False
    keep_hold: bool = True

    # -- what there is

    def mates(self, items: Iterable[Item]) -> list[Item]:
        """These and the other members of their bundles, in order."""
        items = list(items)
        bundles = {item.bundle for item in items if item.bundle}
        return [item for item in self.items.values() if item in items or (item.bundle and item.bundle in bundles)]

    def taken(self, resource: str) -> int:
        holding = [item for item in self.items.values() if item.state in ("selected", "claimed")]
        return sum(item.demands.get(resource, 0) for item in holding) + self.spent(resource)

    def spent(self, resource: str) -> int:
        done = [item for item in self.items.values() if item.state == "completed"]
        return sum(item.demands.get(resource, 0) for item in done) if resource == "fuel" else 0

    def free(self) -> dict[str, int]:
        return {resource: capacity - self.taken(resource) for resource, capacity in self.capacity.items()}

    # -- what comes in

    def submit(self, items: list[Item]) -> int:
        """How many rows are refused."""
        bad = [item for item in items if any(quantity > self.capacity[name] for name, quantity in item.demands.items())]
        for item in items:
            if item not in bad:
                self.items[item.key] = item
        return len(bad)

    def revise(self, item: Item, weight: int) -> None:
        bad = any(quantity > self.capacity[name] for name, quantity in item.demands.items())
        if item.has_expired(self.now) or bad or item.state not in ("pending", "selected"):
            raise Denied("Refused")
        self.release(item for item in self.mates([item]) if item.state == "selected")
        item.weight, item.version = weight, item.version + 1

    def cancel(self, item: Item) -> bool:
        if item.state not in ("pending", "selected", "claimed"):
            return False
        item.move("cancelled")
        for mate in self.mates([item]):
            if mate.state in ("pending", "selected"):
                mate.move("cancelled")
        return True

    def revive(self, item: Item) -> bool:
        if item.state not in BACK or item.has_expired(self.now):
            return False
        self._revive(item)
        return True

    def _revive(self, item: Item) -> None:
        item.move("pending")
        item.attempts, item.not_before = 0, None

    def set_capacity(self, resource: str, capacity: int, *, release: bool) -> None:
        giving: list[Item] = []
        excess = self.taken(resource) - capacity
        if release:
            holders = [item for item in self.items.values() if item.state == "selected" and item.demands.get(resource)]
            for item in sorted(holders, key=lambda item: (item.cycle and item.cycle.number, item.rank, item.number), reverse=True):
                if excess > 0:
                    giving.append(item)
                    excess -= item.demands[resource]
        going = [item for item in self.mates(giving) if item.state == "selected"]
        if self.taken(resource) - sum(item.demands.get(resource, 0) for item in going) > capacity:
            raise Denied("Refused")
        self.release(going)
        self.capacity[resource] = capacity

    def release(self, items: Iterable[Item]) -> int:
        going = [item for item in self.mates(items) if item.state == "selected"]
        for item in going:
            item.move("pending")
        return len(going)

    # -- cycles

    def plan(self) -> Cycle:
        if self.paused:
            raise Denied("Refused")
        waiting = [
            item for item in self.items.values() if item.state == "pending" and item.is_awake(self.now) and not item.has_expired(self.now)
        ]
        candidates = self._candidates(waiting, self._wanted_live)
        best = self._best(candidates, self.free())
        return self._planned(best, {item.key for candidate in candidates for item in candidate})

    def commit(self, cycle: Cycle) -> None:
        """Judged anew; raises Denied for a plan of which nothing holds any more."""
        if cycle.status in ("published", "rolling_back") and not self._may_come_again(cycle):
            return
        if self.paused:
            raise Denied("Refused")
        fresh = [
            [item for item, _ in candidate]
            for candidate in cycle.chosen
            if all(item.version == version and not item.has_expired(self.now) for item, version in candidate)
        ]
        if cycle.chosen and not fresh:
            cycle.status = "abandoned"
            raise Denied("StalePlan")
        self._select(cycle, fresh, [sum(map(len, cycle.chosen[: self._at(cycle, members)])) for members in fresh])

    def _select(self, cycle: Cycle, candidates: list[list[Item]], ranks: list[int]) -> None:
        left, chosen = self.free(), 0
        for members, rank in zip(candidates, ranks, strict=True):
            need = _need(members)
            if all(quantity <= left[resource] for resource, quantity in need.items()):
                for resource, quantity in need.items():
                    left[resource] -= quantity
                chosen += len(members)
                for offset, item in enumerate(members, 1):
                    item.move("selected")
                    item.cycle, item.rank, item.not_before = cycle, rank + offset, None
                    item.hold_until = self.now + timedelta(seconds=HOLD_S)
        cycle.status = "published"
        cycle.nothing_fitted = bool(candidates) and not chosen  # type: ignore[attr-defined]

    def _may_come_again(self, cycle: Cycle) -> bool:
        return cycle.status == "published" and getattr(cycle, "nothing_fitted", False)

    @staticmethod
    def _at(cycle: Cycle, members: list[Item]) -> int:
        return next(i for i, candidate in enumerate(cycle.chosen) if candidate[0][0] is members[0])

    def rollback(self, cycle: Cycle, hold_s: int) -> None:
        if cycle.status == "rolled_back":
            return
        if cycle.status != "published":
            raise Denied("Refused")
        going = [item for item in self.items.values() if item.cycle is cycle and item.state == "selected"]
        for item in [item for item in self.mates(going) if item.state == "selected"]:
            item.move("pending")
            if hold_s:
                until = self.now + timedelta(seconds=hold_s)
                item.not_before = max(item.not_before or until, until)
        cycle.status = "rolled_back"

    def reprocess(self) -> None:
        """The one day there is: what its cycles saw, with what they hold counted as free; only what changes is moved."""
        if self.paused:
            raise Denied("Refused")
        seen = {key for cycle in self.cycles if cycle.status in ("published", "rolled_back") for key in cycle.seen}
        items = [self.items[key] for key in self.items if key in seen and self._is_reconsidered(self.items[key])]
        candidates = self._candidates(items, self._wanted_again)
        held = [item for candidate in candidates for item in candidate if item.state == "selected"]
        free = self.free()
        for resource, quantity in _need(held).items():
            free[resource] += quantity
        best = self._best(candidates, free)
        present = [candidate for candidate in candidates if any(item.state == "selected" for item in candidate)]
        if _worth(present) >= _worth(best):
            best = present
        cycle = self._planned(best, {item.key for candidate in candidates for item in candidate})
        cycle.reprocess = True
        self.release(item for candidate in candidates if candidate not in best for item in candidate if item.state == "selected")
        new = [[item for item, _ in candidate] for candidate in cycle.chosen]
        ranks = [sum(map(len, new[:i])) for i in range(len(new))]
        fresh = [(members, rank) for members, rank in zip(new, ranks, strict=True) if not any(item.state == "selected" for item in members)]
        for item in (item for members, _ in fresh for item in members):
            if item.state != "pending":
                self._revive(item)
                item.revived = True
        self._select(cycle, [members for members, _ in fresh], [rank for _, rank in fresh])

    def _is_reconsidered(self, item: Item) -> bool:
        if item.has_expired(self.now) or (item.state == "pending" and not item.is_awake(self.now)):
            return False
        if item.state == "selected":
            return item.cycle is not None and item.cycle.status == "published"
        return item.state == "pending" or (item.state in ("expired", "failed") and not item.revived)

    def _candidates(self, items: list[Item], wanted: Callable[[Item], int]) -> list[list[Item]]:
        lone = [[item] for item in items if item.bundle is None]
        bundles: dict[str, list[Item]] = {}
        for item in items:
            if item.bundle:
                bundles.setdefault(item.bundle, []).append(item)
        whole = [[item for item in members if wanted(item) == len(members)] for members in bundles.values()]
        return lone + [members for members in whole if members]

    def _wanted_live(self, item: Item) -> int:
        mates = self.mates([item])
        gone = [mate for mate in mates if mate.state not in ("pending", "selected") and (mate.token > 0 or item.token > 0)]
        return item.size - len(gone)

    def _wanted_again(self, item: Item) -> int:
        at_work = ("claimed", "completed", "failed", "quarantined")
        return item.size - len([mate for mate in self.mates([item]) if mate.token > 0 and mate.state in at_work])

    def _best(self, candidates: list[list[Item]], free: dict[str, int]) -> list[list[Item]]:
        sets = (list(some) for n in range(len(candidates) + 1) for some in combinations(candidates, n))
        fitting = (some for some in sets if all(q <= free[r] for r, q in _need([item for one in some for item in one]).items()))
        return max(fitting, key=_worth)

    def _planned(self, best: list[list[Item]], seen: set[str]) -> Cycle:
        order = sorted(best, key=lambda candidate: -sum(item.weight for item in candidate))
        cycle = Cycle(len(self.cycles), [[(item, item.version) for item in candidate] for candidate in order], seen)
        self.cycles.append(cycle)
        return cycle

    # -- executors and time

    def claim(self, executor: str, most: int) -> list[tuple[str, int]]:
        ready = [
            item
            for item in self.items.values()
            if item.state == "selected" and item.cycle and item.cycle.status == "published" and item.hold_until
            if item.hold_until > self.now and not item.has_expired(self.now) and item.is_awake(self.now)
        ]
        taken = sorted(ready, key=lambda item: (item.rank, item.number))[:most]
        for item in taken:
            item.move("claimed")
            item.token, item.attempts, item.executor = item.token + 1, item.attempts + 1, executor
            item.lease_until = self.now + timedelta(seconds=LEASE_S)
        return [(item.key, item.token) for item in taken]

    def complete(self, key: str, token: int) -> bool:
        item = self.items[key]
        if item.token != token or item.state not in ("claimed", "completed"):
            return False
        if item.state == "claimed":
            item.move("completed")
        return True

    def fail(self, item: Item) -> None:
        is_kept = (self.keep_hold or item.bundle) and item.cycle is not None and item.cycle.status == "published"
        again = self.now + timedelta(seconds=BACKOFF_S * 2 ** (item.attempts - 1))
        if item.token >= QUARANTINE_AFTER:
            item.move("quarantined")
        elif item.attempts >= MAX_ATTEMPTS:
            item.move("failed")
        else:
            item.move("selected" if is_kept else "pending")
            item.not_before = again
            item.hold_until = again + timedelta(seconds=HOLD_S) if is_kept else None

    def heartbeat(self, executor: str) -> int:
        mine = [
            item
            for item in self.items.values()
            if item.state == "claimed" and item.executor == executor and item.lease_until and item.lease_until > self.now
        ]
        for item in mine:
            item.lease_until = self.now + timedelta(seconds=LEASE_S)
        return len(mine)

    def sweep(self) -> None:
        waiting = ("pending", "selected")
        late = [item for item in self.items.values() if item.state in waiting and item.has_expired(self.now)]
        for item in self.mates(late):
            if item.state in waiting:
                item.move("expired")
        self.release(item for item in self.items.values() if item.hold_until and item.hold_until <= self.now)
        for item in self.items.values():
            if item.lease_until and item.lease_until <= self.now:
                self.fail(item)


def _need(items: Iterable[Item]) -> dict[str, int]:
    need: dict[str, int] = {}
    for item in items:
        for resource, quantity in item.demands.items():
            need[resource] = need.get(resource, 0) + quantity
    return need


def _worth(candidates: list[list[Item]]) -> int:
    return sum(item.weight for candidate in candidates for item in candidate)
