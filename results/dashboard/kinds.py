"""What a run of each DAG is for: it decides what its page says first and which of its parts make sense."""

from __future__ import annotations

from typing import Literal

Kind = Literal["cycle", "sweep", "trial", "benchmark", "experts", "stages"]

#: The only DAG that recommends a configuration.
CYCLE_DAG = "wideep_cycle"
_KINDS: dict[str, Kind] = {
    CYCLE_DAG: "cycle",
    "wideep_tune": "sweep",
    "wideep_trial": "trial",
    "wideep_benchmark": "benchmark",
    "wideep_experts": "experts",
}


def kind_of(dag_id: str) -> Kind:
    """The kind of ``dag_id``'s runs; ``stages`` for those that measure nothing (image, weights, deploy)."""
    return _KINDS.get(dag_id, "stages")
