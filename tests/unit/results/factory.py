"""A realistic cycle for tests and for looking at the page: two H100 nodes, ten trials, two repeats each.

The numbers follow the shapes of a sweep (throughput against interactivity, two configurations out of
memory, one outside the SLO); they are made up, and the cycle is marked as simulated.

    python tests/unit/results/factory.py sqlite:////some/where/results.db
"""

from __future__ import annotations

import statistics as st
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from wideloop.manifests.deployment import Knobs
from wideloop.manifests.workload import Slo, Workload
from wideloop.results.records import Asset, Cycle, Gate, Measurement, Recommendation, Recording, Stage, Trial
from wideloop.results.store import Store

Scenario = Literal["success", "running", "failed"]

T0 = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
WORKLOAD = Workload(isl=2048, osl=64, concurrency=(16, 32))
SLO = Slo(ttft_p99_ms=4000, tpot_p99_ms=60)
IMAGE = "sha256:9f2c41d7e5b86a03c1de74f09ab2586d3c70e1f4a95b82d6037fce18ab24d95e"

#: number -> redundant experts, memory fraction, graph batch, tok/s/GPU, TPOT ms, TTFT p99 ms, reason
SWEEP: tuple[tuple[int, float, int, float | None, float, float, str], ...] = (
    (0, 0.82, 128, 231.4, 41.2, 2310, ""),
    (16, 0.82, 128, 252.8, 38.4, 2190, ""),
    (32, 0.85, 128, 268.9, 36.9, 2080, ""),
    (64, 0.92, 512, None, 0, 0, "out of memory: decode-0 lacked 3.1 GiB per GPU while capturing CUDA graphs"),
    (16, 0.88, 256, 274.6, 36.1, 2075, ""),
    (32, 0.90, 64, 211.7, 68.0, 2440, ""),
    (0, 0.75, 256, 240.2, 33.0, 5120, ""),
    (48, 0.90, 256, None, 0, 0, "out of memory: decode-0 lacked 1.2 GiB per GPU after loading weights"),
    (32, 0.86, 256, 287.3, 34.8, 1990, ""),
    (24, 0.84, 192, 262.0, 34.2, 2150, ""),
)
BEST = 8


def knobs(redundant: int, mem: float, graph: int) -> dict[str, Any]:
    decode = Knobs(redundant_experts=redundant, mem_fraction_static=mem, cuda_graph_max_bs=graph)
    prefill = Knobs(redundant_experts=redundant, mem_fraction_static=0.85)
    return {"prefill": prefill.model_dump(mode="json"), "decode": decode.model_dump(mode="json")}


def cycle(cycle_id: str = "wideep_cycle-2026-11-20", state: Scenario = "success", **changes: Any) -> Cycle:
    request = {
        "model": "deepseek-r1",
        "workload": WORKLOAD.model_dump(mode="json"),
        "slo": SLO.model_dump(mode="json"),
        "trials": len(SWEEP),
    }
    values: dict[str, Any] = {
        "cycle_id": cycle_id,
        "dag_id": "wideep_cycle",
        "dag_run_id": "scheduled__2026-11-20T06:00:00+00:00",
        "title": "DeepSeek-R1 on 2x8 H100",
        "state": state,
        "engine": "simulated",
        "target": "local",
        "simulated": True,
        "model": "DeepSeek-R1",
        "hardware": "h100-2x8",
        "request": request,
        "study": f"study-{cycle_id}",
        "planned_trials": len(SWEEP),
        "started_at": T0,
    }
    values |= changes
    if state != "running":
        values.setdefault("ended_at", values["started_at"] + timedelta(minutes=9, seconds=20))
    return Cycle(**values)


def measurement(owner: Cycle, **changes: Any) -> Measurement:
    values: dict[str, Any] = {
        "cycle_id": owner.cycle_id,
        "purpose": "trial",
        "label": "trial 0",
        "trial_number": 0,
        "spec_fingerprint": "1f0c9a5be27d",
        "image": IMAGE,
        "engine": owner.engine,
        "simulated": owner.simulated,
        "workload_fingerprint": WORKLOAD.fingerprint,
        "isl": WORKLOAD.isl,
        "osl": WORKLOAD.osl,
        "concurrency": 32,
        "gpus": 16,
        "decode_gpus": 8,
        "requests": 96,
        "errors": 0,
        "output_tok_s": 3702.4,
        "output_tok_s_se": 21.7,
        "input_tok_s": 118476.8,
        "request_s": 57.9,
        "ttft_ms_mean": 1400.0,
        "ttft_ms_p50": 1320.0,
        "ttft_ms_p99": 2310.0,
        "tpot_ms_mean": 41.2,
        "tpot_ms_p50": 40.8,
        "tpot_ms_p99": 46.0,
        "request_ms_mean": 4100.0,
        "request_ms_p99": 5300.0,
        "osl_mean": 64.0,
        "duration_s": 12.0,
        "gates": (
            Gate(name="errors", value=0.0, limit=0.01, ok=True, meaning="at most 1 % of the requests failed"),
            Gate(name="concurrency", value=0.97, limit=0.95, ok=True, meaning="the client kept its slots busy"),
        ),
        "artefact": "benchmarks/trial-0",
        "started_at": owner.started_at + timedelta(minutes=2),
        "ended_at": owner.started_at + timedelta(minutes=2, seconds=12),
    }
    return Measurement(**(values | changes))


