"""Advice stops no run: whatever fits in memory is accepted, with warnings that are kept and can be accepted by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from wideloop.manifests.errors import Refused
from wideloop.manifests.profiles import hardware_names, model_names
from wideloop.operators.request import Request, why_not_placed
from wideloop.operators.settings import settings
from wideloop.operators.steps.configurations import Scope, configuration_findings
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.dashboard.app import create_app
from wideloop.results.store import Store
from wideloop.tuning.memory import worker_memory

RUN = Run(dag_id="wideep_cycle", run_id="manual__1")
CLUSTER = {"target": "dynamo", "engine": "dynamo-sglang"}
#: As the DAGs call it.
SCOPES = {
    "wideep_cycle": {"sweeps": True, "records": True},
    "wideep_experts": {"records": True, "compares_placed": True},
    "wideep_deploy": {},
    "wideep_benchmark": {},
}


def request_of(model: str, hardware: str, **params: Any) -> Request:
    return Request.from_params({**CLUSTER, "model": model, "hardware": hardware, **params})


def fits(request: Request) -> bool:
    """Whether every worker of the default fits, by divisibility and the memory model alone."""
    spec = request.spec("fits")
    divisible = all((spec.model.num_experts + w.knobs.redundant_experts) % w.layout.ep == 0 for w in spec.workers)
    return divisible and all(worker_memory(spec, w).fits for w in spec.workers)


@lru_cache
def that_fit(model: str, hardware: str) -> tuple[Request, ...]:
    """The requests with the fewest and the most redundant experts, up to 64, of those that fit."""
    counts = (0, 16, 32, 64)
    found = [next(filter(fits, _requests(model, hardware, way)), None) for way in (counts, counts[::-1])]
    return tuple(request for request in found if request is not None)


def _requests(model: str, hardware: str, counts: Iterable[int]) -> Iterator[Request]:
    return (request_of(model, hardware, redundant_experts=redundant) for redundant in counts)


def refusals(request: Request, dag: str) -> list[str]:
    findings = configuration_findings(request, request.spec("p"), Scope(**SCOPES[dag]))
    return [str(f) for f in findings if f.severity != "warning"]


@pytest.mark.parametrize("hardware", hardware_names())
@pytest.mark.parametrize("model", model_names())
def test_what_fits_in_memory_is_accepted_by_the_cycle_and_by_a_deployment(model: str, hardware: str) -> None:
    for request in that_fit(model, hardware):
        assert (refusals(request, "wideep_deploy"), refusals(request, "wideep_cycle")) == ([], [])


def test_most_combinations_of_model_and_profile_fit() -> None:
    """The test above would pass if nothing did."""
    assert sum(bool(that_fit(m, h)) for m in model_names() for h in hardware_names()) > 130


@pytest.mark.parametrize("hardware", [h for h in hardware_names() if that_fit("DeepSeek-R1", h)])
@pytest.mark.parametrize("dag", SCOPES)
def test_deepseek_r1_is_planned_on_every_profile_that_holds_it(wideloop_home: Path, dag: str, hardware: str) -> None:
    redundant = 32 if hardware == "h100-104" else 0
    params = {**CLUSTER, "model": "DeepSeek-R1", "hardware": hardware, "redundant_experts": redundant}
    warnings = plan(params, Run(dag_id=dag, run_id="manual__1"), **SCOPES[dag])
    assert all(w.startswith("warning [") for w in warnings)


def test_a_warning_is_repeated_until_its_name_is_accepted(wideloop_home: Path) -> None:
    params = {**CLUSTER, "model": "DeepSeek-R1", "hardware": "h200-32"}
    (warning,) = plan(params, RUN)
    assert warning.startswith("warning [small-prefill-chunk]: prefill.chunked_prefill_size = 8192")
    assert plan({**params, "accept": ["small-prefill-chunk"]}, RUN) == []
    with open_store() as store:
        cycle = store.cycle(RUN.cycle_id)
    assert cycle is not None
    assert [(w.id, w.accepted, w.text) for w in cycle.warnings] == [("small-prefill-chunk", True, warning)]


def test_an_accepted_name_that_no_warning_has_is_told_with_those_that_occur(wideloop_home: Path) -> None:
    params = {**CLUSTER, "model": "DeepSeek-R1", "hardware": "h200-32", "accept": ["small-chunk"]}
    told = plan(params, RUN)
    assert any("'small-chunk'" in line and "small-prefill-chunk" in line for line in told)


@pytest.mark.parametrize(
    ("wrong", "field"), [({"redundant_experts": 3}, "redundant_experts"), ({"mem_fraction_static": 0.99}, "mem_frac")]
)
def test_what_is_certain_to_fail_cannot_be_accepted(wideloop_home: Path, wrong: dict[str, Any], field: str) -> None:
    everything = [f"decode.{name}" for name in wrong]
    with pytest.raises(Refused, match=field):
        plan({**wrong, "accept": everything}, RUN)


def test_the_page_of_a_cycle_shows_its_warnings(wideloop_home: Path) -> None:
    plan({**CLUSTER, "model": "DeepSeek-R1", "hardware": "h200-32"}, RUN)
    app = create_app(lambda: Store.open(settings().results_url), [], artefacts)
    with TestClient(app) as client:
        page = client.get(f"/cycles/{RUN.cycle_id}").text
    assert "Warnings of the plan" in page and "[small-prefill-chunk]" in page


def test_experts_are_recorded_and_placed_on_single_node_workers_of_the_default_version() -> None:
    """Before 0.5.23 the tokens of DeepSeek and Qwen3 follow a placement inside a node by DeepEP only."""
    for model, follows in (("DeepSeek-R1", True), ("Qwen3-235B-A22B-FP8", True), ("Qwen3-235B-A22B", False)):
        spec = request_of(model, "h200-16").spec("p")
        assert [w.knobs.deepep_mode for w in spec.workers] == (["normal", "low_latency"] if follows else [None, None])
        assert (why_not_placed(spec) is None) == follows
    newer = request_of("DeepSeek-R1", "h200-16", engine_version="0.5.23").spec("p")
    assert [w.knobs.deepep_mode for w in newer.workers] == [None, None] and why_not_placed(newer) is None


def test_a_cycle_whose_experts_cannot_be_placed_sweeps_without_a_placement() -> None:
    request = request_of("Mixtral-8x7B", "h200-16")
    spec = request.spec("p")
    findings = configuration_findings(request, spec, Scope(sweeps=True, records=True))
    (skipped,) = [f for f in findings if f.name == "no-placement"]
    assert "does not send tokens after them" in skipped.rule
    assert request.recorded(spec).record_experts is None
    assert refusals(request, "wideep_experts"), "there is nothing else to do in that run"


def test_an_aggregated_worker_is_compared_in_a_mode_that_can_be_recorded() -> None:
    request = request_of("DeepSeek-R1", "h200-8-aggregated")
    spec = request.spec("p")
    assert spec.workers[0].knobs.deepep_mode is None
    assert request.comparable(spec).workers[0].knobs.deepep_mode == "normal"


@pytest.mark.parametrize("hardware", ["h200-2", "h100-8"])
def test_a_worker_with_ep_1_has_nothing_to_place(hardware: str) -> None:
    spec = request_of("Qwen3-30B-A3B-FP8", hardware).spec("p")
    alone = spec.changed(workers=tuple(w.changed(layout=w.layout.changed(ep=1)) for w in spec.workers))
    assert "EP 1" in (why_not_placed(alone) or "")
    one = alone.changed(workers=(*spec.workers[:-1], alone.workers[-1]))
    assert why_not_placed(one) is None or len(spec.workers) == 1


def test_corners_that_cannot_run_are_counted_in_one_warning() -> None:
    params = {"min_mem_fraction": 0.8, "max_mem_fraction": 0.99}
    request = request_of("DeepSeek-R1", "h200-32", **params)
    findings = configuration_findings(request, request.spec("p"), Scope(sweeps=True, records=True))
    (corners,) = [f for f in findings if f.name == "infeasible-corners"]
    assert "mem_fraction_static 0.99" in corners.value and "corners of the sweep's space cannot run" in corners.rule
    assert corners.severity == "warning"


def test_extra_slots_on_workers_of_one_rank_are_a_warning(wideloop_home: Path) -> None:
    params = {"model": "Random-Qwen3-MoE-8L", "hardware": "h200-2-pd"}
    assert any("[redundancy-on-one-rank]" in w for w in plan(params, RUN, sweeps=True, records=True))
    without = {**params, "dimensions": ["mem_fraction_static"]}
    assert not any("[redundancy-on-one-rank]" in w for w in plan(without, Run(dag_id="d", run_id="2"), sweeps=True))
