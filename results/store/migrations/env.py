"""Alembic's entry point. The connection, with its lock and its transaction, comes from ``migrate``."""

from alembic import context
from wideloop.results.store.migrate import VERSION_TABLE
from wideloop.results.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
