"""The results store: records in, records out, SQLite or PostgreSQL behind it."""

from results.store.store import Store

__all__ = ["Store"]
