"""A trial of an earlier cycle is deployed and rendered exactly as it was, with its expert placement."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.errors import Refused
from wideloop.operators.commands.cli import app
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.earlier import earlier_trial, plan_earlier, request_of, spec_of_run
from wideloop.operators.steps.plan import plan
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.results.records import Asset, Recommendation, Trial
from wideloop.tuning.placement import place
from wideloop.tuning.placement.files import to_sglang

from tests.unit.operators.steps.measured import measurement

CYCLE = Run(dag_id="wideep_cycle", run_id="weekly__1")
DEPLOY = Run(dag_id="wideep_deploy", run_id="manual__9")
PARAMS: dict[str, Any] = {
    "target": "dynamo", "engine": "dynamo-sglang", "model": "Qwen3-30B-A3B-FP8", "hardware": "h200-16", "isl": 1024,
    "decode_engine_options": ["--kv-cache-dtype auto"],
}  # fmt: skip
IMAGE = "sha256:" + "a" * 64
POINT = {"redundant_slots": 1, "mem_fraction_static": 0.8, "cuda_graph_max_bs": 64}


@pytest.fixture
def cycle(wideloop_home: Path) -> Path:
    """A cycle whose default and trial 3 were measured, with placements for 0 and 8 redundant experts."""
    plan(PARAMS, CYCLE)
    keep, files = artefacts(), {}
    load = np.random.default_rng(1).random((48, 128)) + 0.1
    for role in ("prefill", "decode"):
        for redundant in (0, 8):
            local = wideloop_home / f"{role}-{redundant}.json"
            local.write_text(to_sglang(place(load, 8, redundant)))
            files[f"{role}-{redundant}"] = keep.put_file(local, "cycles", CYCLE.cycle_id, "placements", local.name)
    keep.put_json(files, "cycles", CYCLE.cycle_id, "placements.json")
    kept = {"cycle_id": CYCLE.cycle_id, "engine": "dynamo-sglang", "simulated": False, "image": IMAGE}
    with open_store() as store:
        store.put(Asset(kind="weights", key="dynamo/Qwen3-30B-A3B-FP8", value="/model-cache/q", detail={},
                        verified_at=datetime.now(UTC)))  # fmt: skip
        store.put(_trial(0, dict.fromkeys(POINT, 0.0), is_default=True), _trial(3, POINT))
        store.put(measurement(purpose="baseline", label="default", **kept), measurement(trial_number=3, **kept))
    return wideloop_home


def _trial(number: int, point: dict[str, float], *, is_default: bool = False) -> Trial:
    now = datetime.now(UTC)
    return Trial(
        study=CYCLE.cycle_id, number=number, cycle_id=CYCLE.cycle_id, dag_run_id="r", point=point, knobs={},
        state="complete", value=1.0, constraints={}, is_default=is_default, gpu_seconds=1.0, started_at=now,
    )  # fmt: skip


def recommend(verdict: str) -> None:
    conclusion = Recommendation(
        cycle_id=CYCLE.cycle_id, study=CYCLE.cycle_id, trial_number=3, verdict=verdict, reason="", knobs={},
        default_knobs={}, gain=0.1, gain_low=0.05, gain_high=0.15, pairs=3, slo_met=True, simulated=False,
        created_at=datetime.now(UTC),
    )  # fmt: skip
    with open_store() as store:
        store.put(conclusion)


def test_a_trial_has_its_knobs_placement_flags_image_and_weights(cycle: Path) -> None:
    spec = earlier_trial(CYCLE.cycle_id, 3).spec("again")
    knobs = spec.worker("decode").knobs
    assert (knobs.redundant_experts, knobs.mem_fraction_static, knobs.cuda_graph_max_bs) == (8, 0.8, 64)
    assert knobs.expert_placement is not None and Path(knobs.expert_placement).name == "decode-8.json"
    assert spec.worker("decode").options == ("--kv-cache-dtype", "auto")
    assert (spec.image, spec.model_path) == (IMAGE, "/model-cache/q")


def test_the_default_trial_is_the_forms_configuration_with_experts_in_order(cycle: Path) -> None:
    spec = earlier_trial(CYCLE.cycle_id, 0).spec("again")
    assert spec == Request.from_params(PARAMS).spec("again", IMAGE, "/model-cache/q")


@pytest.mark.parametrize(("verdict", "number"), [("adopt", 3), ("keep default", 0), ("inconclusive", 0)])
def test_without_a_number_it_is_what_the_cycle_recommends_to_use(cycle: Path, verdict: str, number: int) -> None:
    recommend(verdict)
    assert earlier_trial(CYCLE.cycle_id).trial.number == number


@pytest.mark.parametrize(
    ("cycle_id", "number", "message"),
    [
        ("cycle-none", None, "from_cycle"),
        (CYCLE.cycle_id, None, "recommends nothing so far"),
        (CYCLE.cycle_id, 7, "Use one of: 0, 3"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    cycle: Path, cycle_id: str, number: int | None, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        earlier_trial(cycle_id, number)


def test_a_run_that_names_a_trial_deploys_it_whatever_the_form_says(cycle: Path) -> None:
    params = {"target": "dynamo", "model": "DeepSeek-R1", "from_cycle": CYCLE.cycle_id, "from_trial": 3}
    assert request_of(params).model == "Qwen3-30B-A3B-FP8"
    spec = spec_of_run(params, "again", IMAGE, "/model-cache/q")
    assert spec == earlier_trial(CYCLE.cycle_id, 3).spec("again")
    plan_earlier(earlier_trial(CYCLE.cycle_id, 3), DEPLOY)
    with open_store() as store:
        page = store.cycle(DEPLOY.cycle_id)
    assert page is not None and page.model == spec.model.name


def test_another_target_than_the_cycles_is_refused(cycle: Path) -> None:
    with pytest.raises(Refused, match=r"target = 'local'.*Use dynamo"):
        request_of({"target": "local", "from_cycle": CYCLE.cycle_id, "from_trial": 3})


def test_a_run_that_names_none_deploys_the_form(cycle: Path) -> None:
    assert request_of(PARAMS) == Request.from_params(PARAMS)


def rendered(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["render", *arguments])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_render_prints_what_kubectl_applies_with_the_placement_as_a_config_map(
    cycle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIDELOOP_CLUSTER__NAMESPACE", "team")
    settings.cache_clear()
    graph, config, *_ = rendered("--cycle", CYCLE.cycle_id, "--trial", "3", "--name", "again")
    assert (graph["kind"], graph["metadata"]["name"], graph["metadata"]["namespace"]) == (
        "DynamoGraphDeployment",
        "again",
        "team",
    )
    text = json.dumps(graph)
    assert f"@{IMAGE}" in text and "--init-expert-location" in text and "/model-cache/q" in text
    placements = [key for key in config["data"] if "spec" not in key]
    assert len(placements) == 2 and all(json.loads(config["data"][key]) for key in placements)
    assert str(cycle) not in json.dumps(graph)
    in_pods = DeploymentSpec.model_validate_json(config["data"]["worker-spec.json"])
    assert in_pods.worker("decode").knobs.redundant_experts == 8


def test_render_takes_a_request_file(wideloop_home: Path) -> None:
    file = wideloop_home / "request.json"
    file.write_text(json.dumps(PARAMS))
    graph = rendered("--request", str(file))[0]
    assert graph["metadata"]["name"] == "wideloop" and "/model-cache/Qwen--Qwen3-30B-A3B-FP8" in json.dumps(graph)


@pytest.mark.parametrize("arguments", [[], ["--cycle", "c", "--request", __file__]])
def test_render_wants_one_thing_to_render(wideloop_home: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["render", *arguments])
    assert done.exit_code == 2 and "exactly one of --cycle and --request" in done.stderr


def test_render_refuses_a_target_that_is_no_cluster(wideloop_home: Path) -> None:
    file = wideloop_home / "request.json"
    file.write_text("{}")
    done = CliRunner().invoke(app, ["render", "--request", str(file)])
    assert done.exit_code == 2 and "target = 'local'" in done.stderr
