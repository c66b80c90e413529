"""Times as Python can say them: PostgreSQL knows infinity and years beyond 9999, and a lease or a source may hold one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import TimestamptzLoader

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)


class BoundedTimes(TimestamptzLoader):
    """What Python cannot say is the first or last moment that it can. The driver raises, and then one such row hides all the others."""

    def load(self, data: Buffer) -> datetime:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        try:
            return super().load(data)  # another DateStyle is refused there
        except psycopg.DataError:
            return EARLIEST if text.startswith("-") or text.endswith("BC") else LATEST
