"""An engine that cannot record: its cycle is planned, recorded and placed without an error, in the engine's order."""

from __future__ import annotations

from pathlib import Path

import pytest
from wideloop.manifests.engines import ENGINES, get_engine
from wideloop.operators.request import Request
from wideloop.operators.steps.experts import analyse, placed_spec
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run
from wideloop.tuning.simulator.engine import SimulatedEngine

PARAMS = {"engine": "silent"}
RUN = Run(dag_id="wideep_cycle", run_id="manual__1")


class SilentEngine(SimulatedEngine):
    name = "silent"
    has_recorder = False


@pytest.fixture(autouse=True)
def _silent(wideloop_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES.registered, "silent", SilentEngine)


def test_a_plan_that_would_record_is_accepted() -> None:
    plan(PARAMS, RUN, records=True)
    request = Request.from_params(PARAMS)
    assert request.recorded(request.spec("d")).record_experts is None


def test_placing_is_left_out_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    request = Request.from_params(PARAMS)
    caplog.set_level("INFO")
    assert analyse(PARAMS, {}, RUN).files == {}
    assert "engine silent has no recorder" in caplog.text
    spec = request.spec("d")
    assert placed_spec(request, spec, RUN) == spec


def test_a_deployment_that_asks_for_a_recorder_is_refused() -> None:
    spec = Request.from_params(PARAMS).spec("d").changed(record_experts="stat")
    (refusal,) = [f for f in get_engine("silent").validate(spec) if f.field == "recorder"]
    assert "does not record which experts are used" in refusal.rule
