"""Record which experts a workload uses, place them accordingly, and measure in turns what that is worth."""

import os
from datetime import timedelta

from airflow.sdk import dag
from wideloop.operators.airflow import groups, params, tasks
from wideloop.results.experts.comparison import IN_ORDER, PLACED

#: Deployments of each side. The first pair is examined; an interval of the gain needs two, a useful one three.
PAIRS = max(int(os.environ.get("WIDELOOP_EXPERT_PAIRS", "3")), 1)


@dag(
    dag_id="wideep_experts",
    schedule=None,
    params=params.where() | params.workload() | params.knobs() | params.recorder() | params.eplb(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(days=2),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_experts() -> None:
    planned, image, weights = tasks.plan(records=True), tasks.image(), tasks.weights()
    planned >> image >> weights
    # Recording on both sides, so that the recorder's own cost is in neither's favour.
    before = groups.measured("recorded", "experts", IN_ORDER, image, weights, record=True, collect="examination")
    placed = tasks.place_experts(before.collected["recordings"])
    placing = {"record": True, "placed": True}
    after = groups.measured(
        "placed", "experts", PLACED, image, weights, **placing, collect="examination", after=[placed, before.given_back]
    )
    last = after
    for pair in range(1, PAIRS):
        # In order, placed, placed, in order, in order, ...: what drifts between deployments cancels.
        for side in (PLACED, IN_ORDER) if pair % 2 else (IN_ORDER, PLACED):
            more = placing if side == PLACED else {"record": True}
            kind = f"{side.replace(' ', '-')}-{pair}"
            last = groups.measured(
                kind, "experts", side, image, weights, **more, repeat=pair, after=[last.benchmark, last.given_back]
            )
    compared = tasks.compare_experts(before.collected, after.collected)
    last.benchmark >> compared >> tasks.close()


wideep_experts()
