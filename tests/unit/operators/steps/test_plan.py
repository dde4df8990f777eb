"""Bad input is refused before anything is launched, with field, value, rule and a value that would work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from wideloop.manifests.errors import Refused, StoreUnavailable
from wideloop.manifests.findings import Finding
from wideloop.operators.request import DEFAULTS, Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.plan import check, plan
from wideloop.operators.steps.run import Run, open_store
from wideloop.operators.targets import open_target

RUN = Run(dag_id="wideep_cycle", run_id="manual__1")


def refused(**params: Any) -> Finding:
    """The finding that names what is wrong; nothing was launched or recorded."""
    with pytest.raises(Refused) as refusal:
        plan(params, RUN)
    findings = refusal.value.findings
    assert open_target("local").list_owned() == []
    with open_store() as store:
        assert store.cycle(RUN.cycle_id) is None
    said = [str(f) for f in findings]
    assert len(set(said)) == len(said), "said twice"
    for finding in findings:
        assert finding.rule and finding.suggestion and finding.severity == "error"
        assert finding.field in str(refusal.value) and repr(finding.value) in str(refusal.value)
    return findings[0]


def test_good_input_opens_the_cycles_page(wideloop_home: Path) -> None:
    warnings = plan({}, RUN)
    assert all("warning" in w for w in warnings)
    with open_store() as store:
        cycle = store.cycle(RUN.cycle_id)
    assert cycle is not None
    assert (cycle.state, cycle.simulated, cycle.planned_trials) == ("running", True, DEFAULTS["trials"])


def test_planning_again_keeps_when_it_began(wideloop_home: Path) -> None:
    plan({}, RUN)
    with open_store() as store:
        before = store.cycle(RUN.cycle_id)
    plan({}, RUN)
    with open_store() as store:
        assert store.cycle(RUN.cycle_id) == before


def test_a_run_for_another_cycle_goes_on_with_that_one(wideloop_home: Path) -> None:
    plan({"trials": 4}, RUN)
    later = Run(dag_id="wideep_tune", run_id="manual__2", for_cycle=RUN.cycle_id)
    plan({"trials": 9}, later)
    with open_store() as store:
        (cycle,) = store.cycles()
    assert (cycle.dag_id, cycle.planned_trials) == ("wideep_cycle", 9)


def test_a_cycle_from_before_workloads_named_their_client_can_be_added_to(wideloop_home: Path) -> None:
    plan({}, RUN)
    with open_store() as store:
        cycle = store.cycle(RUN.cycle_id)
        assert cycle is not None
        stored = {k: v for k, v in cycle.request["workload"].items() if not k.startswith("client")}
        store.put(cycle.model_copy(update={"request": cycle.request | {"workload": stored}}))
    later = Run(dag_id="wideep_tune", run_id="manual__2", for_cycle=RUN.cycle_id)
    plan({}, later)
    with pytest.raises(Refused, match="workload"):
        plan({"seed": 2}, later)


def test_a_cycle_that_is_not_there_is_refused_with_those_that_are(wideloop_home: Path) -> None:
    plan({}, RUN, sweeps=True)
    with pytest.raises(Refused) as refusal:
        plan({}, Run(dag_id="wideep_tune", run_id="manual__2", for_cycle="cycle-0"), sweeps=True)
    (finding,) = refusal.value.findings
    assert (finding.field, finding.value) == ("cycle_id", "cycle-0")
    assert RUN.cycle_id in finding.suggestion
    assert optuna.get_all_study_names(settings().study_url) == [RUN.cycle_id]


def test_a_chunk_that_no_step_takes_is_refused_by_the_params_name(wideloop_home: Path) -> None:
    with pytest.raises(Refused) as refusal:
        plan({"prefill_chunks": [4096, 524288]}, RUN, sweeps=True)
    (finding,) = refusal.value.findings
    assert (finding.field, finding.value) == ("prefill_chunks", 524288)
    plan({"prefill_chunks": [4096]}, RUN, sweeps=True)


# ---- every item of the list


def test_experts_that_do_not_divide(wideloop_home: Path) -> None:
    finding = refused(redundant_experts=3)
    assert finding.field.endswith("redundant_experts") and finding.value == 3
    assert "128 experts + redundant" in finding.rule and "EP 4" in finding.rule
    assert finding.suggestion == "Use 0 or 4"
    plan({"redundant_experts": 4}, RUN)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5])
def test_a_memory_fraction_outside_0_and_1(wideloop_home: Path, fraction: float) -> None:
    finding = refused(mem_fraction_static=fraction)
    assert (finding.field, finding.value) == ("mem_fraction_static", fraction)


def test_ep_that_does_not_divide_the_workers_gpus(wideloop_home: Path) -> None:
    spec = Request.from_params({}).spec("x")
    decode = spec.worker("decode")
    for ep, works in ((3, 2), (8, 4)):
        layout = decode.layout.model_copy(update={"ep": ep})
        broken = spec.model_copy(update={"workers": (decode.model_copy(update={"layout": layout}),)})
        found = [f for f in check(broken) if f.field == "decode.ep"]
        assert found and found[0].value == ep, ep
        assert "divide the worker's 4 GPUs" in found[0].rule
        assert found[0].suggestion == f"Use {works}"
        assert decode.layout.gpus % works == 0


@pytest.mark.parametrize("model", ["DeepSeek-R1", "deepseek-ai/DeepSeek-R1"])
def test_a_model_that_cannot_fit_the_hardware(wideloop_home: Path, model: str) -> None:
    finding = refused(model=model, hardware="h100-8")
    assert "DeepSeek-R1" in finding.value and "H100" in finding.value
    assert "GiB per GPU" in finding.rule
    assert "would hold it" in finding.suggestion
    plan({"model": model, "hardware": "h100-32", "mem_fraction_static": 0.78}, RUN)


@pytest.mark.parametrize(
    ("field", "value"), [("hardware", "h100-9"), ("model", "GPT-5"), ("engine", "vllm"), ("target", "moon")]
)
def test_an_unknown_profile_engine_or_target(wideloop_home: Path, field: str, value: str) -> None:
    finding = refused(**{field: value})
    assert (finding.field, finding.value) == (field, value)


def test_a_workload_without_output(wideloop_home: Path) -> None:
    finding = refused(osl=0)
    assert (finding.field, finding.value) == ("osl", 0)
    assert str(DEFAULTS["osl"]) in finding.suggestion


def test_a_missing_model_directory(wideloop_home: Path) -> None:
    finding = refused(model=str(wideloop_home / "no-such-model"))
    assert finding.field == "model" and "no-such-model" in finding.value


def test_a_model_that_is_no_mixture_of_experts(wideloop_home: Path) -> None:
    folder = wideloop_home / "dense"
    folder.mkdir()
    (folder / "config.json").write_text('{"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 8}')
    assert refused(model=str(folder)).field == "model"


UNREACHABLE = "postgresql+psycopg://me:secret-word@127.0.0.1:1/results"


@pytest.mark.parametrize("database", ["RESULTS", "STUDY"])
@pytest.mark.parametrize("url", [UNREACHABLE, "sqlite:////proc/no/such/place.db"])
def test_a_database_that_is_unreachable(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch, database: str, url: str
) -> None:
    monkeypatch.setenv(f"WIDELOOP_{database}_URL", url)
    settings.cache_clear()
    with pytest.raises(StoreUnavailable) as unavailable:
        plan({}, RUN, sweeps=True)
    said = str(unavailable.value)
    assert ("127.0.0.1:1" in said) or ("/proc/no/such/place.db" in said)
    assert database.lower()[:5] in said.lower()
    assert "secret-word" not in said
    assert open_target("local").list_owned() == []


def test_a_database_that_is_unreachable_leaves_no_page_that_looks_as_if_it_ran(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIDELOOP_STUDY_URL", UNREACHABLE)
    settings.cache_clear()
    with pytest.raises(StoreUnavailable):
        plan({}, RUN, sweeps=True)
    with open_store() as store:
        assert store.cycles() == []


def test_a_default_that_runs_out_of_memory_is_refused_where_it_must_run_and_told_where_not(
    wideloop_home: Path,
) -> None:
    with pytest.raises(Refused, match=r"between 0\.\d+ and 0\.\d+ works"):
        plan({"mem_fraction_static": 0.99}, RUN)
    warnings = plan({"mem_fraction_static": 0.99}, RUN, must_run=False, sweeps=True)
    assert warnings and all(w.startswith("infeasible: decode.mem_fraction_static") for w in warnings)


def test_an_image_does_not_depend_on_what_would_be_deployed(wideloop_home: Path) -> None:
    with pytest.raises(Refused):
        plan({"redundant_experts": 3}, RUN)
    assert plan({"redundant_experts": 3}, RUN, deploys=False) == []


def test_an_artefact_store_that_cannot_be_written_is_found_before_anything_is_paid_for(
    wideloop_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wideloop_home / "file").write_text("in the way")
    monkeypatch.setenv("WIDELOOP_ARTEFACTS_URL", f"file://{wideloop_home}/file/artefacts")
    settings.cache_clear()
    with pytest.raises(StoreUnavailable, match="WIDELOOP_ARTEFACTS_URL"):
        plan({}, RUN)
    with open_store() as store:
        assert store.cycles() == []


def test_a_run_cannot_mix_another_question_into_an_earlier_cycle(wideloop_home: Path) -> None:
    plan({}, RUN, sweeps=True)
    later = Run(dag_id="wideep_tune", run_id="later", for_cycle=RUN.cycle_id)
    with pytest.raises(Refused) as refused:
        plan({"model": "Qwen3-30B-A3B-FP8", "isl": 99}, later, must_run=False, sweeps=True)
    assert sorted(f.field for f in refused.value.findings) == ["model", "workload"]
    plan({"trials": 20}, later, sweeps=True)
    with open_store() as store:
        (cycle,) = store.cycles()
    assert (cycle.planned_trials, cycle.dag_id) == (20, RUN.dag_id)
