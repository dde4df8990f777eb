"""A dimension that exists only here: one class, and it is found from the form to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from pydantic import Field
from starlette.testclient import TestClient
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Site
from wideloop.manifests.errors import Refused
from wideloop.operators.airflow import params as form
from wideloop.operators.request import Request
from wideloop.operators.standalone.report import write_report
from wideloop.operators.steps import plan, recommend, sweep, trial
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.dashboard.app import create_app
from wideloop.results.dashboard.view import CycleView, cycle_view
from wideloop.results.store import Store
from wideloop.tuning import dimensions
from wideloop.tuning.dimensions.base import Range
from wideloop.tuning.dimensions.form import SWEEP, upper_and_lower
from wideloop.tuning.space import Placements, knobs_at

from tests.unit.operators.steps.measured import READY, measured, measurement


class RunningRequests(Range):
    """Requests that a decode worker runs at a time."""

    name = knob = "max_running_requests"
    title, short, unit = "Running requests", "running", "requests"
    role = "decode"
    value_type = Annotated[int, Field(ge=1)]
    log = True
    parameters = upper_and_lower(
        ("min_running", "max_running"), title, "Upper end of the search.", SWEEP, value_type, (8, 512)
    )

    def default(self, spec: DeploymentSpec) -> float:
        """The engine's own choice is not resolved; as far as the search goes it is this."""
        return self.worker(spec.workers).knobs.max_running_requests or 256


PARAMS: dict[str, Any] = {
    "trials": 4,
    "repeats": 2,
    "concurrency": [8, 32],
    "dimensions": ["mem_fraction_static", "max_running_requests"],
    "max_running": 300,
}
CYCLE = Run(dag_id="wideep_cycle", run_id="manual__added")


@pytest.fixture
def added() -> Iterator[RunningRequests]:
    dimension = RunningRequests()
    dimensions.register(dimension)
    yield dimension
    dimensions.DIMENSIONS.remove(dimension)


@pytest.fixture
def best(added: RunningRequests, wideloop_home: Path) -> trial.AskedTrial:
    """A whole sweep of it, up to the recommendation of a trial that beat the default."""
    plan.plan(PARAMS, CYCLE, sweeps=True)
    with open_store() as store:
        store.put(measurement(800.0, cycle_id=CYCLE.cycle_id, purpose="baseline", label="default"))
    sweep.prepare_study(PARAMS, CYCLE)
    run = Run(dag_id="wideep_trial", run_id="one", for_cycle=CYCLE.cycle_id)
    asked = trial.ask(PARAMS, run)
    while asked.kind != "sampler":
        trial.tell(PARAMS, asked, run, READY, measured(700.0))
        run = Run(dag_id="wideep_trial", run_id=f"after {asked.number}", for_cycle=CYCLE.cycle_id)
        asked = trial.ask(PARAMS, run)
    trial.tell(PARAMS, asked, run, READY, measured(1000.0))
    kept = {"cycle_id": CYCLE.cycle_id, "purpose": "repeat", "concurrency": 32}
    with open_store() as store:
        store.put(measurement(1000.0, cycle_id=CYCLE.cycle_id, trial_number=asked.number))
        for repeat in range(2):
            store.put(
                measurement(1000.0 + repeat, trial_number=asked.number, repeat=repeat, label="best", **kept),
                measurement(800.0 + repeat, trial_number=0, repeat=repeat, label="default", **kept),
            )
    recommend.recommend(PARAMS, CYCLE)
    return asked


def shown() -> tuple[CycleView, str]:
    """The cycle's view, and its page."""
    with open_store() as store:
        view = cycle_view(store, CYCLE.cycle_id)
        assert view is not None
        return view, page_of(store)


def page_of(store: Store) -> str:
    host = FastAPI()
    host.mount("/app", create_app(lambda: store, []))
    return TestClient(host, base_url="http://test/app/").get(f"cycles/{CYCLE.cycle_id}").text


def test_it_is_in_the_form_and_in_the_request(added: RunningRequests) -> None:
    params = form.everything()
    assert params["max_running"].value == 512
    assert (params["min_running"].schema["minimum"], params["min_running"].schema["type"]) == (1, "integer")
    assert "max_running_requests" in params["dimensions"].schema["items"]["enum"]
    assert Request.from_params(PARAMS).space["max_running_requests"] == (8, 300)
    assert "max_running_requests" not in Request.from_params({}).space
    with pytest.raises(Refused, match="max_running = 0"):
        Request.from_params({**PARAMS, "max_running": 0})


