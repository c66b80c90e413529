"""The name of a pool: safe in paths, partition keys and URLs, so it is checked before anything is made of it."""

from __future__ import annotations

import re

from pipeline_project.core.columns import shown
from pipeline_project.core.errors import Refused

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_name(name: str) -> str:
    """The name itself. Raises Refused when it is not one: `|`, for example, is what joins the dimensions of a partition key."""
    if not _NAME.fullmatch(name):
        raise Refused(f"pool name: expected 1 to 64 of A-Z a-z 0-9 _ -, found {shown(name)}")
    return name
