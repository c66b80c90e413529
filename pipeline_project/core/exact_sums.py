"""Sums of whole numbers that are never wrong: in int64 where that surely holds them, else in Python's own integers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int64

Whole = NDArray[Any]  # int64, or Python integers (dtype object) where int64 might not hold a sum: slow, but exact
SURE: Final = 2.0**62  # floating point is off by far less than a factor of two: below this, int64 holds the exact number


def dot(a: Whole, b: Int64) -> int:
    if float(np.dot(a.astype(np.float64), b.astype(np.float64))) < SURE:
        return int(np.dot(a, b))
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def total(values: Whole) -> int:
    if values.dtype == np.int64 and float(values.sum(dtype=np.float64)) < SURE:
        return int(values.sum())
    return sum(int(v) for v in values.tolist())
