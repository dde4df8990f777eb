"""Connections to the results database: its URL, SQLite's pragmas, transactions, and errors as users read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from wideloop.manifests.errors import StoreUnavailable

#: Seconds that a writer waits for another one (SQLite), and that a connection attempt may take (PostgreSQL).
BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
EXAMPLES = "sqlite:////absolute/path/results.db or postgresql+psycopg://user:password@host:5432/results"
#: Query parameters of a PostgreSQL URL that are secrets, besides its password.
_SECRET_PARAMETERS = frozenset({"password", "passfile", "sslpassword"})


def parse(url: str) -> URL:
    """``url`` with its driver made explicit.

    Raises:
        StoreUnavailable: ``url`` is not a URL, or names a database that is not supported.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The message does not repeat the URL: it may contain the password.
        raise StoreUnavailable(f"the results database's URL cannot be read; use {EXAMPLES}") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StoreUnavailable(
            f"results database {shown(parsed)}: {parsed.drivername} is not supported; use {EXAMPLES}"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreUnavailable(
            f"results database {shown(parsed)}: it is in memory and would be lost with the process; use {EXAMPLES}"
        )
    return parsed


def shown(url: URL) -> str:
    """``url`` without its secrets, for messages."""
    return url.difference_update_query(_SECRET_PARAMETERS).render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """An engine for ``url``; opens no connection yet. Creates the folder of an SQLite file."""
    # allow_nan=False: JSON has no NaN, and PostgreSQL refuses it only later and less clearly.
    options: dict[str, Any] = {"json_serializer": partial(json.dumps, allow_nan=False)}
    if url.get_backend_name() == "postgresql":
        options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S}}
        return create_engine(url, **options)
    try:
        if not str(url.database).startswith("file:"):  # A URI of SQLite's: its folder is not created.
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"results database {shown(url)}: {error}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, **options)
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """One transaction; errors of the database are raised as :class:`StoreUnavailable`.

    Raises:
        StoreUnavailable: cannot connect, read or write.
        IntegrityError: the data break a constraint; only the caller can say which record is wrong.
    """
    try:
        with engine.connect().execution_options(wideloop_write=write) as connection, connection.begin():
            yield connection
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise StoreUnavailable(f"results database {shown(engine.url)}: {_reason(error, engine.url)}") from error
    except ModuleNotFoundError as error:
        raise StoreUnavailable(
            f"results database {shown(engine.url)}: its driver is missing ({error}); install wideloop[postgres]"
        ) from error


def _reason(error: DBAPIError, url: URL) -> str:
    text = " ".join(str(error.orig).split()) or type(error.orig).__name__
    return text.replace(str(url.password), "***") if url.password else text


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    # Otherwise Python's sqlite3 begins transactions itself: too late for DDL, and never with the writer's lock.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _on_sqlite_begin(connection: Connection) -> None:
    # A writer takes the lock at once: SQLite refuses a reader that becomes a writer without waiting for the lock.
    write = connection.get_execution_options().get("wideloop_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