def trial(owner: Cycle, number: int, **changes: Any) -> Trial:
    redundant, mem, graph, value, tpot, ttft, reason = SWEEP[number]
    began = owner.started_at + timedelta(minutes=2, seconds=36 * number)
    out_of_memory = value is None
    phases = {"apply": 1.2, "start": 11.5} | ({} if out_of_memory else {"benchmark": 15.8}) | {"teardown": 1.9}
    values: dict[str, Any] = {
        "study": owner.study,
        "number": number,
        "cycle_id": owner.cycle_id,
        "dag_run_id": f"{owner.cycle_id}-trial-{number}",
        "point": {"redundant_slots": redundant / 8, "mem_fraction": mem, "graph_bs": graph},
        "knobs": knobs(redundant, mem, graph),
        "state": "infeasible" if out_of_memory else "complete",
        "reason": reason,
        "value": value,
        "concurrency": None if out_of_memory else 32,
        "constraints": (
            {"oom_gb": 3.1}
            if out_of_memory
            else {"oom_gb": 0.0, "ttft_p99": ttft / SLO.ttft_p99_ms - 1, "tpot_p99": tpot * 1.1 / SLO.tpot_p99_ms - 1}
        ),
        "is_default": number == 0,
        "gpu_seconds": 16 * sum(phases.values()),
        "phases": phases,
        "started_at": began,
        "ended_at": began + timedelta(seconds=sum(phases.values())),
    }
    return Trial(**(values | changes))


def fingerprint(number: int) -> str:
    return f"{0x1F0C9A5BE27D + 4099 * number:012x}"


def trial_measurements(owner: Cycle, number: int) -> Iterator[Measurement]:
    _, _, _, value, tpot, ttft, _ = SWEEP[number]
    if value is None:
        return
    for concurrency, share in ((16, 0.62), (32, 1.0)):
        began = owner.started_at + timedelta(minutes=2, seconds=36 * number + 12 + concurrency / 8)
        faster = 0.8 + 0.2 * share
        yield measurement(
            owner,
            label=f"trial {number}",
            trial_number=number,
            spec_fingerprint=fingerprint(number),
            concurrency=concurrency,
            requests=3 * concurrency,
            output_tok_s=16 * value * share,
            ttft_ms_p99=ttft * share,
            tpot_ms_mean=tpot * faster,
            tpot_ms_p99=tpot * 1.1 * faster,
            artefact=f"benchmarks/trial-{number}",
            started_at=began,
            ended_at=began + timedelta(seconds=7),
        )


def repeats(owner: Cycle) -> Iterator[Measurement]:
    for index, (default, best) in enumerate(((230.2, 286.0), (233.1, 288.8))):
        for number, value in ((0, default), (BEST, best)):
            began = owner.started_at + timedelta(minutes=8, seconds=20 * index + number)
            yield measurement(
                owner,
                purpose="repeat",
                label="default" if number == 0 else f"trial {number}",
                trial_number=number,
                repeat=index,
                spec_fingerprint=fingerprint(number),
                output_tok_s=16 * value,
                tpot_ms_mean=SWEEP[number][4] * (1.01 - 0.02 * index),
                started_at=began,
                ended_at=began + timedelta(seconds=7),
            )


def recommendation(owner: Cycle, **changes: Any) -> Recommendation:
    pairs = (286.0 / 230.2 - 1, 288.8 / 233.1 - 1)
    half = 12.706 * st.stdev(pairs) / 2**0.5
    redundant, mem, graph, *_ = SWEEP[BEST]
    values: dict[str, Any] = {
        "cycle_id": owner.cycle_id,
        "study": owner.study,
        "trial_number": BEST,
        "verdict": "adopt",
        "reason": "the interval of the gain excludes 0, and the gain is more than twice the default's own scatter",
        "knobs": knobs(redundant, mem, graph),
        "default_knobs": knobs(*SWEEP[0][:3]),
        "gain": st.mean(pairs),
        "gain_low": st.mean(pairs) - half,
        "gain_high": st.mean(pairs) + half,
        "pairs": len(pairs),
        "slo_met": True,
        "simulated": owner.simulated,
        "created_at": owner.started_at + timedelta(minutes=9, seconds=10),
    }
    return Recommendation(**(values | changes))


