"""Numbers for columns of numbers that hardly ever meet: arithmetic modulo 2^64, the same on every machine.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline_project.core.packing import Int64

UInt64 = NDArray[np.uint64]


def mixed(values: Int64 | UInt64) -> UInt64:
    """One for one: different numbers stay different."""
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sums(values: UInt64, starts: Int64) -> UInt64:
    """Of each values[starts[i]:starts[i + 1]]."""
    running = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=running[1:])
    return running[starts[1:]] - running[starts[:-1]]
