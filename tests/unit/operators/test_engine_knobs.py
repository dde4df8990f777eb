"""The engine's parameters of each role reach the command line, and what they leave open stays the engine's choice."""

from __future__ import annotations

from typing import Any

import pytest
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.sglang_flags import server_args
from wideloop.manifests.errors import Refused
from wideloop.operators.request import Request
from wideloop.operators.request.engine_knobs import engine_parameters
from wideloop.operators.steps.configurations import check

CLUSTER = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": "h200-32"}


def spec_of(**params: Any) -> Any:
    return Request.from_params({**CLUSTER, **params}).spec("s")


def args(role: str, **params: Any) -> str:
    spec = spec_of(**params)
    return " ".join(server_args(spec, spec.worker(role), model_path="/m", version=spec.engine_version))


@pytest.mark.parametrize(
    ("role", "params", "flags"),
    [
        ("prefill", {"prefill_deepep_mode": "normal"}, "--deepep-mode normal"),
        ("decode", {"decode_deepep_mode": "normal"}, "--deepep-mode normal"),
        ("decode", {"decode_two_batch_overlap": True}, "--enable-two-batch-overlap"),
        ("prefill", {"prefill_redundant_experts": 32}, "--ep-num-redundant-experts 32"),
        ("prefill", {"prefill_mem_fraction_static": 0.7}, "--mem-fraction-static 0.7"),
        ("prefill", {"prefill_chunked_prefill_size": 16384}, "--chunked-prefill-size 16384"),
        ("decode", {"decode_max_running_requests": 2048}, "--max-running-requests 2048"),
        ("decode", {"decode_max_total_tokens": 131072}, "--max-total-tokens 131072"),
        ("prefill", {"prefill_context_length": 8192}, "--context-length 8192"),
        ("decode", {"decode_radix_cache": False}, "--disable-radix-cache"),
        ("decode", {"decode_page_size": 64}, "--page-size 64"),
        ("decode", {"decode_attention_backend": "flashmla"}, "--attention-backend flashmla"),
        (
            "decode",
            {"redundant_experts": 32, "decode_dispatch_algorithm": "dynamic"},
            "--ep-dispatch-algorithm dynamic",
        ),
    ],
)
def test_a_parameter_of_a_role_is_a_flag_of_that_role_alone(role: str, params: dict[str, Any], flags: str) -> None:
    other = "decode" if role == "prefill" else "prefill"
    assert flags in args(role, **params)
    if "redundant_experts" not in params:
        assert args(other, **params) == args(other)


def test_deepep_can_be_left_out_and_is_chosen_where_nothing_is_said() -> None:
    off = spec_of(hardware="h200-16", decode_deepep_mode="off")
    assert [w.knobs.deepep_mode for w in off.workers] == ["normal", None]
    single = spec_of(hardware="h200-16", engine_version="0.5.23", decode_deepep_mode="low_latency")
    assert [w.knobs.deepep_mode for w in single.workers] == [None, "low_latency"]


def test_an_aggregated_worker_takes_the_parameters_of_both_roles() -> None:
    params = {"hardware": "h200-8-aggregated", "prefill_chunked_prefill_size": 4096, "decode_page_size": 64}
    (worker,) = spec_of(**params).workers
    assert (worker.knobs.chunked_prefill_size, worker.knobs.page_size) == (4096, 64)


def test_further_flags_are_words_of_a_shell_and_reach_the_command_line() -> None:
    spec = spec_of(decode_engine_options=["--kv-cache-dtype fp8_e4m3", "--log-level=info"])
    assert spec.worker("decode").options == ("--kv-cache-dtype", "fp8_e4m3", "--log-level=info")
    assert spec.worker("prefill").options == ()
    assert [f for f in check(spec) if f.severity == "error"] == []


@pytest.mark.parametrize("flag", ["--tp 4", "--mem-frac=0.5", "--no-such-flag"])
def test_further_flags_are_judged_before_anything_is_launched(flag: str) -> None:
    wrong = [f for f in check(spec_of(prefill_engine_options=[flag])) if f.severity == "error"]
    assert [f.field for f in wrong] == ["prefill_engine_options"]


def test_a_quotation_that_is_not_closed_is_refused_with_the_parameter() -> None:
    with pytest.raises(Refused, match="decode_engine_options"):
        spec_of(decode_engine_options=['--chat-template "a'])


def test_every_parameter_has_a_schema_that_takes_its_default() -> None:
    for parameter in engine_parameters():
        schema = parameter.schema()
        if parameter.default is None:
            assert "null" in schema["type"] and ("enum" not in schema or None in schema["enum"])


def test_a_simulated_engine_says_that_it_has_no_flags() -> None:
    spec = Request.from_params({"decode_engine_options": ["--kv-cache-dtype auto"]}).spec("s")
    assert [f.name for f in get_engine("simulated").validate(spec) if f.severity == "warning"] == ["unused-options"]
