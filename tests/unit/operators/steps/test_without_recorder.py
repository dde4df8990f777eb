"""An engine that cannot record: its cycle is planned, recorded and placed without an error, in the engine's order."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from wideloop.manifests.engines import ENGINES, get_engine
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.errors import Refused
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.experts import analyse, placed_spec
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run, artefacts
from wideloop.results.dashboard.app import create_app
from wideloop.results.store import Store
from wideloop.tuning.simulator.engine import SimulatedEngine

PARAMS = {"engine": "silent"}
RUN = Run(dag_id="wideep_cycle", run_id="manual__1")
REASON = "engine silent cannot record experts: no placement"


class SilentEngine(SimulatedEngine):
    name = "silent"
    recorder = None


@pytest.fixture(autouse=True)
def _silent(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES.registered, "silent", SilentEngine)


def test_a_plan_that_would_record_is_accepted() -> None:
    plan(PARAMS, RUN, records=True)
    request = Request.from_params(PARAMS)
    assert request.recorded(request.spec("d")).record_experts is None


def test_placing_is_left_out_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    request = Request.from_params(PARAMS)
    plan(PARAMS, RUN)
    caplog.set_level("INFO")
    assert analyse(PARAMS, {}, RUN).files == {}
    assert f"stage experts is skipped: {REASON}" in caplog.text
    spec = request.spec("d")
    assert placed_spec(request, spec, RUN) == spec


def test_the_pages_of_its_cycle_say_why_there_is_no_placement() -> None:
    plan(PARAMS, RUN)
    analyse(PARAMS, {}, RUN)
    analyse(PARAMS, {}, RUN)  # A retry of the task.
    app = create_app(lambda: Store.open(settings().results_url), [], artefacts)
    with TestClient(app) as client:
        cycle = client.get(f"/cycles/{RUN.cycle_id}").text
        experts = client.get(f"/cycles/{RUN.cycle_id}/experts").text
    assert "state-skipped" in cycle and f"No expert distribution was recorded: {REASON}." in cycle
    assert REASON in experts


def test_a_comparison_of_placed_experts_is_refused_with_what_would_work() -> None:
    with pytest.raises(Refused) as refused:
        plan(PARAMS, RUN, records=True, compares_placed=True)
    (finding,) = refused.value.findings
    assert finding.field == "engine" and "no placement to compare with" in finding.rule
    assert "engine simulated" in finding.suggestion and "eplb 'online'" in finding.suggestion


def test_a_comparison_with_online_rebalancing_needs_no_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SilentEngine, "validate", lambda self, spec: Engine.validate(self, spec))
    plan({**PARAMS, "eplb": "online"}, RUN, records=True, compares_placed=True)


def test_a_deployment_that_asks_for_a_recorder_is_refused() -> None:
    spec = Request.from_params(PARAMS).spec("d").changed(record_experts="stat")
    (refusal,) = [f for f in get_engine("silent").validate(spec) if f.field == "recorder"]
    assert "does not record which experts are used" in refusal.rule
