import pytest
from wideloop.manifests.deployment import Knobs
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Site

from tests.unit.manifests.engines.test_sglang_checks import spec

ENGINE = get_engine("dynamo-sglang")


def site(**changes):
    given = {
        "python": "python3", "host": "$(POD_IP)", "ports": {"http": 8000, "control": 9090, "bootstrap": 30001},
        "spec_file": "/spec.json", "work_dir": "/files/decode", "shared_dir": "/shared", "model_path": "/models/r1",
    }  # fmt: skip
    return Site(**(given | changes))


def command(wanted, role, **changes):
    component = next(c for c in ENGINE.components(wanted) if c.role == role)
    return ENGINE.command(wanted, component, site(**changes))


def value(argv, flag):
    return argv[argv.index(flag) + 1]


def test_a_worker_over_nodes_uses_deepep_in_the_mode_of_its_role():
    resolved = ENGINE.resolve(spec(hardware="h200-32"))
    assert [(w.role, w.knobs.deepep_mode) for w in resolved.workers] == [
        ("prefill", "normal"),
        ("decode", "low_latency"),
    ]
    assert ENGINE.resolve(resolved) == resolved
    single = ENGINE.resolve(spec(hardware="h200-16", version="0.5.23"))
    assert [w.knobs.deepep_mode for w in single.workers] == [None, None]
    kept = ENGINE.resolve(spec(hardware="h200-32", knobs={"decode": Knobs(deepep_mode="auto")}))
    assert kept.worker("decode").knobs.deepep_mode == "auto"


def test_graphs_end_where_the_dispatch_does():
    """SGLang's own choice, 512, fails at capture: its default of the dispatch is 128."""
    wide = ENGINE.resolve(spec(hardware="h200-32"))
    assert wide.worker("decode").knobs.cuda_graph_max_bs == 128
    roomy = ENGINE.resolve(spec(hardware="h200-32", knobs={"decode": Knobs(deepep_dispatch_tokens=256)}))
    assert roomy.worker("decode").knobs.cuda_graph_max_bs == 256


@pytest.mark.parametrize(("graph", "tokens"), [(64, "128"), (256, "256"), (768, "768")])
def test_the_dispatch_holds_every_captured_batch(graph, tokens):
    wanted = ENGINE.resolve(spec(hardware="h200-32", knobs={"decode": Knobs(cuda_graph_max_bs=graph)}))
    environment = command(wanted, "decode").env
    assert environment["SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK"] == tokens
    assert "SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK" not in command(wanted, "prefill").env


def test_what_the_pipeline_asks_of_a_worker_is_exposed():
    argv = command(ENGINE.resolve(spec()), "decode").argv
    exposed = {argv[i + 1].removesuffix(":tm") for i, a in enumerate(argv) if a == "--engine-route"}
    paths = {ENGINE.flush_path, ENGINE.recorder.start_path, ENGINE.recorder.stop_path, ENGINE.recorder.dump_path}
    assert {p.removeprefix("/engine/") for p in paths} == exposed
    assert ENGINE.flush_call(60) == ("/engine/flush_cache", {"timeout_s": 60})


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ('{"success": true, "message": ""}', None),
        ('{"status": "ok"}', None),
        ("", None),
        ('{"success": false, "message": "3 requests are running"}', "3 requests are running"),
        ('{"success": false}', '{"success": false}'),
    ],
)
def test_success_is_in_the_answer_not_in_its_status(answer, refusal):
    assert ENGINE.refusal(answer) == refusal


def test_recordings_go_where_the_target_says():
    wanted = ENGINE.resolve(spec()).model_copy(update={"record_experts": "per_pass"})
    decode = command(wanted, "decode", work_dir="/files/r1/decode/$(POD_NAME)")
    assert decode.env["SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"] == "/files/r1/decode/$(POD_NAME)"
    assert value(decode.argv, "--expert-distribution-recorder-mode") == "per_pass"


@pytest.mark.parametrize(
    ("version", "flag"), [("0.5.21", "--dp-size"), ("0.5.23", "--attn-dp-size"), ("", "--dp-size")]
)
def test_flags_are_those_of_the_version(version, flag):
    argv = command(ENGINE.resolve(spec(version=version)), "decode").argv
    assert value(argv, flag) == "8"


def test_online_rebalancing_keeps_the_recorder_within_its_interval():
    """``assert`` in EPLBManager: no more passes recorded than lie between two rebalances."""
    wanted = ENGINE.resolve(spec(knobs={"decode": Knobs(eplb="online", eplb_rebalance_iterations=50)}))
    argv = command(wanted, "decode").argv
    assert value(argv, "--eplb-rebalance-num-iterations") == "50"
    assert value(argv, "--expert-distribution-recorder-buffer-size") == "50"


@pytest.mark.parametrize(("mode", "algorithm"), [(None, "dynamic"), ("low_latency", "static")])
def test_without_deepep_all_ranks_pick_the_same_replica(mode, algorithm):
    """ "static" without an all-to-all back end is a ValueError in SGLang."""
    wanted = spec(knobs={"decode": Knobs(redundant_experts=32, deepep_mode=mode)})
    assert value(command(wanted, "decode").argv, "--ep-dispatch-algorithm") == algorithm
    assert "--ep-dispatch-algorithm" not in command(spec(), "decode").argv


def test_an_nvlink_domain_of_several_nodes_is_told_to_nccl():
    rack = ENGINE.resolve(spec(hardware="gb200-nvl72"))
    assert command(rack, "decode").env["NCCL_MNNVL_ENABLE"] == "1"
    assert "NCCL_MNNVL_ENABLE" not in command(ENGINE.resolve(spec(hardware="h200-32")), "decode").env


def test_files_in_the_cache_are_not_looked_for_on_the_hub():
    assert command(spec(), "frontend").env == {"HF_HUB_OFFLINE": "1"}
    assert command(spec(), "frontend", model_path="deepseek-ai/DeepSeek-R1").env == {}


def test_large_or_distributed_models_may_load_for_long():
    small = command(spec("Qwen3-30B-A3B", "h200-8"), "decode").argv
    assert "--dist-timeout" not in small
    assert value(command(spec(), "decode").argv, "--dist-timeout") == "3600"
    assert value(command(spec("Qwen3-30B-A3B", "h200-32"), "decode").argv, "--watchdog-timeout") == "3600"


def test_compiled_kernels_outlive_a_deployment_where_the_target_says():
    kept = command(spec(), "decode", cache_dir="/files/kernel-cache/0a").env
    assert {kept[name] for name in ("TRITON_CACHE_DIR", "SGLANG_DG_CACHE_DIR")} == {
        "/files/kernel-cache/0a/triton",
        "/files/kernel-cache/0a/deep_gemm",
    }
    assert "TRITON_CACHE_DIR" not in command(spec(), "decode").env
