import pytest
from wideloop.manifests.deployment import Knobs
from wideloop.manifests.engines import engine_names, get_engine
from wideloop.manifests.engines.base import Component, Site
from wideloop.manifests.engines.sglang_defaults import capture_list
from wideloop.manifests.errors import Refused
from wideloop.manifests.hardware import WorkerLayout

from tests.unit.tuning.test_memory import deployment

SIMULATED = get_engine("simulated")
DECODE = Component(name="decode-0", role="decode")


def test_engines_are_found_by_name():
    assert "simulated" in engine_names()
    with pytest.raises(Refused, match="Did you mean 'simulated'"):
        get_engine("simulation")


def test_a_disaggregated_deployment_has_a_frontend_and_its_replicas():
    spec = deployment("Qwen3-30B-A3B-FP8", "l4-8")
    twice = spec.model_copy(update={"workers": (spec.workers[0], spec.workers[1].model_copy(update={"replicas": 2}))})
    assert [c.name for c in SIMULATED.components(twice)] == ["frontend", "prefill-0", "decode-0", "decode-1"]


def test_every_port_a_component_asks_for_is_on_its_command_line():
    spec = deployment("Qwen3-30B-A3B-FP8", "l4-8")
    for component in SIMULATED.components(spec):
        ports = {name: 20000 + i for i, name in enumerate(component.ports)}
        site = Site(
            python="/env/bin/python", host="127.0.0.1", ports=ports, spec_file="/w/spec.json", work_dir="/w/own",
            shared_dir="/w/shared", model_path="/w/model",
        )  # fmt: skip
        command = SIMULATED.command(spec, component, site)
        assert command.argv[:2] == ("/env/bin/python", "-m")
        assert {str(p) for p in ports.values()} <= set(command.argv)
        assert command.env["DYN_DISCOVERY_BACKEND"] == "file"
        assert command.env["DYN_FILE_KV"] == "/w/shared/kv"
        assert "127.0.0.1" in command.argv


def test_resolving_fills_in_sglangs_defaults_and_keeps_what_was_given():
    spec = deployment("DeepSeek-R1", "h200-16", cuda_graph_max_bs=128)
    decode, prefill = spec.worker("decode").knobs, spec.worker("prefill").knobs
    assert (decode.cuda_graph_max_bs, prefill.chunked_prefill_size) == (128, 8192)
    assert 0.8 < decode.mem_fraction_static < 0.93
    assert SIMULATED.resolve(spec) == spec


def test_sglangs_own_example_of_the_memory_heuristic():
    """H200, decode, attention DP 16, graphs up to 256: about 0.86 (SGLang 0.5.23, memory_hook.py)."""
    spec = deployment("DeepSeek-R1", "h200-32", cuda_graph_max_bs=256)
    assert spec.worker("decode").knobs.mem_fraction_static == pytest.approx(0.86, abs=0.03)


def test_the_capture_list_is_sglangs():
    sizes = capture_list(512)
    assert len(sizes) == 52
    assert sizes[:6] == (1, 2, 4, 8, 12, 16)
    assert capture_list(8) == (1, 2, 4, 8)
    assert capture_list(10)[-1] == 10


def test_online_rebalancing_is_simulated():
    spec = deployment("DeepSeek-R1", "h200-16")
    online = spec.with_knobs("o", {"decode": Knobs(eplb="online")})
    assert SIMULATED.validate(online) == []


def test_a_layout_problem_is_found_before_launch():
    spec = deployment("DeepSeek-R1", "h200-16")
    bad = WorkerLayout(nodes=1, gpus_per_node=8, tp=8, dp=8, ep=3)
    workers = (spec.workers[0], spec.workers[1].model_copy(update={"layout": bad}))
    assert "decode.ep" in [f.field for f in SIMULATED.validate(spec.model_copy(update={"workers": workers}))]


#: Lines of real SGLang logs on two H200s.
REAL = {
    "capture": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total capacity of "
        "139.80 GiB of which 18.31 MiB is free.\nException: Capture cuda graph failed: CUDA out of memory.",
        "capturing",
    ),
    "nccl": (
        "torch.distributed.DistBackendError: NCCL error in: x.cpp, unhandled cuda error\n"
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nFailed to CUDA calloc 268435456 bytes",
        "out of GPU memory",
    ),
    "no kv": (
        "ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.1. Raise "
        "--mem-fraction-static above 0.138 (minimum viable = 1 - available/pre = 0.1379).",
        "0.138",
    ),
    "load": ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out of GPU memory"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_out_of_memory_logs_are_understood(name):
    text, expected = REAL[name]
    diagnosis = SIMULATED.diagnose(DECODE, ["start", *text.split("\n")], -9)
    assert diagnosis.kind == "out_of_memory"
    assert expected in diagnosis.message
    assert diagnosis.log_tail[0] == "start"


def test_the_missing_memory_is_read_where_the_log_states_it():
    assert SIMULATED.diagnose(DECODE, REAL["capture"][0].split("\n"), -9).deficit_gib == pytest.approx(13.69 / 1024)
    assert SIMULATED.diagnose(DECODE, REAL["nccl"][0].split("\n"), -9).deficit_gib == pytest.approx(0.25)
    assert SIMULATED.diagnose(DECODE, [REAL["load"][0]], -9).deficit_gib is None


@pytest.mark.parametrize(("code", "text"), [(-9, "signal 9"), (1, "status 1"), (None, "unknown status")])
def test_a_death_without_a_known_cause_is_a_crash(code, text):
    diagnosis = SIMULATED.diagnose(DECODE, ["something else"], code)
    assert diagnosis.kind == "crashed"
    assert text in diagnosis.message
