"""Random numbers that are the same on every machine: integers, and an exponential distribution from a table."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline_project.solvers.kernels import f8, i8, kernel

Generator = NDArray[np.uint64]

GENERATOR: Final = numba.types.uint64[::1]
HOTTEST: Final = 2.0**57  # above this an allowed loss would not fit int64
# Exponential variates of mean 1, rounded to 1/1024: the last bit of a logarithm differs between machines.
_EXPONENTIAL: Final = np.rint(-1024 * np.log((np.arange(4096) + 0.5) / 4096)) / 1024


def generator(seed: int) -> Generator:
    """uint64[1]: the state; never zero."""
    return np.array([(seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**64 | 1], np.uint64)


@kernel(GENERATOR, i8, returns=i8)
def below(state: Generator, n: int) -> int:
    """A number in 0..n-1 (xorshift64, Marsaglia 2003)."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return np.int64(((x >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))  # type: ignore[return-value]  # compiled


@kernel(GENERATOR, f8, returns=i8)
def allowed_loss(state: Generator, heat: float) -> int:
    """Metropolis acceptance, drawn before the change is known: accept a loss of at most this many points. `heat` <= HOTTEST."""
    return np.int64(heat * _EXPONENTIAL[below(state, 4096)])  # type: ignore[return-value]  # compiled
