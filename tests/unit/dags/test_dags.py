"""The DAGs as Airflow reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wideloop.operators.steps.cycle_plan import Stage, cycle_stages, experts_stages
from wideloop.results.airflow_names import CYCLE, EXPERTS

DAGS = Path(__file__).parents[3] / "dags"
NAMES = [
    "wideep_benchmark",
    "wideep_cycle",
    "wideep_deploy",
    "wideep_experts",
    "wideep_image",
    "wideep_janitor",
    "wideep_preflight",
    "wideep_trial",
    "wideep_tune",
    "wideep_weights",
]
#: Each costs seconds wherever a DAG file or a trigger is loaded.
HEAVY = ["kubernetes", "kubernetes_asyncio", "pandas", "torch", "optuna", "plotly", "scipy", "sqlalchemy.orm", "aiperf"]

# Airflow reads its configuration when it is imported, so it gets a process and a home of its own.
READ = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])

def task(t):
    return {
        "rule": t.trigger_rule.value, "setup": t.is_setup, "teardown": t.is_teardown, "pool": t.pool,
        "retries": t.retries, "up": sorted(t.upstream_task_ids), "down": sorted(t.downstream_task_ids),
        "fails_run": getattr(t, "on_failure_fail_dagrun", False),
    }

def param(p):
    return {"value": p.resolve(), "description": p.description, **p.schema}

def dag(d):
    return {
        "tags": sorted(d.tags), "doc": d.doc_md, "paused": d.is_paused_upon_creation, "schedule": str(d.schedule),
        "catchup": d.catchup, "max_active_runs": d.max_active_runs, "timeout": d.dagrun_timeout is not None,
        "tasks": {t.task_id: task(t) for t in d.tasks},
        "params": {n: param(d.params.get_param(n)) for n in d.params},
    }

json.dump({"errors": bag.import_errors, "dags": {n: dag(d) for n, d in bag.dags.items()}}, open(sys.argv[2], "w"))
"""
LOADED = """
import json, sys
import airflow.sdk, airflow.triggers.base, airflow.providers.standard.triggers.external_task
before = set(sys.modules)
import wideloop.operators.airflow.triggers, wideloop.operators.airflow.benchmark, wideloop.operators.airflow.sweep
for file in sys.argv[1:]:
    exec(compile(open(file).read(), file, "exec"), {"__name__": "dag"})
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def run(script: str, home: Path, *arguments: object, **environment: str) -> str:
    environ = os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"} | environment
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    run(READ, home, DAGS, home / "dags.json")
    found: dict[str, Any] = json.loads((home / "dags.json").read_text())
    return found


@pytest.fixture(params=NAMES)
def dag(request: pytest.FixtureRequest, read: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = read["dags"][request.param]
    return {"name": request.param} | found


def test_all_nine_are_read_without_an_error(read: dict[str, Any]) -> None:
    assert read["errors"] == {}
    assert sorted(read["dags"]) == NAMES
    assert sorted(p.stem for p in DAGS.glob("*.py")) == NAMES


def test_it_ships_paused_tagged_documented_and_bounded(dag: dict[str, Any]) -> None:
    assert dag["paused"] is True  # unpausing a scheduled DAG starts a run at once
    assert dag["tags"] == ["wide-ep"]
    assert dag["doc"].strip()
    assert dag["timeout"]
    assert not dag["catchup"]


def test_only_the_cycle_and_the_janitor_are_scheduled(read: dict[str, Any]) -> None:
    schedules = {name: dag["schedule"] for name, dag in read["dags"].items() if dag["schedule"] != "None"}
    assert schedules == {"wideep_cycle": "@weekly", "wideep_janitor": "0:15:00"}


@pytest.mark.parametrize(("setting", "schedule"), [("0 3 * * 6", "0 3 * * 6"), ("", "None")])
def test_the_cycles_schedule_is_a_setting(tmp_path: Path, setting: str, schedule: str) -> None:
    run(READ, tmp_path, DAGS / "wideep_cycle.py", tmp_path / "dags.json", WIDELOOP_CYCLE_SCHEDULE=setting)
    found = json.loads((tmp_path / "dags.json").read_text())
    assert found["dags"]["wideep_cycle"]["schedule"] == schedule


def test_every_file_is_a_graph_and_not_a_program() -> None:
    for file in DAGS.glob("*.py"):
        assert len(file.read_text().splitlines()) < 100, file


def test_reading_dags_or_loading_a_trigger_imports_nothing_heavy(tmp_path: Path) -> None:
    loaded = json.loads(run(LOADED, tmp_path, *sorted(DAGS.glob("*.py"))).splitlines()[-1])
    assert "wideloop.operators.airflow.triggers" in loaded
    assert [m for m in loaded if any(m == h or m.startswith(f"{h}.") for h in HEAVY)] == []


def test_every_param_of_the_form_explains_itself_and_has_a_default_it_accepts(dag: dict[str, Any]) -> None:
    # That each default satisfies its schema was checked when it was resolved.
    for name, param in dag["params"].items():
        assert param.get("title") and param.get("section"), name
        assert (param["description"] or "").strip(), f"{dag['name']}.{name} has no help"
        assert param.get("type"), name


def test_the_cycle_takes_every_param_by_hand(read: dict[str, Any]) -> None:
    from wideloop.operators.request import DEFAULTS

    params = read["dags"]["wideep_cycle"]["params"]
    only_experts = {"eplb", "eplb_rebalance_iterations"}
    assert {n: p["value"] for n, p in params.items()} == {n: v for n, v in DEFAULTS.items() if n not in only_experts}
    assert only_experts <= read["dags"]["wideep_experts"]["params"].keys()
    for name in ("wideep_trial", "wideep_tune"):
        assert params.keys() <= read["dags"][name]["params"].keys()


def test_a_sweep_sets_only_what_a_trial_takes(read: dict[str, Any]) -> None:
    assert {"cycle_id", "image", "model_path", "repeat_of", "repeat"} <= read["dags"]["wideep_trial"]["params"].keys()


def test_what_is_applied_is_deleted_whatever_happens(dag: dict[str, Any]) -> None:
    tasks = dag["tasks"]
    setups = {n for n, t in tasks.items() if t["setup"]}
    teardowns = {n: t for n, t in tasks.items() if t["teardown"]}
    for name in setups:
        assert [n for n, t in teardowns.items() if name in t["up"]], f"{name} has no teardown"
    for name, teardown in teardowns.items():
        assert setups & set(teardown["up"]), f"{name} tears down what nobody set up"
        assert teardown["fails_run"], f"{name}: accelerators that were not given back must not look green"
        # Nothing that needs the deployment may still be running.
        group = name.rpartition(".")[0]
        users = [
            n
            for n in tasks
            if n.rpartition(".")[::2]
            in ((group, "benchmark"), (group, "collect_recordings"), (group, "examine_deployment"))
        ]
        assert set(users) <= set(teardown["up"])
    if dag["name"] == "wideep_deploy":  # which keeps what it deployed
        return
    for name in (n for n in tasks if n.rpartition(".")[2].startswith("apply")):
        assert setups & set(tasks[name]["up"]), f"{name} may leave something that no teardown deletes"


def test_a_setup_only_says_a_name_for_one_that_fails_keeps_its_teardown_from_running(dag: dict[str, Any]) -> None:
    for name, task in dag["tasks"].items():
        if task["setup"]:
            assert name.rpartition(".")[2] == "name_deployment"
            assert any(n.rpartition(".")[2].startswith("apply") for n in task["down"])


def test_waiting_for_accelerators_holds_a_slot_of_the_gpu_pool(dag: dict[str, Any]) -> None:
    for name, task in dag["tasks"].items():
        measures = name.rpartition(".")[2] == "benchmark"
        assert (task["pool"] == "wideep_gpu") or not measures, name


def test_a_run_in_which_something_failed_does_not_end_green(dag: dict[str, Any]) -> None:
    tasks = dag["tasks"]
    if dag["name"] in ("wideep_janitor", "wideep_preflight"):  # A chain: its last task decides.
        return
    last = "tell_study" if dag["name"] == "wideep_trial" else "close_cycle"
    assert tasks[last]["rule"] == "all_done"
    assert tasks[last]["down"] == []


def test_a_lost_worker_costs_a_retry(dag: dict[str, Any]) -> None:
    for name, task in dag["tasks"].items():
        assert task["retries"] >= 1, name


def test_the_deploy_dag_takes_down_by_the_same_form(read: dict[str, Any]) -> None:
    deploy = read["dags"]["wideep_deploy"]
    assert deploy["tasks"]["choose_action"]["down"] == ["check_request", "take_down_deployment"]
    assert deploy["tasks"]["delete_failed_deployment"]["rule"] == "one_failed"
    assert deploy["params"]["action"]["enum"] == ["up", "down"]


#: Tasks of the stages that are no task group and not called like their stage.
TASK_OF = {
    "request": "check_request", "image": "prepare_image", "weights": "prepare_weights", "experts": "place_experts",
    "comparison": "compare_experts",
}  # fmt: skip


def tasks_of(stage: Stage, tasks: dict[str, Any]) -> set[str]:
    if stage.deployment is not None:
        return {name for name in tasks if name.startswith(f"{stage.name}.")}
    return {TASK_OF.get(stage.name, stage.name)}


def upstream(name: str, tasks: dict[str, Any]) -> set[str]:
    direct = set(tasks[name]["up"])
    return direct.union(*(upstream(one, tasks) for one in direct))


@pytest.mark.parametrize(
    ("dag_id", "stages"), [(CYCLE, cycle_stages()), (EXPERTS, experts_stages(3))], ids=["cycle", "experts"]
)
def test_the_graph_is_the_plan_that_the_standalone_driver_walks(
    read: dict[str, Any], dag_id: str, stages: tuple[Stage, ...]
) -> None:
    tasks = read["dags"][dag_id]["tasks"]
    of = {stage.name: tasks_of(stage, tasks) for stage in stages}
    assert set().union(*of.values()) | {"close_cycle"} == set(tasks)
    for earlier, later in pairwise(stages):
        # An order that Airflow may choose: nothing of an earlier stage waits for a later one.
        assert not of[later.name] & set().union(*(upstream(task, tasks) for task in of[earlier.name]))
    for stage in stages:
        waits_for = set().union(*(upstream(task, tasks) for task in of[stage.name])) - of[stage.name]
        for need in stage.needs:
            assert of[need] & waits_for, f"{stage.name} does not wait for {need}"
    holding = [s.name for s in stages if s.deployment is not None or s.work in ("run_trials", "run_repeats")]
    for before, after in pairwise(holding):
        freed = {name for name in of[before] if tasks[name]["teardown"]} or of[before]
        first = {name for name in of[after] if not set(tasks[name]["up"]) & of[after]}
        assert all(freed <= upstream(task, tasks) for task in first), f"{after} takes what {before} still holds"


def test_the_proof_of_the_standalone_driver_changes_nothing_else_in_the_order() -> None:
    names = [stage.name for stage in cycle_stages(proves=True)]
    assert [n for n in names if n not in ("placed", "proof")] == [stage.name for stage in cycle_stages()]
    assert names.index("experts") < names.index("placed") < names.index("proof") < names.index("tune")
