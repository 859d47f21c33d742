"""Alembic's entry point; the connection is handed in by `nas.stores.sql.migrate`."""

from alembic import context

from nas.stores.sql.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
