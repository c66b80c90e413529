"""How the hot loops are compiled: for fixed types, and cached under a fingerprint of everything they are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

Loop = TypeVar("Loop", bound=Callable[..., Any])


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        text = source.read_bytes()
        if b"@kernel(" in text:
            digest.update(source.name.encode() + b"\0" + text)
    return digest.hexdigest()[:16]


# numba notices a change in the file of a loop, but not one in the files of the loops that it calls: a stale machine code would
# answer wrongly without a word. One folder per fingerprint rules that out. Where it cannot be written, numba finds a place of its own.
CACHE = Path(numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__") / f"kernels-{_fingerprint()}"
numba.config.CACHE_DIR = str(CACHE)

flag = numba.types.boolean
i4 = numba.types.int32
i8 = numba.types.int64
f4 = numba.types.float32
f8 = numba.types.float64


def record(of: type[tuple[Any, ...]], fields: tuple[object, ...]) -> Any:
    """The numba type of a NamedTuple with these field types: how a loop takes many arrays under their names."""
    return numba.types.BaseTuple.from_types(fields, of)


LOOPS: list[tuple[Any, Any]] = []  # every loop with its declared types, inner ones first: what `compile` has to do


def kernel(*signature: object, returns: object = numba.types.void) -> Callable[[Loop], Loop]:
    """Compile for exactly these argument types, at set-up; loaded from the cache when first called, so that starting costs nothing.

    So a loop stands below the loops that it calls. No fast-math and no parallel sums: the same input gives the same bits on every
    machine. The interpreter lock is released. Raises TypeError for arguments of other types: nobody shall wait for a compiler.
    """
    declared = numba.core.typing.signature(returns, *signature)

    def compiled(loop: Loop) -> Loop:
        dispatcher = numba.njit(nogil=True, cache=True, error_model="numpy")(loop)
        LOOPS.append((dispatcher, declared))

        def load(*arguments: object) -> Callable[..., Any]:
            if dispatcher.signatures:
                found = ", ".join(str(numba.typeof(argument)) for argument in arguments)
                raise TypeError(f"{loop.__name__}: expected {declared.args}, found ({found})")
            dispatcher.compile(declared)
            return cast("Callable[..., Any]", dispatcher)  # which looks again whether the arguments fit

        dispatcher._compile_for_args = load  # what numba asks for code when it knows none for the arguments
        return cast("Loop", dispatcher)

    return compiled


def get_ready() -> None:
    """Load what every loop needs, once for each process: half a second that else the first call would take."""
    numba.core.registry.cpu_target.target_context.refresh()
