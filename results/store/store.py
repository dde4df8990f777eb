"""The public class of the results store: it writes and reads records."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Engine, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from wideloop.results.records import Asset, Cycle, Measurement, Purpose, Recommendation, Recording, Stage, Trial
from wideloop.results.store import tables
from wideloop.results.store.engine import connect, parse, shown, transaction
from wideloop.results.store.migrate import migrate

R = TypeVar("R", bound=BaseModel)

_TABLES: dict[type[BaseModel], Table] = {
    Cycle: tables.cycle,
    Stage: tables.stage,
    Trial: tables.trial,
    Measurement: tables.measurement,
    Recommendation: tables.recommendation,
    Recording: tables.recording,
    Asset: tables.asset,
}
Record = Cycle | Stage | Trial | Measurement | Recommendation | Recording | Asset


class Store:
    """The results database. A record replaces the one with the same key, so a retry may write it again.

    Keys: cycle (cycle_id), stage (cycle_id, name), trial
    (study, number), measurement (cycle_id, purpose, label, trial_number, repeat, concurrency),
    recommendation (cycle_id), recording (cycle_id, role), asset (kind, key).

    Every method raises :class:`~wideloop.manifests.errors.StoreUnavailable` if the database cannot be used.

    Example:
        >>> with Store.open("sqlite:////var/lib/wideloop/results.db") as store:
        ...     store.put(cycle)
        ...     store.trials(cycle_id=cycle.cycle_id)
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """Connect to ``url`` and upgrade its schema; a missing SQLite file is created.

        Raises:
            StoreUnavailable: unreachable, not writable, not upgradable, or not a supported URL.
        """
        engine = connect(parse(url))
        try:
            migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def url(self) -> str:
        """The database's URL without the password."""
        return shown(self._engine.url)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, *records: Record) -> None:
        """Insert or replace ``records`` in this order, in one transaction.

        Raises:
            LookupError: a record belongs to a cycle that is not in the store; put the cycle first.
        """
        try:
            with transaction(self._engine, write=True) as connection:
                for record in records:
                    connection.execute(self._upsert(record))
        except IntegrityError as error:
            raise LookupError(
                f"one of {', '.join(sorted({type(r).__name__ for r in records}))} belongs to a cycle that is not in"
                f" {self.url}; put the Cycle first ({error.orig})"
            ) from error

    def cycles(self, limit: int | None = 50, *, dag_id: str | None = None) -> list[Cycle]:
        """The newest cycles first, of one DAG or of all; all of them without a limit."""
        table = tables.cycle
        conditions = _given((table.c.dag_id, dag_id))
        return self._read(Cycle, *conditions, order=[table.c.started_at.desc(), table.c.cycle_id.desc()], limit=limit)

    def cycle(self, cycle_id: str) -> Cycle | None:
        return self._one(Cycle, tables.cycle.c.cycle_id == cycle_id)

    def stages(self, cycle_id: str) -> list[Stage]:
        """The stages of a cycle in the order of their beginning."""
        table = tables.stage
        return self._read(Stage, table.c.cycle_id == cycle_id, order=[table.c.started_at, table.c.name])

    def trials(self, *, study: str | None = None, cycle_id: str | None = None) -> list[Trial]:
        """The trials of a study, of a cycle, or of both, by number."""
        table = tables.trial
        conditions = _given((table.c.study, study), (table.c.cycle_id, cycle_id))
        return self._read(Trial, *conditions, order=[table.c.study, table.c.number])

    def measurements(
        self,
        *,
        cycle_id: str | None = None,
        purpose: Purpose | None = None,
        trial_number: int | None = None,
    ) -> list[Measurement]:
        """The measurements of a cycle, or of all cycles, in the order of measuring."""
        table = tables.measurement
        conditions = _given(
            (table.c.cycle_id, cycle_id), (table.c.purpose, purpose), (table.c.trial_number, trial_number)
        )
        return self._read(Measurement, *conditions, order=[table.c.started_at, table.c.concurrency])

    def recommendation(self, cycle_id: str) -> Recommendation | None:
        return self._one(Recommendation, tables.recommendation.c.cycle_id == cycle_id)

    def recordings(self, cycle_id: str) -> list[Recording]:
        table = tables.recording
        return self._read(Recording, table.c.cycle_id == cycle_id, order=[table.c.role])

    def identity(self) -> str:
        """A permanent name of this store, 8 hex digits, created at the first call."""
        table = tables.asset
        created = {"kind": "installation", "key": "id", "value": secrets.token_hex(4), "detail": {}}
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)
        with transaction(self._engine, write=True) as connection:
            connection.execute(insert.values(verified_at=datetime.now(UTC), **created).on_conflict_do_nothing())
            name = select(table.c.value).where(table.c.kind == "installation", table.c.key == "id")
            return str(connection.execute(name).scalar_one())

    def asset(self, kind: str, key: str) -> Asset | None:
        table = tables.asset
        return self._one(Asset, table.c.kind == kind, table.c.key == key)

    def assets(self) -> list[Asset]:
        """The verified images and model caches, the newest first."""
        table = tables.asset
        verified = table.c.kind.in_(("image", "weights"))
        return self._read(Asset, verified, order=[table.c.verified_at.desc(), table.c.kind, table.c.key])

    def _upsert(self, record: Record) -> Any:
        table = _TABLES[type(record)]
        values = record.model_dump(mode="python")
        # Both dialects have the same syntax for it, but SQLAlchemy has no common construct.
        insert = (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table).values(values)
        keys = [c.name for c in table.primary_key]
        changed = {name: insert.excluded[name] for name in values if name not in keys}
        return insert.on_conflict_do_update(index_elements=keys, set_=changed)

    def _one(self, record: type[R], *conditions: ColumnElement[bool]) -> R | None:
        return next(iter(self._read(record, *conditions, limit=1)), None)

    def _read(
        self,
        record: type[R],
        *conditions: ColumnElement[bool],
        order: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[R]:
        query = select(_TABLES[record]).where(*conditions).order_by(*order).limit(limit)
        with transaction(self._engine, write=False) as connection:
            return [record.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def _given(*pairs: tuple[ColumnElement[Any], Any]) -> list[ColumnElement[bool]]:
    return [column == value for column, value in pairs if value is not None]
