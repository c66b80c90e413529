"""Strict JSON in, canonical JSON out: what we accept, compare and hash is exactly what PostgreSQL's jsonb can hold."""

from __future__ import annotations

import json
import re
from typing import Any

DEPTH_LIMIT = 100
"""Levels of nesting. Python and PostgreSQL both recurse on the depth of a document; each gives up at another one."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # the escape itself, not a backslash that is followed by "u0000"


def decode(text: str) -> Any:
    """Parse JSON. Raises ValueError for anything that is not JSON, for a name that stands twice in one object, and for absurd nesting."""
    text = text.strip(" \t\r\n")
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels") from None
    if end != len(text):
        raise ValueError(f"more text after the end at character {end + 1}")
    return value


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted names, no white space, no escape that is not needed.

    Raises ValueError for what jsonb cannot hold: NUL, lone surrogates, NaN, infinity, more than DEPTH_LIMIT levels.
    Fractions are float64, as RFC 8259 advises.
    """
    try:
        text = _ENCODER.encode(value)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        raise ValueError("NaN or infinity, which are not JSON") from None
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("the character NUL (\\u0000)")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a lone surrogate, which is not Unicode text")
    if text.count("[") + text.count("{") > DEPTH_LIMIT and _depth(value) > DEPTH_LIMIT:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT} levels")
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python would keep the last of two equal names: the first would be lost silently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in found if names.count(name) > 1)!r:.80} twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _depth(value: Any) -> int:
    """Levels of lists and objects inside each other. Level by level, so that no document can exhaust the stack."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list | tuple)]:
        depth += 1
        level = [child for part in level for child in (part.values() if isinstance(part, dict) else part)]
    return depth
