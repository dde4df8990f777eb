"""Upgrade a results database to the newest schema; several processes may do so at the same time."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError
from wideloop.manifests.errors import StoreUnavailable
from wideloop.results.store.engine import BUSY_TIMEOUT_S, shown, transaction

#: The newest revision in ``migrations/versions``; a test compares the two. It is repeated here so that opening a
#: database that is up to date does not import Alembic.
HEAD = "0005"
#: Not Alembic's default name, which Airflow and Optuna use: they may share the database.
VERSION_TABLE = "wideloop_alembic_version"
_SCRIPTS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x77696465_6C6F6F70 % 2**63  # "wideloop"


def migrate(engine: Engine) -> None:
    """Upgrade to :data:`HEAD` and check that the database can be written.

    Raises:
        StoreUnavailable: unreachable, not writable, or written by a newer version of wideloop.
    """
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    with transaction(engine, write=True) as connection:
        if _revision(connection) == HEAD:
            _check_writable(connection)
            return
        _lock(connection)
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _check_writable(connection: Connection) -> None:
    """Raise now; otherwise the first write fails, after the first benchmark."""
    if connection.dialect.name == "sqlite":
        # A write transaction that begins proves nothing: on a read-only file, SQLite begins a reading one.
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = version_num"))
        return
    allowed = connection.execute(
        text(
            "SELECT has_table_privilege('wideloop_cycle', 'INSERT, UPDATE')"
            " AND NOT current_setting('transaction_read_only')::boolean"
        )
    ).scalar()
    if not allowed:
        url = shown(connection.engine.url)
        raise StoreUnavailable(
            f"results database {url}: read-only for this user; grant INSERT and UPDATE on its tables"
        )


def _use_wal(engine: Engine) -> None:
    """Switch to WAL mode, in which readers do not wait for writers.

    When two processes switch at the same time, SQLite answers 'locked' to one of them at once, so that one retries.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection = engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            return
        except Exception as error:
            if "locked" in str(error) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise StoreUnavailable(f"results database {shown(engine.url)}: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _lock(connection: Connection) -> None:
    """Let one process migrate at a time. SQLite's writer lock is held already; PostgreSQL gets an advisory lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        url = shown(connection.engine.url)
        raise StoreUnavailable(
            f"results database {url}: cannot be migrated ({error});"
            f" it was made by another version of wideloop than this one, whose newest revision is {HEAD}"
        ) from error
