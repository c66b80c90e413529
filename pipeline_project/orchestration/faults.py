"""What a check finds: sentences, each with the row it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

FAULTS_SHOWN: Final = 20


class Fault(str):
    """One thing that is wrong, in a sentence; its row has the columns of a table that a person reads beside it."""

    row: Mapping[str, Any]
    __slots__ = ("row",)

    def __new__(cls, sentence: str, /, **row: Any) -> Self:
        made = super().__new__(cls, sentence)
        made.row = row
        return made


Faults = Sequence[str]
"""A plain sentence will do where there is no row."""
