"""Run by Alembic for every command; the caller (`store.database.migrate`) hands its open connection over."""

from alembic import context

# One transaction for all revisions, begun by the caller: a failed migration leaves nothing behind on either database.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
