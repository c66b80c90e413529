"""Alembic's entry: runs the migrations on the connection that `store.schema` hands over. No ini file, no offline mode."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema="pipeline",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
