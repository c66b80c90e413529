"""Housekeeping: what has ended moves to history, audit months are detached, checks remember how far they came."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    for part in ("history", "audit_months", "bookkeeping"):
        connection.execute(Path(__file__).with_name(f"0004_{part}.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    raise RuntimeError("migrations only go forward: restore a backup instead")
