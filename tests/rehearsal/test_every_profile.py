"""Each main DAG on each published profile of DeepSeek-R1, with the real engine's manifests: ``make rehearsal``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wideloop.results.airflow_names import GPU_POOL

from tests.airflow_server import AirflowServer
from tests.cluster.cluster import wait_for
from tests.cluster.place import Place
from tests.cluster.rehearsal.place import PROFILES, params

#: What a DAG takes besides place, load and knobs.
DAGS = {
    "wideep_deploy": {"keep_hours": 1},
    "wideep_benchmark": {},
    "wideep_experts": {},
    "wideep_cycle": {"trials": 2, "repeats": 1},
}
#: Parameters of a load, which wideep_deploy does not take.
LOAD = ("isl", "osl", "concurrency", "requests_per_slot", "warmup_requests")
LIMIT_S = 1200


@pytest.mark.parametrize("hardware", PROFILES)
@pytest.mark.parametrize("dag", DAGS)
def test_a_run_ends_well_and_is_marked_as_simulated(
    airflow: AirflowServer, home: Place, add_nodes: Callable[[str], list[str]], dag: str, hardware: str
) -> None:
    add_nodes(hardware)
    airflow.wait("wideep_deploy", "first", LIMIT_S)
    airflow.api.set_pool(GPU_POOL, 1, "one rehearsal after the other")
    run = airflow.run(dag, **_params(dag, hardware))
    airflow.wait(dag, run, LIMIT_S)
    with airflow.store() as store:
        cycle = next(c for c in store.cycles(limit=None) if (c.dag_id, c.dag_run_id) == (dag, run))
        measurements = store.measurements(cycle_id=cycle.cycle_id)
    assert (cycle.state, cycle.engine, cycle.simulated) == ("success", "dynamo-sglang", True)
    assert all(m.simulated for m in measurements)
    assert bool(measurements) == (dag != "wideep_deploy")
    for deployment in _deployments(home):
        down = airflow.run("wideep_deploy", target="dynamo", action="down", deployment=deployment)
        airflow.wait("wideep_deploy", down, LIMIT_S)
    wait_for(lambda: home.left() == [], 120, "nothing is left")


def _params(dag: str, hardware: str) -> dict[str, object]:
    values = params(hardware) | DAGS[dag]
    needless = {"trials", "repeats"} - DAGS[dag].keys() | (set(LOAD) if dag == "wideep_deploy" else set())
    return {name: value for name, value in values.items() if name not in needless}


def _deployments(home: Place) -> list[str]:
    names = home.kubectl("get", "dynamographdeployments", "-o", "name").split()
    return [name.rpartition("/")[2] for name in names]
