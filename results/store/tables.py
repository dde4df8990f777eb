"""The tables of the results store. A column has the name of the record's field.

Scalar fields are columns, so that plain SQL can query them; nested fields are JSON. Every table has the prefix
``wideloop_``: Airflow has a table ``asset``, and Optuna a table ``trials``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC; in SQLite, which has no time zones, as naive UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class KeyNumber(TypeDecorator[int]):
    """An integer >= 0 or None as part of a key. None is stored as -1: NULLs never equal, so a retry would add rows."""

    impl = Integer
    cache_ok = True
    _none = -1

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int:  # noqa: ARG002
        return self._none if value is None else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value == self._none else value


def _cycle_id(*, primary_key: bool = False) -> Column[str]:
    return Column(
        "cycle_id",
        String(250),
        ForeignKey("wideloop_cycle.cycle_id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
        index=not primary_key,
    )


cycle = Table(
    "wideloop_cycle",
    metadata,
    Column("cycle_id", String(250), primary_key=True),
    Column("dag_id", String(250), nullable=False),
    Column("dag_run_id", String(250), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("engine", String(100), nullable=False),
    Column("target", String(100), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("model", Text, nullable=False),
    Column("hardware", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("study", String(250), nullable=False),
    Column("planned_trials", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("ended_at", UtcDateTime),
    Column("warnings", JSON, nullable=False, server_default="[]"),
)

stage = Table(
    "wideloop_stage",
    metadata,
    _cycle_id(primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("detail", Text, nullable=False),
    Column("gpu_seconds", Float),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

trial = Table(
    "wideloop_trial",
    metadata,
    Column("study", String(250), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _cycle_id(),
    Column("dag_run_id", String(250), nullable=False),
    Column("point", JSON, nullable=False),
    Column("knobs", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("value", Float),
    Column("concurrency", Integer),
    Column("constraints", JSON, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("deployment", String(100), nullable=False, server_default=""),
    Column("gpu_seconds", Float, nullable=False),
    Column("phases", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

measurement = Table(
    "wideloop_measurement",
    metadata,
    _cycle_id(primary_key=True),
    Column("purpose", String(20), primary_key=True),
    Column("label", String(200), primary_key=True),
    Column("trial_number", KeyNumber, primary_key=True, autoincrement=False),
    Column("repeat", Integer, primary_key=True, autoincrement=False),
    Column("concurrency", Integer, primary_key=True, autoincrement=False),
    Column("spec_fingerprint", String(64), nullable=False, index=True),
    Column("image", Text, nullable=False),
    Column("engine", String(100), nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("workload_fingerprint", String(64), nullable=False),
    Column("isl", Integer, nullable=False),
    Column("osl", Integer, nullable=False),
    Column("gpus", Integer, nullable=False),
    Column("decode_gpus", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("output_tok_s", Float, nullable=False),
    Column("output_tok_s_se", Float),
    Column("input_tok_s", Float, nullable=False),
    Column("request_s", Float, nullable=False),
    Column("ttft_ms_mean", Float, nullable=False),
    Column("ttft_ms_p50", Float, nullable=False),
    Column("ttft_ms_p99", Float, nullable=False),
    Column("tpot_ms_mean", Float, nullable=False),
    Column("tpot_ms_p50", Float, nullable=False),
    Column("tpot_ms_p99", Float, nullable=False),
    Column("request_ms_mean", Float, nullable=False),
    Column("request_ms_p99", Float, nullable=False),
    Column("osl_mean", Float, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("gates", JSON, nullable=False),
    Column("artefact", Text, nullable=False),
    Column("gpu_power_w", Float),
    Column("output_tok_per_joule", Float),
    # none_as_null: a missing document is SQL's NULL, as in rows of older versions, and not JSON's.
    Column("telemetry", JSON(none_as_null=True)),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
)

recommendation = Table(
    "wideloop_recommendation",
    metadata,
    _cycle_id(primary_key=True),
    Column("study", String(250), nullable=False),
    Column("trial_number", Integer, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("knobs", JSON, nullable=False),
    Column("default_knobs", JSON, nullable=False),
    Column("gain", Float, nullable=False),
    Column("gain_low", Float, nullable=False),
    Column("gain_high", Float, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("pairs", Integer, nullable=False),
    Column("slo_met", Boolean, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

recording = Table(
    "wideloop_recording",
    metadata,
    _cycle_id(primary_key=True),
    Column("role", String(20), primary_key=True),
    Column("simulated", Boolean, nullable=False),
    Column("artefact", Text, nullable=False),
    Column("layers", Integer, nullable=False),
    Column("experts", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("ep", Integer, nullable=False),
    Column("balancedness", Float, nullable=False),
    Column("balancedness_placed", Float),
    Column("created_at", UtcDateTime, nullable=False),
)

asset = Table(
    "wideloop_asset",
    metadata,
    Column("kind", String(20), primary_key=True),
    Column("key", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("verified_at", UtcDateTime, nullable=False),
)
