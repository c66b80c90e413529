"""The way back: what a cycle selected and nobody has claimed is released, exactly as it was previewed, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from pipeline_project.core.errors import Refused, StalePlan, Unknown, UsageError
from pipeline_project.core.lifecycle import CycleStatus
from pipeline_project.core.rollbacks import COMPLETED, FATES, MOVED_ON, RELEASE, Fates, differing, undo_key
from pipeline_project.engine.finishing import Finishing, alone_in
from pipeline_project.engine.transactions import repeatable
from pipeline_project.store import cycles, pools, rollbacks
from pipeline_project.store.cycles import Cycle
from pipeline_project.store.intake import Receipt

DIFFERENCES_SHOWN: Final = 5
HOLD_LIMIT_S: Final = 2**31 - 1
"""As the cycle's row has it: 68 years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a rollback would do at one instant; `items` and `resources` are rows for people and JSON."""

    fates: Fates
    hash: str
    items: list[dict[str, Any]]
    resources: list[dict[str, Any]]


class Rollback(Finishing):
    """Taking a cycle back, on top of how cycles end."""

    def rollback(
        self,
        cycle_key: str,
        *,
        pool: str | None = None,
        hold_s: int = 0,
        preview: bool = False,
        expect: str | None = None,
        compensate: bool = False,
        reason: str = "rolled back",
    ) -> dict[str, Any]:
        """Give back what a published cycle holds and nobody has claimed; completed and claimed items are reported, not undone.

        hold_s      keep the released items from being selected again for so long
        preview     only say what it would do; the answer's `hash` is what to expect
        expect      the hash of a preview: raises StalePlan, and says what differs, unless this would do, or has done, exactly the same
        compensate  submit one new item for each completed one: its weight, its demands of renewable resources, key `KEY~undo~CYCLE`

        The same call again finishes what an earlier one left, or reports that it is done.
        """
        if not 0 <= hold_s <= HOLD_LIMIT_S:
            raise UsageError(f"hold: expected 0 to {HOLD_LIMIT_S} seconds (24855d), found {hold_s}")
        if not preview:
            self.finish_lapsed(self.find(cycle_key, pool=pool)["pool"])
        cycle = self.find(cycle_key, pool=pool)
        effects = self._effects(cycle, hold_s, compensate)
        if preview:
            self._artifacts.save_fates(cycle["pool"], cycle["cycle_key"], effects.hash, effects.fates)
            return _report(cycle, effects, compensate)
        if cycle["status"] == CycleStatus.ROLLED_BACK:  # what was claimed then may be completed by now
            if expect is not None and expect != effects.hash:
                self._refuse_not_done(cycle, effects.fates, expect)
            return _done(_report(cycle, effects, compensate), effects, [], self._compensate(cycle) if compensate else Receipt())
        fence = self._begin_rollback(cycle, reason, hold_s, compensate, expect)
        with self._letting_go(cycle, fence):
            released, submitted = self._unwind(cycle, fence, reason, hold_s=hold_s, compensate=compensate)
        return _done(_report(cycle, effects, compensate), effects, released, submitted)

    @repeatable
    def _effects(self, cycle: Cycle, hold_s: int, compensate: bool) -> Effects:
        with self._database.begin(repeatable=True) as connection:
            fates = rollbacks.fates(connection, cycle["cycle_id"])
            items, resources = rollbacks.effects(connection, cycle["cycle_id"], fates)
            return Effects(fates=fates, hash=fates.hash(_promise(cycle, hold_s, compensate)), items=items, resources=resources)

    @repeatable
    def _begin_rollback(self, cycle: Cycle, reason: str, hold_s: int, compensate: bool, expect: str | None) -> int:
        """From here on executors see nothing of the cycle, and nobody can change what it would release but by taking it away."""
        with alone_in(cycle["pool"]), self._database.begin(actor=self.owner) as connection:
            row = cycles.lock(connection, cycle["cycle_id"])
            if row["status"] == CycleStatus.ROLLING_BACK and row["owner"] == self.owner:
                return int(row["fence"])
            if row["status"] != CycleStatus.PUBLISHED:
                raise Refused(f"cycle {row['cycle_key']}: expected a published one to roll back, found {row['status']}")
            if expect is not None:
                self._refuse_other(connection, cycle, _promise(cycle, hold_s, compensate), expect)
            cycles.refuse_rivals(connection, pools.find(connection, cycle["pool"]), self.owner)
            return cycles.begin_rollback(connection, row, self.owner, reason=reason, hold_s=hold_s, compensate=compensate)

    def _refuse_other(self, connection: sa.Connection, cycle: Cycle, promise: dict[str, Any], expect: str) -> None:
        now = rollbacks.fates(connection, cycle["cycle_id"])
        if now.hash(promise) == expect:
            return
        again = _again(cycle)
        before = self._previewed(cycle, expect, now.hash(promise))
        ids = differing(before, now)
        if not len(ids):
            raise StalePlan(
                f"cycle {cycle['cycle_key']}: its items are as they were, but the preview was made with another --hold or --compensate "
                f"than this call's ({promise['hold_s']} s, {'with' if promise['compensate'] else 'without'} --compensate): {again}"
            )
        names = rollbacks.keys_of(connection, ids[:DIFFERENCES_SHOWN])
        shown = "; ".join(f"{names[i]} was to be {_fate(before, i)}, found {_fate(now, i)}" for i in ids[:DIFFERENCES_SHOWN].tolist())
        more = f"; and {len(ids) - DIFFERENCES_SHOWN:,} more" if len(ids) > DIFFERENCES_SHOWN else ""
        raise StalePlan(f"cycle {cycle['cycle_key']}: {len(ids):,} items moved since the preview: {shown}{more}; {again}")

    def _refuse_not_done(self, cycle: Cycle, now: Fates, expect: str) -> None:
        """The cycle is rolled back: was it as this preview said? It was, if it was with the same options and left none that was to go."""
        promise = _promise(cycle, cycle["hold_s"], cycle["compensate"])
        before = self._previewed(cycle, expect, now.hash(promise))
        kept = np.isin(before.where(RELEASE), now.item_ids[now.fates != MOVED_ON])
        if before.hash(promise) != expect or kept.any():
            raise StalePlan(
                f"cycle {cycle['cycle_key']}: it was rolled back, but not as that preview says: it was with a hold of {cycle['hold_s']} s, "
                f"{'with' if cycle['compensate'] else 'without'} --compensate, and {int(kept.sum()):,} items that were to be released "
                f"were not; {_again(cycle)}"
            )

    def _previewed(self, cycle: Cycle, expect: str, found: str) -> Fates:
        """What a preview said. Raises StalePlan where none of that hash is kept."""
        try:
            return self._artifacts.load_fates(cycle["pool"], cycle["cycle_key"], expect)
        except (Unknown, FileNotFoundError):
            raise StalePlan(
                f"cycle {cycle['cycle_key']}: expected hash {expect}, found {found}; no preview of that hash is kept: {_again(cycle)}"
            ) from None


