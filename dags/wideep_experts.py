"""Record which experts a workload uses, place them accordingly, and measure what that is worth."""

from datetime import timedelta

from airflow.sdk import dag

from operators import groups, params, tasks


@dag(
    dag_id="wideep_experts",
    schedule=None,
    params=params.where() | params.workload() | params.knobs(),
    max_active_runs=1,
    is_paused_upon_creation=True,
    dagrun_timeout=timedelta(hours=6),
    tags=["wide-ep"],
    doc_md=__doc__,
)
def wideep_experts() -> None:
    planned, image, weights = tasks.plan(), tasks.image(), tasks.weights()
    planned >> image >> weights
    before = groups.measured("recorded", "experts", "in order", image, weights, record=True)
    places = tasks.place_experts(before.recordings)
    # Recording, too, so that the recorder's own cost is on both sides.
    after = groups.measured(
        "placed", "experts", "placed", image, weights, record=True, placed=True, after=[places, before.given_back]
    )
    after.benchmark >> tasks.compare_experts() >> tasks.close()


wideep_experts()
