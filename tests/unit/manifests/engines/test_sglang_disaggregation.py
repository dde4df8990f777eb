"""Prefill and decode servers on one host, as command lines. Their own parsers judge them in ``test_sglang_parser``."""

from __future__ import annotations

from itertools import pairwise

import pytest
from wideloop.manifests import profiles
from wideloop.manifests.deployment import DeploymentSpec, Knobs, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Site

SGLANG = get_engine("sglang")
PEERS = {
    "frontend": {"http": 21000, "metrics": 21001},
    "prefill-0": {"control": 21002, "bootstrap": 21003},
    "decode-0": {"control": 21004},
}


def spec(hardware: str = "h200-4", replicas: int = 1, **knobs: Knobs) -> DeploymentSpec:
    profile = profiles.hardware(hardware)
    return SGLANG.resolve(
        DeploymentSpec(
            name="one",
            target="local",
            engine="sglang",
            engine_version="0.5.17",
            image="sha256:0",
            model=profiles.model("Random-Qwen3-MoE-8L"),
            model_path="/models/m",
            hardware=profile,
            workers=tuple(
                WorkerSpec(role=r, layout=w, replicas=replicas, knobs=knobs.get(r, Knobs()))
                for r, w in profile.workers.items()
            ),
        )
    )


def site(component: str, **more: object) -> Site:
    fixed = {"python": "/py", "host": "127.0.0.1", "ports": PEERS[component], "peers": PEERS, "spec_file": "/s"}
    return Site(**{**fixed, "work_dir": f"/w/{component}", "shared_dir": "/sh", "model_path": "/models/m", **more})


def flags(wanted: DeploymentSpec, name: str) -> dict[str, str]:
    component = next(c for c in SGLANG.components(wanted) if c.name == name)
    return dict(pairwise(SGLANG.command(wanted, component, site(name)).argv))


def test_a_router_stands_before_servers_that_have_gpus_of_their_own():
    router, *servers = SGLANG.components(spec(replicas=2))
    assert (router.role, router.ports, router.gpus) == ("frontend", ("http", "metrics"), 0)
    assert [(s.name, s.gpus) for s in servers] == [
        ("prefill-0", 2), ("prefill-1", 2), ("decode-0", 2), ("decode-1", 2)
    ]  # fmt: skip
    assert all("http" not in s.ports for s in servers), "clients are to find the router"


def test_each_role_has_its_own_knobs():
    placed = {"expert_placement": "/p/prefill.json", "redundant_experts": 4}
    wanted = spec(
        prefill=Knobs(mem_fraction_static=0.9, chunked_prefill_size=16384, **placed),
        decode=Knobs(mem_fraction_static=0.8, cuda_graph_max_bs=64),
    )
    prefill, decode = flags(wanted, "prefill-0"), flags(wanted, "decode-0")
    assert (prefill["--mem-fraction-static"], decode["--mem-fraction-static"]) == ("0.9", "0.8")
    assert (prefill["--chunked-prefill-size"], decode["--cuda-graph-max-bs-decode"]) == ("16384", "64")
    assert (prefill["--init-expert-location"], prefill["--ep-num-redundant-experts"]) == ("/p/prefill.json", "4")
    assert not {"--init-expert-location", "--ep-num-redundant-experts", "--chunked-prefill-size"} & decode.keys()
    assert "--cuda-graph-max-bs-decode" not in prefill


def test_ranks_meet_on_this_host_and_recordings_stay_apart():
    wanted = spec().model_copy(update={"record_experts": "stat"})
    _, prefill, decode = SGLANG.components(wanted)
    envs = [SGLANG.command(wanted, c, site(c.name)).env for c in (prefill, decode)]
    assert {e["SGLANG_HOST_IP"] for e in envs} == {"127.0.0.1"}
    assert [e["SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR"] for e in envs] == ["/w/prefill-0", "/w/decode-0"]


def test_servers_stand_by_and_the_router_need_not():
    wanted = spec()
    router, *servers = SGLANG.components(wanted)
    assert SGLANG.standby(wanted, router, site("frontend")) is None
    assert all(SGLANG.standby(wanted, s, site(s.name)) is not None for s in servers)


@pytest.mark.parametrize(
    ("options", "packages"),
    [
        ((), "nixl"),
        (("--disaggregation-transfer-backend", "mooncake"), "mooncake-transfer-engine"),
        (("--disaggregation-transfer-backend=mooncake_tcp",), "mooncake-transfer-engine"),
        (("--disaggregation-transfer-backend", "mooncake", "--disaggregation-transfer-backend", "nixl"), "nixl"),
    ],
)
def test_a_router_and_the_transfer_library_that_the_host_names_are_needed(options: tuple[str, ...], packages: str):
    router, transfer = SGLANG.needs(spec(), options)
    assert router.packages == ("sglang-router",)
    assert transfer.packages[0] == packages
    assert SGLANG.needs(spec("h200-2"), options) == ()


def test_both_halves_on_one_host_are_served():
    assert SGLANG.validate(spec()) == []
    assert SGLANG.validate(spec("h200-8")) == []


def test_half_a_deployment_and_copies_without_a_router_are_refused():
    both = spec()
    half = SGLANG.validate(both.model_copy(update={"workers": both.workers[:1]}))
    assert any("no decode worker" in f.rule for f in half)
    assert any(f.field == "aggregated.replicas" for f in SGLANG.validate(spec("h200-2", replicas=2)))
