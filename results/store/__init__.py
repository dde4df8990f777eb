"""The results store: records in, records out, SQLite or PostgreSQL behind it."""

from wideloop.results.store.store import Store

__all__ = ["Store"]
