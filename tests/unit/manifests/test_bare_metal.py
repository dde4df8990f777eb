"""Commands for hosts without Kubernetes: ranks, GPUs and discovery, and SGLang's own parser on each command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from wideloop.manifests import bare_metal
from wideloop.manifests.bare_metal import NodeCommand, bare_metal_commands, hosts_needed
from wideloop.manifests.errors import Refused
from wideloop.operators.commands.cli import app

from tests.unit.manifests.kubernetes.golden_cases import CASES

SPECS = {case.name: case.spec() for case in CASES}


def commands(case: str) -> list[NodeCommand]:
    spec = SPECS[case]
    return bare_metal_commands(spec, [f"h{n}" for n in range(hosts_needed(spec))])


def flag(command: NodeCommand, name: str) -> str:
    return command.argv[command.argv.index(name) + 1]


def test_the_104_gpus_of_the_published_example_are_thirteen_hosts() -> None:
    ranks = [c for c in commands("r1-104") if "rank" in c.name]
    assert len(ranks) == 13
    assert [(c.host, flag(c, "--node-rank"), flag(c, "--dist-init-addr")) for c in ranks] == [
        *((f"h{n}", str(n), "h0:29500") for n in range(4)),
        *((f"h{4 + n}", str(n), "h4:29500") for n in range(9)),
    ]
    assert {flag(c, "--nnodes") for c in ranks[:4]} == {"4"} and {flag(c, "--nnodes") for c in ranks[4:]} == {"9"}
    assert {c.env["CUDA_VISIBLE_DEVICES"] for c in ranks} == {"0,1,2,3,4,5,6,7"}


def test_workers_of_one_host_have_gpus_and_ports_of_their_own_and_no_ranks() -> None:
    found = {c.name: c for c in commands("small-8")}
    assert {c.host for c in found.values()} == {"h0"}
    prefill, decode = found["prefill-0"], found["decode-0"]
    assert (prefill.env["CUDA_VISIBLE_DEVICES"], decode.env["CUDA_VISIBLE_DEVICES"]) == ("0,1,2,3", "4,5,6,7")
    assert prefill.env["DYN_SYSTEM_PORT"] != decode.env["DYN_SYSTEM_PORT"]
    assert "--nnodes" not in prefill.argv


def test_components_find_each_other_at_the_first_host() -> None:
    etcd, frontend, *workers = commands("r1-32")
    assert (etcd.argv[0], etcd.host, frontend.host) == ("etcd", "h0", "h0")
    for command in (frontend, *workers):
        assert command.env["ETCD_ENDPOINTS"] == "http://h0:2379"
        assert command.env["DYN_DISCOVERY_BACKEND"] == "etcd"


def test_a_providers_environment_is_there_too() -> None:
    workers = [c for c in commands("r1-coreweave") if "rank" in c.name]
    assert {c.env["NCCL_IB_HCA"] for c in workers} == {"ibp"}


def test_each_workers_flags_are_those_of_its_pod() -> None:
    """The operator adds the ranks; everything else is the same engine."""
    pod_args = next(
        c["podTemplate"]["spec"]["containers"][0]["args"]
        for c in next(case for case in CASES if case.name == "r1-32").documents("v1beta1")[0]["spec"]["components"]
        if c["name"] == "decode"
    )
    rank = next(c for c in commands("r1-32") if c.name == "decode-0 rank 0 of 2")
    assert rank.argv[3 : 3 + len(pod_args)] == tuple(pod_args)


@pytest.mark.parametrize("hosts", [[], ["a"], ["a", "b", "c"], ["a", "a", "b", "c"], ["a", "b", "c", "d", "e"]])
def test_other_hosts_than_it_takes_are_refused_with_how_many(hosts: list[str]) -> None:
    with pytest.raises(Refused, match="takes 4 different hosts"):
        bare_metal_commands(SPECS["r1-32"], hosts)


def test_an_engine_without_dynamo_is_refused() -> None:
    with pytest.raises(Refused, match="Use 'dynamo-sglang'"):
        bare_metal_commands(SPECS["simulated-8"], ["h0"])


def test_the_text_is_what_a_shell_takes() -> None:
    text = bare_metal.as_text(commands("r1-16"))
    assert text.count("### h") == 2
    block = next(b for b in text.split("# ") if b.startswith("decode-0"))
    words = shlex.split(block.split("\n", 1)[1].split("\n\n")[0].replace("\\\n", " "))
    env = [w for w in words if "=" in w and not w.startswith("-")]
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in env
    assert words[len(env)] == "python3"


def test_the_command_prints_every_host(tmp_path: Path) -> None:
    request: dict[str, Any] = {"engine": "dynamo-sglang", "target": "dynamo", "model": "DeepSeek-R1"}
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**request, "hardware": "h100-104", "redundant_experts": 32}))
    done = CliRunner().invoke(app, ["render", "--bare-metal", "--request", str(file), "--model-path", "/data/r1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("### node-") == 13
    assert "--model-path /data/r1" in done.stdout
    few = CliRunner().invoke(app, ["render", "--bare-metal", "--request", str(file), "--hosts", "a,b"])
    assert few.exit_code == 2
    assert "takes 13 different hosts, and 2 are named" in few.stderr
