"""Trials and measurements of the results store as DataFrames, for notebooks and for files of other tools.

Both frames have one row per record, the column ``simulated``, and times in UTC. A field that holds several values is
one column per value, with a dot: ``knobs.decode.mem_fraction_static``. A value that is unknown is missing (NaN, NA).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wideloop.manifests.errors import WideloopError
from wideloop.results.records import Measurement, Trial
from wideloop.results.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Format = Literal["csv", "parquet"]

#: Columns of integers that may be unknown; pandas' own integers cannot be.
_NULLABLE_INTEGERS = ("trial_number", "concurrency")
_TIMES = ("started_at", "ended_at")


class MissingLibrary(WideloopError):
    """A library that only some installations have is needed; the text says how to install it."""


def trials(store: Store, cycle_id: str | None = None) -> DataFrame:
    """One row per trial of a cycle, or of all cycles, by study and number.

    Columns and units:
        study, number, cycle_id, dag_run_id, simulated, is_default, deployment, state, reason: what was tried, and
            how it ended.
        value: the objective, output tokens/s per GPU of the whole deployment; missing without a measurement.
        concurrency: requests in flight at which ``value`` was measured.
        knobs.ROLE.NAME: the configuration; mem_fraction_static is a share of GPU memory (0 to 1),
            redundant_experts counts slots of the whole deployment, cuda_graph_max_bs requests per rank,
            chunked_prefill_size tokens.
        point.NAME: the sampler's coordinates of the same configuration.
        constraints.NAME: by how much a limit is exceeded, relative to it (oom_gb: GiB per GPU); <= 0 is met.
        gpu_seconds: GPUs of the deployment x seconds that the trial held them.
        phases.NAME: seconds per phase.
        started_at, ended_at: UTC.

    Example:
        >>> frame = trials(store)
        >>> frame[frame.state == "complete"].groupby("cycle_id").value.max()
    """
    simulated = {cycle.cycle_id: cycle.simulated for cycle in store.cycles(limit=None)}
    rows = [trial.model_dump() | {"simulated": simulated[trial.cycle_id]} for trial in store.trials(cycle_id=cycle_id)]
    return _frame(rows, [name for name in Trial.model_fields if name not in _NESTED] + ["simulated"])


def measurements(store: Store, cycle_id: str | None = None) -> DataFrame:
    """One row per measured level of concurrency of a cycle, or of all cycles, in the order of measuring.

    Columns and units:
        All fields of :class:`~wideloop.results.records.Measurement`: rates per second over the plateau, latencies
        in milliseconds (``*_ms_*``), lengths in tokens (isl, osl, osl_mean), duration_s in seconds.
        output_tok_s_se: standard error of output_tok_s within the run, tokens/s.
        output_tok_s_per_gpu: output tokens/s per GPU of the whole deployment.
        tok_s_per_user: output tokens/s that one user sees, 1000 / tpot_ms_mean.
        gpu_power_w, output_tok_per_joule: of all GPUs of the deployment; missing where GPUs were not sampled.
        telemetry.NAME: fields of :class:`~wideloop.results.telemetry.LevelTelemetry`, where GPUs were sampled.
        error_rate: share of the requests that failed, 0 to 1.
        valid: every gate passed; gates_failed: names of those that did not, with "; " between them.

    Example:
        >>> frame = measurements(store, "cycle-7")
        >>> frame[frame.valid].plot.scatter("tok_s_per_user", "output_tok_s_per_gpu")
    """
    fields = [name for name in Measurement.model_fields if name not in ("gates", "telemetry")]
    return _frame([_row(m) for m in store.measurements(cycle_id=cycle_id)], [*fields, *_DERIVED])


def write(frame: DataFrame, file: Path, form: Format) -> None:
    """Write ``frame`` to ``file`` as CSV or Parquet.

    Raises:
        MissingLibrary: Parquet is asked for, and pyarrow is not installed.
    """
    if form == "csv":
        frame.to_csv(file, index=False)
        return
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingLibrary(
            "Parquet files need pyarrow, which is not installed: install wideloop[parquet], or use the format csv"
        ) from error
    frame.to_parquet(file, index=False, engine="pyarrow")


#: Fields of a trial that become one column per value.
_NESTED = ("knobs", "point", "constraints", "phases")
#: Properties of a measurement that become columns; ``gates_failed`` stands for the nested gates.
_DERIVED = ("output_tok_s_per_gpu", "tok_s_per_user", "error_rate", "valid", "gates_failed")


def _row(measurement: Measurement) -> dict[str, Any]:
    derived = {name: getattr(measurement, name) for name in _DERIVED if name != "gates_failed"}
    failed = "; ".join(gate.name for gate in measurement.gates if not gate.ok)
    nested = {"gates"} if measurement.telemetry else {"gates", "telemetry"}
    return measurement.model_dump(exclude=nested) | derived | {"gates_failed": failed}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """The rows with nested values flattened; ``columns`` come first and are there without any row too."""
    import pandas as pd

    flat = pd.json_normalize([dict(row) for row in rows], sep=".")
    frame = flat.reindex(columns=[*columns, *(name for name in flat.columns if name not in columns)])
    for name in frame.columns:
        if name in _TIMES:
            frame[name] = pd.to_datetime(frame[name], utc=True)
        elif name in _NULLABLE_INTEGERS:
            frame[name] = frame[name].astype("Int64")
        elif _is_mixed(frame[name]):
            frame[name] = frame[name].map(_as_text, na_action="ignore")
    return frame


def _is_mixed(column: Series) -> bool:
    """Whether a column holds lists, or text beside numbers: Parquet takes neither."""
    types = set(column.dropna().map(type))
    return bool(types & {list, tuple}) or (str in types and len(types) > 1)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
