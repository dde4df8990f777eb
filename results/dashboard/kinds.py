"""The kind of a run, by its DAG. It selects the headline of the run's page and the sections that the page has."""

from __future__ import annotations

from typing import Literal

from wideloop.results.airflow_names import BENCHMARK, CYCLE, EXPERTS, TRIAL, TUNE

Kind = Literal["cycle", "sweep", "trial", "benchmark", "experts", "stages"]

#: The only DAG that recommends a configuration.
CYCLE_DAG = CYCLE
_KINDS: dict[str, Kind] = {
    CYCLE_DAG: "cycle",
    TUNE: "sweep",
    TRIAL: "trial",
    BENCHMARK: "benchmark",
    EXPERTS: "experts",
}


def kind_of(dag_id: str) -> Kind:
    """The kind of ``dag_id``'s runs; ``stages`` for those that measure nothing (image, weights, deploy)."""
    return _KINDS.get(dag_id, "stages")
