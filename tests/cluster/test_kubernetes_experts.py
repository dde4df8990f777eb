"""Experts compared in turns through Kubernetes: recorded, placed, proven, answered alike, and on the results page."""

from __future__ import annotations

from typing import Any

import pytest
from wideloop.results.experts.comparison import Comparison
from wideloop.results.experts.sides import IN_ORDER, PLACED

from tests.airflow_server import AirflowServer
from tests.cluster.airflow_place import EXPERT_PAIRS
from tests.cluster.place import DIGEST, Place

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def compared(ended: dict[str, str]) -> str:
    """The run id of a ``wideep_experts`` that ended well."""
    return ended["wideep_experts"]


@pytest.fixture(scope="module")
def page(airflow: AirflowServer, compared: str) -> dict[str, Any]:
    """What the run's page on experts shows."""
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == compared)
    shown: dict[str, Any] = airflow.get(f"/wideep/api/cycles/{cycle.cycle_id}/experts")
    return shown


def test_both_sides_are_measured_in_turns(airflow: AirflowServer, compared: str) -> None:
    with airflow.store() as store:
        cycle = next(c for c in store.cycles() if c.dag_run_id == compared)
        found = store.measurements(cycle_id=cycle.cycle_id)
        recordings = store.recordings(cycle.cycle_id)
    assert (cycle.state, cycle.engine, cycle.simulated) == ("success", "dynamo-sglang", True)
    in_turns = [(m.label, m.repeat) for m in sorted(found, key=lambda m: m.started_at)]
    assert in_turns == [(IN_ORDER, 0), (PLACED, 0), (PLACED, 1), (IN_ORDER, 1)]
    assert all(m.valid and m.simulated and m.image == DIGEST for m in found)
    fingerprints = {side: {m.spec_fingerprint for m in found if m.label == side} for side in (IN_ORDER, PLACED)}
    assert fingerprints[IN_ORDER].isdisjoint(fingerprints[PLACED])
    assert {r.role for r in recordings} == {"prefill", "decode"}
    assert all(r.tokens > 0 and 0 < r.balancedness < r.balancedness_placed <= 1 for r in recordings)


def test_the_second_recording_proves_the_placement(page: dict[str, Any]) -> None:
    comparison = Comparison.model_validate(page["comparison"])
    assert comparison.simulated
    assert {role: proof.state for role, proof in comparison.proofs.items()} == dict.fromkeys(
        ("prefill", "decode"), "honoured"
    )
    assert all(p.before < p.measured for p in comparison.proofs.values())
    assert comparison.outputs is not None
    assert comparison.outputs.state == "not comparable", "the simulated engine answers no prompt alike twice"
    (level,) = comparison.levels
    change = level.changes["output_tok_s"]
    assert change.pairs == EXPERT_PAIRS
    assert change.low is not None and change.high is not None and change.low < change.change < change.high


def test_what_was_compared_leaves_nothing(home: Place, compared: str) -> None:
    assert home.left() == []