def _again(cycle: Cycle) -> str:
    return f"nothing was changed; look again with `pipeline cycle rollback {cycle['cycle_key'][:8]} --preview`"


def _promise(cycle: Cycle, hold_s: int, compensate: bool) -> dict[str, Any]:
    """What a rollback's hash stands for, besides the items."""
    return {"cycle": cycle["cycle_key"], "attempt": cycle["attempt"], "hold_s": hold_s, "compensate": compensate}


def _fate(fates: Fates, item: int) -> str:
    at = int(np.searchsorted(fates.item_ids, item))
    if at == len(fates.item_ids) or fates.item_ids[at] != item:
        return "gone"
    version = f" (version {fates.versions[at]})" if fates.fates[at] != MOVED_ON else ""
    return {"release": "released"}.get(FATES[fates.fates[at]], FATES[fates.fates[at]].replace("_", " ")) + version


def _report(cycle: Cycle, effects: Effects, compensate: bool) -> dict[str, Any]:
    counts = effects.fates.counts()
    done = [item["item"] for item in effects.items if item["effect"] == FATES[COMPLETED]]
    return {
        "cycle": cycle["cycle_key"],
        "attempt": cycle["attempt"],
        "pool": cycle["pool"],
        "status": cycle["status"],
        "hash": effects.hash,
        "released": counts["release"],
        **{name: counts[name] for name in ("claimed", "completed", "ended", "moved_on")},
        "items": effects.items,
        "resources": effects.resources,
        "compensations": [{"item": key, "by": undo_key(key, cycle["cycle_key"])} for key in done] if compensate else [],
    }


def _done(report: dict[str, Any], effects: Effects, released: Sequence[int], submitted: Receipt) -> dict[str, Any]:
    """What it came to. `overtaken`: items that somebody else moved between our look and our locks, so that it went otherwise for them."""
    strays = np.setxor1d(effects.fates.where(RELEASE), np.array(released, np.int64))
    at = np.searchsorted(effects.fates.item_ids, strays)
    return {
        **report,
        "status": str(CycleStatus.ROLLED_BACK),
        "released": len(released),
        "overtaken": [effects.items[i]["item"] for i in at.tolist()],
        "compensated": submitted.accepted + submitted.unchanged + submitted.revised,
        "not_compensated": [refusal.as_dict() for refusal in submitted.refused],
    }
