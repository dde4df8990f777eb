"""Every command line we render, parsed by the engine's own argument parser, for the versions we know."""

import json
import os
import subprocess
import sysconfig

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine, sglang_flags
from wideloop.manifests.engines.base import Site
from wideloop.operators.bootstrap import PROJECT
from wideloop.operators.settings import Settings

from tests.unit.manifests.kubernetes.golden_cases import CASES

VERSIONS = ("0.5.17", "0.5.21", "0.5.23")
#: The version that the Dynamo of environment "simulated" is made for.
DYNAMOS = "0.5.21"
REAL = [case for case in CASES if case.engine == "dynamo-sglang"]


def environment(name):
    folder = Settings().environments / name
    if not folder.exists():
        message = f"environment {name} is not built: python3 operators/bootstrap.py --tests"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return folder


def packages(name):
    (folder,) = (environment(name) / "lib").glob("python*/site-packages")
    return str(folder)


class Parser:
    """The parser of one version, in a process of its own: SGLang's imports take seconds."""

    def __init__(self, version, of=None):
        torch = sysconfig.get_path("purelib")  # of this environment, airflow's
        options = [f"--{of}"] if of else []
        python = environment("simulated" if of == "dynamo" else "airflow") / "bin" / "python"
        for folder in (packages(f"sglang-parser-{version}"), torch):
            options += ["--append", folder]
        command = [str(python), "-m", "tests.engine_parser", *options]
        self.version = version
        self.process = subprocess.Popen(
            command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __call__(self, line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline() or '{"error": "the parser died"}')

    def close(self):
        self.process.communicate()


@pytest.fixture(scope="module", params=VERSIONS)
def parser(request):
    """Each holds 0.6 GB, so pytest has one after the other."""
    found = Parser(request.param)
    yield found
    found.close()


def apart(version, hardware):
    """(component, site, arguments) of every process of prefill and decode servers on one host."""
    native, profile = get_engine("sglang"), profiles.hardware(hardware)
    spec = native.resolve(DeploymentSpec(
        name="one", target="local", engine="sglang", engine_version=version, image="sha256:0", model_path="/m",
        model=profiles.model("Qwen3-30B-A3B"), hardware=profile, record_experts="stat",
        workers=tuple(WorkerSpec(role=r, layout=w, replicas=2) for r, w in profile.workers.items()),
    ))  # fmt: skip
    components = native.components(spec)
    numbers = iter(range(20000, 21000))
    peers = {c.name: {port: next(numbers) for port in c.ports} for c in components}
    for component in components:
        site = Site(
            python="/py", host="127.0.0.1", ports=peers[component.name], peers=peers, spec_file="/s", work_dir="/w",
            shared_dir="/sh", model_path="/m", options=("--attention-backend", "triton"),
        )  # fmt: skip
        argv = native.command(spec, component, site).argv
        yield spec, component, site, argv[argv.index("--") + 1 if "--" in argv else 3 :]


def worker_lines(version):
    """(spec, worker, arguments of ``python -m dynamo.sglang``) of every worker of every golden case."""
    for case in REAL:
        spec = case.spec(version)
        for component in case.documents("v1beta1", version)[0]["spec"]["components"]:
            (main,) = component["podTemplate"]["spec"]["containers"]
            if main["command"][-1] == "dynamo.sglang":
                role = "aggregated" if component["name"] == "worker" else component["name"]
                yield spec, spec.worker(role), main["args"]


def without_routes(args):
    pairs = zip(args, [*args[1:], ""], strict=True)
    skip = {i + k for i, (flag, _) in enumerate(pairs) if flag == "--engine-route" for k in (0, 1)}
    return [a for i, a in enumerate(args) if i not in skip]


def agrees(parsed, spec, worker, version):
    """Whether the engine understood what the specification says."""
    knobs, layout = worker.knobs, worker.layout
    assert (parsed["tp_size"], parsed["ep_size"]) == (layout.tp, layout.ep)
    if version == "0.5.23":
        assert (parsed["attn_dp_size"], parsed["dp_size"]) == (layout.dp, 1)
    else:
        assert (parsed["dp_size"], parsed["enable_dp_attention"]) == (layout.dp, layout.dp > 1)
    assert parsed["enable_dp_lm_head"] == (layout.dp > 1)
    assert parsed["moe_a2a_backend"] == ("none" if knobs.deepep_mode is None else "deepep")
    assert parsed["deepep_mode"] == (knobs.deepep_mode or "auto")
    assert parsed["ep_num_redundant_experts"] == knobs.redundant_experts
    assert parsed["mem_fraction_static"] == knobs.mem_fraction_static
    graph = knobs.cuda_graph_max_bs if sglang_flags.captures_decode(worker) else None
    assert parsed["cuda_graph_max_bs_decode"] == graph
    assert parsed["enable_eplb"] == (knobs.eplb == "online")
    assert parsed["enable_two_batch_overlap"] == knobs.two_batch_overlap
    assert parsed["max_running_requests"] == knobs.max_running_requests
    if worker.role != "decode":
        assert parsed["chunked_prefill_size"] == knobs.chunked_prefill_size
    if knobs.eplb != "online":
        assert parsed["expert_distribution_recorder_mode"] == spec.record_experts
    assert parsed["served_model_name"] == spec.model.name


def test_the_engine_understands_every_golden_worker(parser):
    workers = list(worker_lines(parser.version))
    assert len(workers) >= 13
    for spec, worker, args in workers:
        answer = parser(without_routes(args))
        assert "error" not in answer, answer
        agrees(answer["parsed"], spec, worker, parser.version)
        mode = "null" if worker.role == "aggregated" else worker.role
        assert answer["parsed"]["disaggregation_mode"] == mode


@pytest.mark.parametrize("hardware", ["h200-4", "h200-8"])
def test_the_engine_understands_servers_of_its_own_that_prefill_or_decode(parser, hardware):
    lines = [line for line in apart(parser.version, hardware) if line[1].role != "frontend"]
    assert len(lines) == 4
    for spec, component, site, args in lines:
        answer = parser([*args])
        assert "error" not in answer, answer
        parsed = answer["parsed"]
        agrees(parsed, spec, spec.worker(component.role), parser.version)
        assert (parsed["disaggregation_mode"], parsed["disaggregation_transfer_backend"]) == (component.role, "nixl")
        assert (parsed["host"], parsed["port"]) == ("127.0.0.1", site.ports["control"])
        assert parsed["disaggregation_ib_device"] is None
        if component.role == "prefill":
            assert parsed["disaggregation_bootstrap_port"] == site.ports["bootstrap"]
        other = ["--disaggregation-transfer-backend", "mooncake", "--disaggregation-ib-device", "mlx5_0"]
        parsed = parser([*args, *other])["parsed"]
        assert (parsed["disaggregation_transfer_backend"], parsed["disaggregation_ib_device"]) == (other[1], other[3])


def test_the_router_understands_where_its_servers_are():
    router = Parser(DYNAMOS, of="router")
    _, component, site, args = next(apart(DYNAMOS, "h200-4"))
    assert component.role == "frontend"
    try:
        answer, refused = router([*args]), router(["--no-such-flag"])
    finally:
        router.close()
    assert "unrecognized" in refused["error"]
    assert "error" not in answer, answer
    parsed, peers = answer["parsed"], site.peers
    urls = {name: f"http://127.0.0.1:{ports['control']}" for name, ports in peers.items() if name != "frontend"}
    assert parsed["prefill_urls"] == [[urls[n], peers[n]["bootstrap"]] for n in ("prefill-0", "prefill-1")]
    assert parsed["decode_urls"] == [urls["decode-0"], urls["decode-1"]]
    assert (parsed["port"], parsed["prometheus_port"]) == (peers["frontend"]["http"], peers["frontend"]["metrics"])
    assert parsed["pd_disaggregation"] and parsed["disable_retries"] and parsed["policy"] == "round_robin"


#: Flags that a version does not have.
DEAD = {
    "0.5.17": (["--attn-dp-size", "8"], ["--expert-balancedness-report-mode", "both"]),
    "0.5.21": (
        ["--attn-dp-size", "8"],
        ["--cuda-graph-max-bs", "128"],
        ["--enable-expert-distribution-metrics"],
    ),
    "0.5.23": (["--cuda-graph-max-bs", "128"], ["--enable-deepep-moe"], ["--prefill-round-robin-balance"]),
}


def test_the_parser_refuses_flags_of_other_versions(parser):
    """So that its silence about ours says something."""
    assert "parsed" in parser(["--model-path", "m"])
    for dead in DEAD[parser.version]:
        refused = parser(["--model-path", "m", *dead])
        assert "unrecognized" in refused["error"] or "ambiguous" in refused["error"]


KNOBS = st.builds(
    Knobs,
    redundant_experts=st.sampled_from([0, 16, 32, 64]),
    mem_fraction_static=st.none() | st.floats(0.1, 0.95),
    cuda_graph_max_bs=st.none() | st.integers(1, 512),
    eplb=st.sampled_from(["off", "static", "online"]),
    eplb_rebalance_iterations=st.integers(1, 5000),
    expert_placement=st.none() | st.just("/wideloop/config/placement-decode.json"),
    deepep_mode=st.sampled_from([None, "auto", "normal", "low_latency"]),
    deepep_dispatch_tokens=st.none() | st.integers(1, 1024),
    two_batch_overlap=st.booleans(),
    chunked_prefill_size=st.none() | st.integers(1, 1 << 20),
    max_running_requests=st.none() | st.integers(1, 1 << 16),
)


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(REAL),
    knobs=KNOBS,
    recorder=st.sampled_from([None, "stat", "stat_approx", "per_pass", "per_token"]),
)
def test_the_engine_understands_any_knobs(parser, case, knobs, recorder):
    spec = case.spec(parser.version).model_copy(update={"record_experts": recorder})
    spec = spec.with_knobs(spec.name, {w.role: knobs for w in spec.workers})
    for worker in spec.workers:
        line = [*sglang_flags.server_args(spec, worker, model_path="/m", version=parser.version)]
        answer = parser(line)
        assert "error" not in answer, answer
        agrees(answer["parsed"], spec, worker, parser.version)


def test_dynamo_understands_its_own_flags():
    dynamo = Parser(DYNAMOS, of="dynamo")
    try:
        answers = [dynamo(args) for _, _, args in worker_lines(DYNAMOS)]
    finally:
        dynamo.close()
    for answer in answers:
        assert "error" not in answer, answer
        assert answer["parsed"]["engine_routes"] == [
            "start_expert_distribution_record:tm",
            "stop_expert_distribution_record:tm",
            "dump_expert_distribution_record:tm",
            "flush_cache:tm",
        ]