def recordings(owner: Cycle) -> Iterator[Recording]:
    for role, before, after in (("decode", 0.61, 0.93), ("prefill", 0.74, 0.95)):
        yield Recording(
            cycle_id=owner.cycle_id,
            role=role,
            simulated=owner.simulated,
            artefact=f"experts/{role}.pt",
            layers=58,
            experts=256,
            tokens=393_216,
            ep=8,
            balancedness=before,
            balancedness_placed=after,
            created_at=owner.started_at + timedelta(minutes=1, seconds=40),
        )


def stages(owner: Cycle) -> list[Stage]:
    """Name, state, detail, begin and length in seconds."""
    plan: list[tuple[str, str, str, int, int | None]] = [
        ("image", "success", "verified, re-used", 0, 6),
        ("weights", "success", "config.json verified", 6, 3),
        ("baseline", "success", "default deployed, recorded and measured", 9, 108),
        ("tune", "success", "10 of 10 trials", 117, 363),
        ("confirm", "success", "2 pairs of best and default", 480, 68),
        ("promote", "skipped", "needs an approval", 548, 1),
        ("report", "success", "", 549, 11),
    ]
    if owner.state == "running":
        plan = [*plan[:3], ("tune", "running", "trial 6 of 10", 117, None)]
    if owner.state == "failed":
        why = (
            "[crashed] prefill-0: the worker ended with exit status 1 -> read its log, then start the cycle again"
            "\n    | zmq.error.ZMQError: Address already in use"
        )
        plan = [*plan[:2], ("baseline", "failed", why, 9, 41)]
    return [
        Stage(
            cycle_id=owner.cycle_id,
            name=name,
            state=state,  # type: ignore[arg-type]
            detail=detail,
            gpu_seconds=16 * length if name in ("baseline", "confirm") and length is not None else None,
            started_at=owner.started_at + timedelta(seconds=begin),
            ended_at=None if length is None else owner.started_at + timedelta(seconds=begin + length),
        )
        for name, state, detail, begin, length in plan
    ]


def assets(owner: Cycle) -> list[Asset]:
    """The engine's image and the model's cache, as the steps that verify them keep them."""
    image = {"versions": {"ai-dynamo": "1.6.1", "python": "3.12.8"}, "engine": owner.engine, "target": owner.target}
    weights = {"files": 163, "bytes": 688_600_000_000, "has_weights": True, "reused": True, "simulated": True}
    return [
        Asset(
            kind="image", key=f"{owner.target}/{owner.engine}", value=IMAGE, detail=image, verified_at=owner.started_at
        ),
        Asset(
            kind="weights",
            key=f"{owner.target}/deepseek-r1",
            value="/models/deepseek-r1",
            detail=weights,
            verified_at=owner.started_at + timedelta(seconds=9),
        ),
    ]


def seed(store: Store, scenario: Scenario = "success", **changes: Any) -> Cycle:
    """Write one whole cycle as ``scenario`` left it and return it."""
    if scenario == "running":
        changes.setdefault("started_at", datetime.now(UTC) - timedelta(minutes=6))
    if scenario == "failed":
        changes.setdefault("ended_at", changes.get("started_at", T0) + timedelta(seconds=52))
    owner = cycle(state=scenario, **changes)
    store.put(owner, *stages(owner))
    store.put(*assets(owner))
    if scenario == "failed":
        return owner
    store.put(*recordings(owner))
    done = 6 if scenario == "running" else len(SWEEP)
    for number in range(done):
        store.put(trial(owner, number), *trial_measurements(owner, number))
    if scenario == "running":
        changes = {"value": None, "concurrency": None, "ended_at": None, "constraints": {}, "phases": {"apply": 1.2}}
        store.put(trial(owner, done, state="running", **changes, gpu_seconds=19.2))
        return owner
    store.put(*repeats(owner), recommendation(owner))
    return owner


if __name__ == "__main__":
    with Store.open(sys.argv[1]) as target:
        seed(target, cycle_id="wideep_cycle-2026-11-06", started_at=T0 - timedelta(days=14))
        seed(target, "failed", cycle_id="wideep_cycle-2026-11-13", started_at=T0 - timedelta(days=7))
        seed(target, sys.argv[2] if len(sys.argv) > 2 else "success")  # type: ignore[arg-type]
