"""A point that the engine is certain to refuse is infeasible without a deployment, and says nothing about memory."""

from __future__ import annotations

from pathlib import Path

from wideloop.operators.request import Request
from wideloop.operators.steps import trial
from wideloop.operators.steps.plan import open_study, plan
from wideloop.operators.steps.run import Run, open_store

CYCLE = Run(dag_id="wideep_cycle", run_id="manual__1")
TRIAL = Run(dag_id="wideep_trial", run_id="t", for_cycle=CYCLE.cycle_id)
#: DeepEP's low-latency mode dispatches 1024 tokens per rank at most.
PARAMS = {
    "target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-32",
    "max_graph_bs": 2048,
}  # fmt: skip


def test_it_is_told_and_finished_and_the_next_point_is_asked(wideloop_home: Path) -> None:
    plan(PARAMS, CYCLE, sweeps=True, records=True)
    study = open_study(Request.from_params(PARAMS), CYCLE)
    study.enqueue({"redundant_slots": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 1500}, "too large")
    asked = trial.ask(PARAMS, TRIAL)
    assert asked.finished and asked.point["cuda_graph_max_bs"] == 1500
    with open_store() as store:
        (record,) = store.trials(study=CYCLE.cycle_id)
    assert record.state == "infeasible" and "at most 1024 tokens per rank" in record.reason
    assert trial.ask(PARAMS, TRIAL) == asked, "a retry of the task gets the same trial"
    again = trial.ask(PARAMS, TRIAL.model_copy(update={"run_id": "u"}))
    assert again.number != asked.number


def test_a_point_that_can_run_is_deployed(wideloop_home: Path) -> None:
    plan(PARAMS, CYCLE, sweeps=True)
    study = open_study(Request.from_params(PARAMS), CYCLE)
    study.enqueue({"redundant_slots": 0, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 64}, "small")
    assert not trial.ask(PARAMS, TRIAL).finished
