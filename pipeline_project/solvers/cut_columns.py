"""Cuts as columns: some of them, two sets as one, a number for each row by which equal ones are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline_project.core.mixing import UInt64, mixed, sums
from pipeline_project.core.packing import Int64, starts_of
from pipeline_project.core.selection import Cuts
from pipeline_project.solvers.solver import Bools


def priced(cuts: Cuts, prices: Int64) -> Cuts:
    """The cuts with these prices, in the order of `with_cuts`; those that are free are left out."""
    a = len(cuts.price)
    return some_of(replace(cuts, price=prices[:a], clique_price=prices[a:]), prices > 0)


def in_original_numbers(cuts: Cuts, candidates: Int64, resources: Int64) -> Cuts:
    """Cuts of a reduced problem, as cuts of the problem where its candidates and resources have these (ascending) numbers."""
    return replace(cuts, resource=resources[cuts.resource], complemented=candidates[cuts.complemented], members=candidates[cuts.members])


def some_of(cuts: Cuts, keep: Bools) -> Cuts:
    """Those that are marked in `keep`, bool[number of cuts]."""
    a = len(cuts.price)
    complemented_starts, complemented = _lists_of(cuts.complemented_starts, cuts.complemented, keep[:a])
    clique_starts, members = _lists_of(cuts.clique_starts, cuts.members, keep[a:])
    return Cuts(
        resource=cuts.resource[keep[:a]],
        numerator=cuts.numerator[keep[:a]],
        denominator=cuts.denominator[keep[:a]],
        price=cuts.price[keep[:a]],
        complemented_starts=complemented_starts,
        complemented=complemented,
        clique_starts=clique_starts,
        members=members,
        clique_price=cuts.clique_price[keep[a:]],
    )


def _lists_of(starts: Int64, values: Int64, keep: Bools) -> tuple[Int64, Int64]:
    lengths = np.diff(starts)
    return starts_of(lengths[keep]), values[np.repeat(keep, lengths)]


def joined(one: Cuts, other: Cuts) -> Cuts:
    columns = {name: np.concatenate((getattr(one, name), getattr(other, name))) for name in one.__slots__}
    for starts in ("complemented_starts", "clique_starts"):
        columns[starts] = starts_of(np.concatenate((np.diff(getattr(one, starts)), np.diff(getattr(other, starts)))))
    return Cuts(**columns)


def keys(cuts: Cuts) -> UInt64:
    """A number for each row; where two rows happen to share one, one of them is lost, which harms nobody."""
    about = mixed(cuts.resource) + mixed(cuts.numerator << 32 | cuts.denominator)
    absent = sums(mixed(mixed(cuts.complemented)), cuts.complemented_starts)
    return np.concatenate((mixed(about + absent), sums(mixed(cuts.members), cuts.clique_starts)))
