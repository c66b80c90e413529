"""Where somebody stands in the feed: behind one row, in the order in which transactions ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from pipeline_project.core.errors import UsageError

_TEXT: Final = re.compile(r"([0-9]{1,20})/(-?[0-9]{1,19})")
_SEQ_MIN, _SEQ_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The row a reader is done with.

    xid  the row's transaction, as PostgreSQL numbers them for the whole server: 64 bits, never used again
    seq  the row's number; those of pool events are negative, so that they come first in their transaction
    """

    xid: int
    seq: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read what `str` writes. Raises UsageError for anything else."""
        found = _TEXT.fullmatch(text)
        if found is None or int(found[1]) >= 2**64 or not _SEQ_MIN <= int(found[2]) <= _SEQ_MAX:
            raise UsageError(f"position: expected XID/SEQ as `pipeline feed read` gives it, such as 7421/1093, found {text!r}")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def before(cls, xid: int) -> Self:
        """Behind everything of earlier transactions."""
        return cls(xid - 1, _SEQ_MAX) if xid else START  # type: ignore[return-value]  # START is one of ours

    def __str__(self) -> str:
        return f"{self.xid}/{self.seq}"


START: Final = Position(0, _SEQ_MIN)
"""Before everything."""
