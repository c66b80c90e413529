"""An earlier answer to begin with: what was chosen, what resources were worth, and the cuts that still hold."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from pipeline_project.core.errors import UsageError
from pipeline_project.core.packing import INT64_MAX, Int64, PackingProblem
from pipeline_project.core.selection import MEMBERS_MAX, NO_CUTS, Cuts, Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An earlier answer in the numbers of the problem at hand.

    chosen       int64     candidates that were chosen and still exist; they may no longer fit together
    prices       int64[m]  what a unit of each resource was worth, in 1/price_scale points; 0 where it is new
    price_scale  as in the earlier certificate
    cuts         of the earlier certificate, less the rows and members that are gone; each is looked at again before it is used
    left         int64[m]  what it left of each resource: where there is more now, somebody has gone. None = not recorded
    """

    chosen: Int64
    prices: Int64
    price_scale: int
    cuts: Cuts = NO_CUTS
    left: Int64 | None = None

    @classmethod
    def of(cls, selection: Selection, left: Int64 | None = None) -> Start:
        """For the very problem that was solved."""
        certificate = selection.certificate
        prices, scale, cuts = certificate.prices, certificate.price_scale, certificate.cuts
        return cls(chosen=selection.chosen, prices=prices, price_scale=scale, cuts=cuts, left=left)

    def renumbered(self, candidates: Int64, resources: Int64, resource_count: int) -> Start:
        """The same in the numbers of another problem.

        candidates, resources  int64  the new number of each, -1 = gone; those that stay keep their order
        """
        prices, stay = np.zeros(resource_count, np.int64), resources >= 0
        prices[resources[stay]] = self.prices[stay]
        left = None
        if self.left is not None:
            left = np.full(resource_count, INT64_MAX)  # of what is new, whoever demands it is new or changed
            left[resources[stay]] = self.left[stay]
        chosen = candidates[self.chosen]
        cuts = _renumbered(self.cuts, candidates, resources)
        return Start(chosen=chosen[chosen >= 0], prices=prices, price_scale=self.price_scale, cuts=cuts, left=left)

    def check(self, problem: PackingProblem) -> None:
        """Refuse what cannot be an answer to this problem, however it came about. Raises UsageError."""
        check_chosen(self.chosen, problem)
        _expect(self.prices.shape == (problem.m,) and self.prices.dtype == np.int64, "prices", f"int64[{problem.m}]", _shape(self.prices))
        left = self.prices if self.left is None else self.left
        _expect(left.shape == (problem.m,) and left.dtype == np.int64, "left", f"int64[{problem.m}]", _shape(left))
        _expect(not (self.prices < 0).any(), "prices", ">= 0", self.prices.min(initial=0))
        _expect(self.price_scale >= 1, "price_scale", ">= 1", self.price_scale)
        _check_cuts(self.cuts, problem)


def check_chosen(chosen: Int64, problem: PackingProblem) -> None:
    """Refuse what are not candidates of this problem; that they do not fit together is no reason. Raises UsageError."""
    _expect(chosen.ndim == 1 and chosen.dtype.kind == "i", "chosen", "a column of integers", _shape(chosen))
    inside = not len(chosen) or 0 <= int(chosen.min()) <= int(chosen.max()) < problem.n
    _expect(inside, "chosen", f"candidates in 0..{problem.n - 1}", f"{chosen.min(initial=0)}..{chosen.max(initial=0)}")


def _expect(holds: bool | np.bool_, what: str, expected: str, found: object) -> None:
    if not holds:
        raise UsageError(f"start: {what}: expected {expected}, found {found}")


def _shape(column: Int64) -> str:
    return f"{column.dtype}{list(column.shape)}"


def _check_cuts(cuts: Cuts, problem: PackingProblem) -> None:
    a, b = len(cuts.price), len(cuts.clique_price)
    lengths = {"resource": a, "numerator": a, "denominator": a, "price": a, "complemented_starts": a + 1, "clique_starts": b + 1}
    for field in fields(cuts):
        column = getattr(cuts, field.name)
        length = lengths.get(field.name, len(column))
        _expect(column.shape == (length,) and column.dtype == np.int64, f"cuts: {field.name}", f"int64[{length}]", _shape(column))
    for starts, numbers, name in (
        (cuts.complemented_starts, cuts.complemented, "complemented"),
        (cuts.clique_starts, cuts.members, "members"),
    ):
        divide = starts[0] == 0 and starts[-1] == len(numbers) and not (np.diff(starts) < 0).any()
        _expect(divide, f"cuts: starts of {name}", f"ascending from 0 to {len(numbers)}", starts)
        row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        sound = ((np.diff(numbers) > 0) | (np.diff(row) > 0)).all() and ((numbers >= 0) & (numbers < problem.n)).all()
        _expect(sound, f"cuts: {name}", f"candidates in 0..{problem.n - 1}, ascending in each row", numbers)
    _expect(((cuts.resource >= 0) & (cuts.resource < problem.m)).all(), "cuts: resource", f"0..{problem.m - 1}", cuts.resource)
    fraction = (cuts.numerator > 0) & (cuts.numerator < cuts.denominator)
    _expect(fraction.all(), "cuts: numerator", "more than 0, less than the denominator", cuts.numerator)
    _expect(not (cuts.price < 0).any() and not (cuts.clique_price < 0).any(), "cuts: price", ">= 0", "less")
    longest = np.diff(cuts.clique_starts).max(initial=0)
    _expect(longest <= MEMBERS_MAX, "cuts: members", f"at most {MEMBERS_MAX} in a clique", longest)


def _renumbered(cuts: Cuts, candidates: Int64, resources: Int64) -> Cuts:
    """A rounded row is one of whoever demands its resource now; of a clique, those that are left are one."""
    stays = resources[cuts.resource] >= 0
    complemented_starts, complemented = _lists(cuts.complemented_starts, candidates[cuts.complemented], stays)
    clique_starts, members = _lists(cuts.clique_starts, candidates[cuts.members], np.ones(len(cuts.clique_price), np.bool_))
    return replace(
        cuts,
        resource=resources[cuts.resource][stays],
        numerator=cuts.numerator[stays],
        denominator=cuts.denominator[stays],
        price=cuts.price[stays],
        complemented_starts=complemented_starts,
        complemented=complemented,
        clique_starts=clique_starts,
        members=members,
    )


def _lists(starts: Int64, numbers: Int64, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Int64, Int64]:
    """The kept lists without the numbers that are gone."""
    row = np.repeat(np.arange(len(keep)), np.diff(starts))
    there = (numbers >= 0) & keep[row]
    shorter = np.zeros(int(keep.sum()) + 1, np.int64)
    np.cumsum(np.bincount(row[there], minlength=len(keep))[keep], out=shorter[1:])
    return shorter, numbers[there]
