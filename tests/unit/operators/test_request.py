"""From the flat params of a form to specs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wideloop.manifests import profiles
from wideloop.manifests.deployment import MAX_NAME
from wideloop.manifests.errors import Refused
from wideloop.operators.request import DEFAULTS, Request, as_stored, deployment_name
from wideloop.operators.request.parameters import RUN_OPTIONS, request_parameters


def refused(**params: Any) -> Any:
    """The one finding that a value is refused with."""
    with pytest.raises(Refused) as refusal:
        Request.from_params(params)
    (finding,) = refusal.value.findings
    return finding


def test_no_params_at_all_are_the_defaults() -> None:
    request = Request.from_params({})
    for name in ("model", "hardware", "trials", "seed"):
        assert getattr(request, name) == DEFAULTS[name]
    assert request.workload.concurrency == tuple(DEFAULTS["concurrency"])
    assert request.simulated


def test_params_that_are_no_wishes_are_left_alone() -> None:
    assert Request.from_params({"cycle_id": "x", "keep_hours": 3}) == Request.from_params({})


@pytest.mark.parametrize(("name", "nearest"), [("trails", "trials"), ("modle", "model"), ("keep_hour", "keep_hours")])
def test_an_unknown_param_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    finding = refused(**{name: 50})
    assert (finding.field, finding.value, finding.rule) == (name, 50, "is not a parameter")
    assert f"Did you mean {nearest!r}?" in finding.suggestion


def test_an_emptied_list_of_choices_is_null_in_airflows_form_and_not_searched() -> None:
    assert Request.from_params({"prefill_chunks": None}) == Request.from_params({"prefill_chunks": []})


def test_levels_of_concurrency_are_put_in_order() -> None:
    assert Request.from_params({"concurrency": [32, 1, 8]}).workload.concurrency == (1, 8, 32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("osl", 0),
        ("isl", 0),
        ("isl", "many"),
        ("requests_per_slot", 0),
        ("warmup_requests", -1),
        ("slo_ttft_p99_ms", 0),
        ("slo_tpot_p99_ms", -5),
        ("redundant_experts", -4),
        ("mem_fraction_static", 0),
        ("mem_fraction_static", 1.0),
        ("mem_fraction_static", 1.2),
        ("cuda_graph_max_bs", 0),
        ("max_redundant_slots", 0),
        ("min_mem_fraction", 0.0),
        ("max_mem_fraction", 1.0),
        ("min_graph_bs", 0),
        ("prefill_chunks", 8192),
        ("trials", "all"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_the_name_of_its_param(field: str, value: Any) -> None:
    finding = refused(**{field: value})
    assert finding.field == field
    assert finding.value == value or value in finding.value
    assert finding.rule and finding.suggestion


@pytest.mark.parametrize("concurrency", [[], [0], [8, -1]])
def test_levels_must_be_counts(concurrency: list[int]) -> None:
    assert refused(concurrency=concurrency).field == "concurrency"


@pytest.mark.parametrize(
    "params",
    [
        {"osl": 0},
        {"mem_fraction_static": 1.2},
        {"cuda_graph_max_bs": 0},
        {"max_mem_fraction": 1.0},
        {"slo_ttft_p99_ms": 0},
        {"concurrency": []},
    ],
    ids=str,
)
def test_the_suggested_value_works(params: dict[str, Any]) -> None:
    finding = refused(**params)
    assert str(DEFAULTS[finding.field]) in finding.suggestion or "empty" in finding.suggestion
    Request.from_params({**params, finding.field: DEFAULTS[finding.field]})


def test_bounds_the_wrong_way_round_name_one_of_them() -> None:
    finding = refused(min_mem_fraction=0.9, max_mem_fraction=0.8)
    assert finding.field == "max_mem_fraction"
    assert "0.9" in finding.rule and "0.8" in finding.rule


@pytest.mark.parametrize(
    ("params", "field", "near"),
    [
        ({"hardware": "h100-18"}, "hardware", "h100-16"),
        ({"model": "DeepSeek-R2"}, "model", "DeepSeek-R1"),
        ({"engine": "simulate"}, "engine", "simulated"),
    ],
)
def test_an_unknown_profile_is_refused_with_the_nearest(params: dict[str, str], field: str, near: str) -> None:
    with pytest.raises(Refused) as refusal:
        Request.from_params(params).spec("x")
    (finding,) = refusal.value.findings
    assert (finding.field, finding.value) == (field, params[field])
    assert near in finding.suggestion


def test_every_knob_of_a_spec_is_resolved_and_the_forms_are_kept() -> None:
    params = {"redundant_experts": 4, "mem_fraction_static": 0.7, "cuda_graph_max_bs": 8}
    spec = Request.from_params(params).spec("x")
    decode, prefill = spec.worker("decode").knobs, spec.worker("prefill").knobs
    assert (decode.redundant_experts, decode.mem_fraction_static, decode.cuda_graph_max_bs) == (4, 0.7, 8)
    assert prefill.redundant_experts == 4
    # Memory and graphs of the form are the decode worker's; the other keeps the engine's own choice.
    assert prefill.mem_fraction_static not in (None, 0.7)
    assert prefill.cuda_graph_max_bs not in (None, 8)


@given(hardware=st.sampled_from(profiles.hardware_names()), model=st.sampled_from(profiles.model_names()))
def test_every_pair_of_profiles_makes_a_spec(hardware: str, model: str) -> None:
    request = Request.from_params({"hardware": hardware, "model": model})
    spec = request.spec("x")
    assert spec.gpus <= spec.hardware.gpus
    assert {w.role for w in spec.workers} == set(spec.hardware.workers)
    assert request.model in request.title and request.hardware in request.title


@given(kind=st.sampled_from(["trial", "baseline", "benchmark", "recorded", "placed", "deploy"]), run_id=st.text())
def test_names_are_the_same_for_a_retry_and_fit_kubernetes(kind: str, run_id: str) -> None:
    name = deployment_name(kind, run_id)
    assert name == deployment_name(kind, run_id)
    assert len(name) <= MAX_NAME and re.fullmatch(r"[a-z][-a-z0-9]*[a-z0-9]", name)
    assert name != deployment_name(kind, run_id + "x")


def test_a_chunk_that_is_no_whole_page_is_refused_with_some_that_are() -> None:
    finding = refused(prefill_chunks=[8192, 1000])
    assert (finding.field, finding.value) == ("prefill_chunks", 1000)
    assert "128" in finding.rule and "[8192, 16384]" in finding.suggestion
    assert Request.from_params({"prefill_chunks": [8192, 16384]}).space["chunked_prefill_size"] == (8192, 16384)


@pytest.mark.parametrize(
    "params",
    [
        {"trails": 50},
        {"concurrency": None},
        {"concurrency": "8"},
        {"eplb_rebalance_iterations": 0},
        {"eplb_rebalance_iterations": "x"},
        {"trials": None},
        {"trials": 8.5},
        {"trials": True},
        {"seed": -1},
        {"model": ""},
        {"recorder": "all"},
        {"slo_ttft_p99_ms": float("inf")},
        {"slo_ttft_p99_ms": float("nan")},
        {"isl": {1}},
        {"dimensions": []},
        {"dimensions": ["redundant_slot"]},
        {"dimensions": ["chunked_prefill_size"]},
        {"repeat_of": "x"},
        {"keep_hours": 0},
    ],
    ids=str,
)
def test_whatever_is_wrong_is_refused_with_its_field_and_a_way_out(params: dict[str, Any]) -> None:
    finding = refused(**params)
    assert finding.field in {*params, "prefill_chunks"}
    assert finding.rule and finding.suggestion


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refused) as refusal:
        Request.from_params({"trails": 50, "osl": 0, "min_graph_bs": 512})
    assert [f.field for f in refusal.value.findings] == ["trails", "osl"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
NAMES = [p.name for p in (*request_parameters(), *RUN_OPTIONS)]


@settings(deadline=None)
@given(params=st.dictionaries(st.sampled_from(NAMES) | st.text(min_size=1, max_size=8), JSON, max_size=3))
def test_any_json_is_accepted_or_refused(params: dict[str, Any]) -> None:
    try:
        request = Request.from_params(params)
    except Refused as refusal:
        assert all(f.field and f.rule and f.suggestion for f in refusal.findings)
    else:
        assert Request.model_validate(json.loads(request.model_dump_json())) == request


def test_a_request_file_takes_no_options_of_a_run() -> None:
    assert Request.from_file({"trials": 3}).trials == 3
    for wrong in ({"cycle_id": "x"}, ["trials"], None):
        with pytest.raises(Refused):
            Request.from_file(wrong)


def test_a_sweep_varies_what_it_is_told_to() -> None:
    assert list(Request.from_params({}).space.model_dump()) == [
        "redundant_slots",
        "mem_fraction_static",
        "cuda_graph_max_bs",
    ]
    told = {"dimensions": ["prefill_mem_fraction_static"], "prefill_chunks": [8192], "max_mem_fraction": 0.1}
    assert Request.from_params(told).space.model_dump() == {
        "chunked_prefill_size": (8192,),
        "prefill_mem_fraction_static": (0.8, 0.98),
    }


def test_a_request_stored_under_older_names_is_read() -> None:
    stored = Request.from_params({}).model_dump(mode="json")
    older = {"rebalance_iterations" if k == "eplb_rebalance_iterations" else k: v for k, v in stored.items()}
    assert Request.model_validate(as_stored(older)) == Request.from_params({})
