"""Online rebalancing as an arm of a sweep: its knobs, its trials beside placed ones, and its simulation."""

from __future__ import annotations

from typing import Any

import pytest
from wideloop.operators.request import Request
from wideloop.operators.steps.configurations import Scope, check, configuration_findings, corners
from wideloop.results.experts.rebalances import POINTS, read
from wideloop.tuning.simulator.plan import WorkerPlan
from wideloop.tuning.simulator.rebalancing import Rebalancer
from wideloop.tuning.space import Placements, knobs_at, knobs_shown, point_of

ARMS = {"online_rebalance_iterations": [500, 2000]}
PLACED = Placements(files={f"{role}-0": f"/p/{role}.json" for role in ("prefill", "decode")})


def request_of(**params: Any) -> Request:
    return Request.from_params({**ARMS, **params})


def test_the_arm_without_rebalancing_is_always_one_of_the_choices() -> None:
    request = request_of()
    spec = request.spec("s")
    space = request.space.around(spec)
    assert space["eplb_rebalance_iterations"] == (0, 500, 2000)
    assert point_of(spec, space)["eplb_rebalance_iterations"] == 0
    assert "eplb_rebalance_iterations" not in Request.from_params({}).space


@pytest.mark.parametrize(
    ("choice", "eplb", "placement", "kind"),
    [(0, "static", "/p/decode.json", "recorded"), (500, "online", None, "online")],
)
def test_a_trial_is_placed_by_the_recording_or_rebalances(
    choice: int, eplb: str, placement: str | None, kind: str
) -> None:
    spec = request_of().spec("s")
    trial = spec.with_knobs("t", knobs_at({"eplb_rebalance_iterations": choice}, spec, PLACED))
    knobs = trial.worker("decode").knobs
    assert (knobs.eplb, knobs.expert_placement) == (eplb, placement)
    shown = knobs_shown(trial, {"eplb_rebalance_iterations": choice})["decode"]
    assert (shown["eplb_rebalance_iterations"], shown["placement"]) == (choice, kind)


def test_a_worker_with_ep_1_does_not_rebalance() -> None:
    spec = request_of().spec("s")
    alone = spec.changed(workers=tuple(w.changed(layout=w.layout.changed(ep=1)) for w in spec.workers))
    assert knobs_at({"eplb_rebalance_iterations": 500}, alone, Placements())["decode"].eplb == "off"


@pytest.mark.parametrize("engine", [{}, {"target": "dynamo", "engine": "dynamo-sglang", "hardware": "h200-32"}])
def test_every_corner_of_both_arms_is_judged_when_the_run_is_planned(engine: dict[str, str]) -> None:
    request = request_of(model="DeepSeek-R1" if engine else "Qwen3-30B-A3B-FP8", **engine)
    spec = request.spec("p")
    forms = {c.spec.worker("decode").knobs.eplb for c in corners(request, spec, placed=True)}
    assert forms == {"static", "online"}
    findings = configuration_findings(request, spec, Scope(sweeps=True, records=True))
    assert [f for f in findings if f.severity != "warning"] == []


def online(**params: Any) -> WorkerPlan:
    request = Request.from_params({"eplb": "online", "eplb_rebalance_iterations": 100, **params})
    spec = request.online(request.spec("s"))
    assert [f for f in check(spec) if f.severity == "error"] == []
    return WorkerPlan.of(spec, "decode")


def test_a_simulated_worker_gets_the_balance_of_its_traffic_and_pays_for_it() -> None:
    plan = online()
    in_order = WorkerPlan.of(Request.from_params({}).spec("s"), "decode")
    assert plan.timing.imbalance < in_order.timing.imbalance
    assert in_order.stop_ms == 0 < plan.stop_ms
    assert plan.stop_ms == pytest.approx(1e3 * plan.rebalance_s / 100)


class _NoCounters:
    """Rebalancer asks for tokens only in its thread, which is not started here."""


def test_its_log_reads_as_sglangs_does() -> None:
    counters: Any = _NoCounters()
    rebalancer = Rebalancer(online(), counters)
    log = [
        line for passes in range(10, 451, 10) for line in rebalancer.lines(passes, passes - 10, (passes - 10) // 100)
    ]
    found = read(log)
    assert len(found.seconds) == 4 and found.stopped_s > 0
    assert found.before is not None and found.after is not None and found.before < found.after
    assert found.over_time[0][0] == 10 and "4 rebalances" in str(found)


@pytest.mark.parametrize("passes", [0, 1, POINTS, POINTS + 1, 5 * POINTS])
def test_balancedness_over_time_keeps_so_many_points_at_most(passes: int) -> None:
    line = "[Expert Balancedness] forward_pass_id={} current_pass_balancedness=0.5"
    assert min(passes, POINTS) / 2 <= len(read(line.format(n) for n in range(passes)).over_time) <= POINTS
