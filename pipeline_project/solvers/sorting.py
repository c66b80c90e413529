"""Orders of many candidates: by counting digits, which for a million of them takes a fifth of the time that comparing takes."""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline_project.core.packing import Int64
from pipeline_project.solvers.kernels import i8, kernel
from pipeline_project.solvers.solver import Floats

MANY: Final = 20_000  # below, comparing is as fast
DIGIT: Final = 11  # bits: the places of so many digits stay in the nearest cache
_SIGN: Final = np.uint64(2**63)


def descending(values: Int64 | Floats) -> Int64:
    """Indices from the largest value down; equal values by index. Any numbers, but no NaN and no -2**63."""
    if len(values) < MANY:
        return np.argsort(-values, kind="stable")
    return _by_digits(_keys(values), np.arange(len(values)))


def descending_by(first: Int64, then: Floats) -> Int64:
    """Indices from the largest `first` down, equal ones from the largest `then` down, equal again by index."""
    if len(first) < MANY:
        return np.lexsort((-then, -first))
    return _by_digits(_keys(first), descending(then))


def _keys(values: Int64 | Floats) -> Int64:
    """Numbers whose bits, read without a sign, ascend where the values descend."""
    if values.dtype == np.int64:
        return (-values).view(np.uint64).__xor__(_SIGN).view(np.int64)
    bits = (0.0 - values).view(np.uint64)  # zero has one sign only, so that it equals itself
    negative = bits >= _SIGN
    return np.where(negative, ~bits, bits ^ _SIGN).view(np.int64)


def _by_digits(keys: Int64, order: Int64) -> Int64:
    """Sort by the digits in which keys differ at all, the last one first, from the given order of equals; both are spent."""
    differ = int(np.bitwise_or.reduce(keys ^ keys[0]).view(np.uint64))
    shift = (differ & -differ).bit_length() - 1
    keys = keys[order]
    keys_too, order_too = np.empty_like(keys), np.empty_like(order)
    while differ and shift < differ.bit_length():
        _sort_by_digit(keys, order, shift, keys_too, order_too)
        keys, keys_too, order, order_too = keys_too, keys, order_too, order
        shift += DIGIT
    return order


@kernel(i8[::1], i8[::1], i8, i8[::1], i8[::1])
def _sort_by_digit(keys: Int64, order: Int64, shift: int, keys_out: Int64, order_out: Int64) -> None:
    mask = 2**DIGIT - 1
    place = np.zeros(2**DIGIT + 1, np.int64)
    for key in keys:
        place[((key >> shift) & mask) + 1] += 1
    for digit in range(2**DIGIT):
        place[digit + 1] += place[digit]
    for i in range(len(keys)):
        digit = (keys[i] >> shift) & mask
        at = place[digit]
        place[digit] = at + 1
        keys_out[at], order_out[at] = keys[i], order[i]