def test_a_point_of_it_becomes_the_flag_of_its_worker(added: RunningRequests) -> None:
    request = Request.from_params({**PARAMS, "engine": "sglang", "hardware": "h200-2", "model": "Qwen3-30B-A3B"})
    spec = request.spec("x")
    knobs = knobs_at({"mem_fraction_static": 0.8, "max_running_requests": 48.0}, spec, Placements())
    tried = spec.with_knobs("y", knobs)
    engine = get_engine("sglang")
    (component,) = engine.components(tried)
    site = Site(python="py", host="h", ports={"http": 1}, spec_file="s", work_dir="w", shared_dir="d", model_path="m")
    flags = dict(pairwise(engine.command(tried, component, site).argv))
    assert (flags["--max-running-requests"], flags["--mem-fraction-static"]) == ("48", "0.8")


def test_it_is_stored_and_shown_wherever_knobs_are(best: trial.AskedTrial) -> None:
    value = int(best.point["max_running_requests"])
    assert set(best.point) == {"mem_fraction_static", "max_running_requests"} and 8 <= value <= 300
    with open_store() as store:
        stored = next(t for t in store.trials(study=CYCLE.cycle_id) if t.number == best.number)
        recommendation = store.recommendation(CYCLE.cycle_id)
    assert stored.point["max_running_requests"] == value
    assert stored.knobs["decode"]["max_running_requests"] == value
    assert "max_running_requests" not in stored.knobs["prefill"]
    assert recommendation is not None and recommendation.knobs["decode"]["max_running_requests"] == value
    view, page = shown()
    assert view.progress.best_label is not None and f"running {value}" in view.progress.best_label
    change = next(k for k in view.knobs if k.name == "max_running_requests")
    assert (change.title, change.value, change.changed) == ("Running requests", str(value), True)
    assert "<button>Running requests</button>" in page and f'data-sort="{value}"' in page
    assert "Running requests</th>" in page, "what to set"
    hover = [text for trace in view.charts["gpu"]["data"] for _, text, _ in trace.get("customdata", [])]
    assert any(f"running {value}" in text for text in hover)
    labels = [text for trace in view.charts["gpu"]["data"] for text in trace.get("text", [])]
    assert any(f"running {value}" in text for text in labels)


def test_it_is_in_the_report(best: trial.AskedTrial, tmp_path: Path) -> None:
    value = int(best.point["max_running_requests"])
    request = Request.from_params(PARAMS)
    spec = trial.spec_of(best, request, Placements(), "i", "m")
    visit = {
        "deployment": "one", "purpose": "trial", "label": best.label, "trial_number": best.number, "repeat": 0,
        "workers": [w.model_dump(mode="json") for w in spec.workers], "state": "ready", "diagnosis": None,
        "start_seconds": 5.0, "seconds": {"client": 10.0}, "overhead_s": 0.1, "engine": {},
        "written_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    repeat = {**visit, "deployment": "two", "purpose": "repeat", "label": "best"}
    for entry in (visit, repeat):
        artefacts().put_json(entry, "cycles", CYCLE.cycle_id, "visits", f"{entry['deployment']}.json")
    write_report(PARAMS, CYCLE, tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["dimensions"] == ["mem_fraction_static", "max_running_requests"]
    assert [t["max_running_requests"] for t in report["trials"]] == [value]
    assert [c["knobs"]["max_running_requests"] for c in report["configurations"]] == [value]
    tables = (tmp_path / "report" / "report.md").read_text()
    header, _, row = tables.split("## Trials\n\n")[1].splitlines()[:3]
    assert dict(zip(header.split(" | "), row.split(" | "), strict=True))["running |"] == f"{value} |"
    assert "| running |" in tables.split("## Configurations")[1].splitlines()[2]


def test_a_name_that_exists_already_is_refused(added: RunningRequests) -> None:
    with pytest.raises(ValueError, match="max_running, max_running_requests, min_running exists already"):
        dimensions.register(RunningRequests())
