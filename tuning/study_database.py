"""The database of studies: its URL, and the refusal of one that belongs to another program or to one process alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wideloop.manifests.errors import StoreUnavailable

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import URL, Engine

EXAMPLES = "sqlite:////absolute/path/studies.db or postgresql+psycopg://user:password@host:5432/studies"
#: Tables of Optuna's that no other program makes; with them the database is a study database.
_OPTUNA_TABLE, _VERSION_TABLE = "studies", "alembic_version"
#: Database errors for a table, or a row of its version, that another process has just created.
_MADE_BY_ANOTHER = ("already exists", "UNIQUE constraint", "unique constraint", "duplicate key")
_TRIES = 5
CONNECT_TIMEOUT_S, BUSY_TIMEOUT_S = 10, 60


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``; its tables are made where the database has none of another program.

    Raises:
        StoreUnavailable: the database cannot be used; says why and what would work.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    parsed = _parsed(url)
    try:
        engine = create_engine(parsed, **_options(parsed))
        try:
            _refuse_anothers(engine, _shown(parsed))
        finally:
            engine.dispose()
        return _storage(parsed)
    except ModuleNotFoundError as error:
        raise StoreUnavailable(
            f"study database {_shown(parsed)}: its driver is missing ({error}); install wideloop[postgres]"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise unavailable(parsed, error) from error


def unavailable(url: str | URL, error: Exception) -> StoreUnavailable:
    """The error for a database that answered with ``error``, in the database's words but without the password."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    text = " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__
    if parsed.password:
        text = text.replace(str(parsed.password), "***")
    return StoreUnavailable(f"study database {_shown(parsed)}: {text}. WIDELOOP_STUDY_URL takes {EXAMPLES}")


def _parsed(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The message does not repeat the URL: it may contain the password.
        raise StoreUnavailable(f"WIDELOOP_STUDY_URL cannot be read as a database URL; use {EXAMPLES}") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StoreUnavailable(f"study database {_shown(parsed)}: {parsed.drivername} is not supported; use {EXAMPLES}")
    if parsed.get_backend_name() == "sqlite" and _is_in_memory(parsed):
        raise StoreUnavailable(
            f"study database {_shown(parsed)}: it is in memory, so each task would see an empty study of its own; "
            f"set WIDELOOP_STUDY_URL to {EXAMPLES}"
        )
    return parsed


def _is_in_memory(url: URL) -> bool:
    database = url.database or ""
    return database in ("", ":memory:") or database.startswith("file::memory:") or url.query.get("mode") == "memory"


def _refuse_anothers(engine: Engine, shown: str) -> None:
    """Refuse a database in which another program keeps its version: Optuna would add tables to it and then fail.

    Raises:
        StoreUnavailable: the database has a table of versions but none of studies.
    """
    from sqlalchemy import inspect

    names = set(inspect(engine).get_table_names())
    if _VERSION_TABLE in names and _OPTUNA_TABLE not in names:
        others = sorted(names - {_VERSION_TABLE})
        owner = "Airflow" if "dag_run" in names else "MLflow" if "experiments" in names else "another program"
        tables = f" (it has {', '.join(others[:3])} and {len(others)} tables in all)" if others else ""
        raise StoreUnavailable(
            f"study database {shown} belongs to {owner}: its table {_VERSION_TABLE} is not Optuna's{tables}. "
            f"Set WIDELOOP_STUDY_URL to a database of its own: {EXAMPLES}"
        )


def _storage(url: URL) -> optuna.storages.RDBStorage:
    """Optuna's storage. Processes that create its tables at the same time may be refused; a retry finds the tables."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    text = url.render_as_string(hide_password=False)
    for left in reversed(range(_TRIES)):
        try:
            return optuna.storages.RDBStorage(text, engine_kwargs=_options(url))
        except DatabaseError as error:
            if not left or not any(sign in str(error) for sign in _MADE_BY_ANOTHER):
                raise
        except RuntimeError as error:
            # Optuna's words for a table of versions that it did not write.
            raise StoreUnavailable(f"study database {_shown(url)}: {error}. Use {EXAMPLES}") from error
    raise AssertionError("unreachable")


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S}}


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)
