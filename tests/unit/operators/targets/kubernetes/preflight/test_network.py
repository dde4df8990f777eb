"""The network between nodes: agents as real processes with a stand-in for the tool, and a scripted Job."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.kubernetes import network_agent, network_check
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.request import Request
from wideloop.operators.targets.kubernetes.api import Api
from wideloop.operators.targets.kubernetes.preflight import network
from wideloop.operators.targets.kubernetes.preflight.fabric import Device, Fabric, Lane, measure, problems, rounds

from tests.unit.operators.targets.kubernetes.scripted_api import Script, answer, serve, write_kubeconfig

DEVICES = [Device(node, f"mlx5_{i}", i) for node in ("a", "b", "c") for i in range(3)]

#: As ``ib_write_bw`` is called and prints. LANES says which lanes work: "all", "rails", or all but those of a device.
TOOL = f"""#!{sys.executable}
import os, socket, sys
argv = sys.argv[1:]
device, port = argv[argv.index("-d") + 1], int(argv[argv.index("-p") + 1])
if argv[-1] == "1000":
    with socket.create_server(("127.0.0.1", port)) as server:
        connection, _ = server.accept()
        connection.recv(100)
        connection.sendall(device.encode())
        sys.exit()
with socket.create_connection((argv[-1], port)) as connection:
    connection.sendall(device.encode())
    other = connection.recv(100).decode()
lanes = os.environ["LANES"]
if (lanes == "rails" and device != other) or {{device, other}} & set(lanes.split(",")):
    sys.exit(print("Failed status 12: wr_id 0 syndrom 0x81") or 1)
print(" #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]")
print(" 65536      1000             391.20             389.95               0.743771")
"""


class HttpAgent:
    """An agent of this host, without a proxy in between."""

    address = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def node(self) -> Mapping[str, object]:
        facts: Mapping[str, object] = self._ask("/", None)
        return facts

    def serve(self, tool: str, lanes: Sequence[Lane]) -> None:
        self._ask("/serve", {"tool": tool, "lanes": lanes})

    def connect(self, tool: str, lanes: Sequence[Lane]) -> Sequence[Mapping[str, object]]:
        sent: Sequence[Mapping[str, object]] = self._ask("/connect", {"tool": tool, "lanes": lanes})
        return sent

    def _ask(self, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self._url + path, data, timeout=60) as reply:
            return json.load(reply)


Agents = Callable[[str, int], list[HttpAgent]]


def free_ports(count: int) -> list[int]:
    """Neighbouring ports that nothing listens on."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return list(range(first, first + count))
    raise AssertionError("no neighbouring ports are free")


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    """Starts agents on nodes of two devices; their tool lets through what the first argument says."""
    processes: list[subprocess.Popen[bytes]] = []
    tool = tmp_path / "bin" / "ib_write_bw"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)

    def start(lanes: str, count: int) -> list[HttpAgent]:
        ports = free_ports(count)
        for index, port in enumerate(ports):
            devices = tmp_path / f"node-{index}"
            for device in ("mlx5_0", "mlx5_1"):
                (devices / device / "ports" / "1").mkdir(parents=True)
                (devices / device / "ports" / "1" / "state").write_text("4: ACTIVE\n")
            names = {"LANES": lanes, "NODE_NAME": f"node-{index}", "WIDELOOP_INFINIBAND": str(devices)}
            path = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
            command = [sys.executable, network_agent.__file__, str(port)]
            processes.append(subprocess.Popen(command, env={**os.environ, **path, **names}))
        made = [HttpAgent(port) for port in ports]
        for agent in made:
            until_it_answers(agent)
        return made

    yield start
    for process in processes:
        process.kill()
        process.wait()


def until_it_answers(agent: HttpAgent) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            agent.node()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("lanes", "works", "rule"),
    [("all", 4, ""), ("rails", 2, "the fabric is rail-only"), ("mlx5_1", 1, "no lane works of device")],
)
def test_every_device_of_a_node_is_tried_against_every_one_of_another(
    agents: Agents, lanes: str, works: int, rule: str
) -> None:
    fabric = measure(agents(lanes, 2), free_ports(2)[0], say=lambda _: None)
    assert fabric.tool == "ib_write_bw" and len(fabric.gbit) == 4
    assert sum(bool(gbit) for gbit in fabric.gbit.values()) == works
    assert max(fabric.gbit.values()) == pytest.approx(389.95)
    rules = [rule for rule, _ in problems(fabric)]
    assert rule in "".join(rules) and bool(rules) == bool(rule)


@pytest.mark.parametrize("nodes", [2, 3, 4, 13])
def test_every_two_nodes_meet_once_and_none_is_in_two_places(nodes: int) -> None:
    drawn = list(rounds(nodes))
    assert sorted(pair for pairs in drawn for pair in pairs) == sorted(itertools.combinations(range(nodes), 2))
    assert all(len({node for pair in pairs for node in pair}) == 2 * len(pairs) for pairs in drawn)


def fabric(works: Callable[[Device, Device], float], devices: list[Device] = DEVICES) -> Fabric:
    pairs = [(a, b) for a, b in itertools.combinations(devices, 2) if a.node != b.node]
    return Fabric(devices, "ib_write_bw", {(a, b): works(a, b) for a, b in pairs}, "Failed status 12")


@pytest.mark.parametrize(
    ("works", "rule"),
    [
        (lambda a, b: 390.0, None),
        (lambda a, b: 390.0 * (a.number == b.number), "rail-only"),
        (lambda a, b: 390.0 * ("b" not in (a.node, b.node)), "no lane works of node b (Failed status 12)"),
        (lambda a, b: 390.0 * (str(a) != "a:mlx5_1"), "no lane works of device a:mlx5_1"),
        (lambda a, b: 390.0 * ({str(a), str(b)} != {"a:mlx5_1", "b:mlx5_2"}), "1 of 27 lanes do not work: a:mlx5_1"),
        (lambda a, b: 100.0 if str(b) == "c:mlx5_0" else 390.0, "6 lanes are slower than half of the others' 390"),
    ],
)
def test_what_is_wrong_is_put_as_the_cause_that_explains_it(
    works: Callable[[Device, Device], float], rule: str | None
) -> None:
    rules = [text for text, _ in problems(fabric(works))]
    assert (len(rules) == 1 and rule in rules[0]) if rule else rules == []


def test_a_port_that_is_down_explains_its_lanes() -> None:
    devices = [Device("a", "mlx5_0", 0, active=False), *DEVICES[1:]]
    rules = [text for text, _ in problems(fabric(lambda a, b: 390.0 * (a.active and b.active), devices))]
    assert rules == ["ports are down: a:mlx5_0"]


# ---- the Job


def spec(hardware: str = "h200-32") -> DeploymentSpec:
    params = {"target": "dynamo", "engine": "dynamo-sglang", "model": "DeepSeek-R1", "hardware": hardware}
    return Request.from_params(params).spec("d", "sha256:" + "a" * 64, "/model-cache/x")


def test_the_job_takes_the_workers_places_and_mounts_no_claim() -> None:
    (job,) = network_check.documents(spec(), ClusterOptions(namespace="ns", rdma_resource="rdma/ib"), "n")
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 4)
    pod = job["spec"]["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["rdma/ib"]) == ("8", "8")
    assert not [v for v in pod["volumes"] if "persistentVolumeClaim" in v or "configMap" in v]
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pod["volumes"]}
    compile(pod["containers"][0]["command"][2], "agent", "exec")


def agent_pod(index: int) -> dict[str, Any]:
    labels = {"batch.kubernetes.io/job-completion-index": str(index)}
    status = {"phase": "Running", "podIP": f"10.0.0.{index}", "containerStatuses": [{"state": {"running": {}}}]}
    return {"metadata": {"name": f"p{index}", "namespace": "ns", "labels": labels}, "spec": {}, "status": status}


@pytest.mark.parametrize(("devices", "word"), [(1, "4 of 4 lanes work"), (0, "no pod sees an RDMA device")])
def test_the_job_is_made_followed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, word: str
) -> None:
    monkeypatch.setattr(network.secrets, "token_hex", lambda _: "x")
    monkeypatch.setattr(network.network_check, "nodes", lambda _: 2)
    script, job = Script(), "/apis/batch/v1/namespaces/ns/jobs"
    document = {"kind": "Job", "metadata": {"name": "wideloop-network-x", "namespace": "ns", "uid": "1", "labels": {}}}
    for method, path in (("POST", job), ("DELETE", f"{job}/wideloop-network-x")):
        script.on(method, path, answer(200, document))
    pods = {"items": [agent_pod(0), agent_pod(1)], "metadata": {"resourceVersion": "1"}}
    script.on("GET", "/api/v1/namespaces/ns/pods", answer(200, pods))
    there = [{"name": f"mlx5_{i}", "active": True} for i in range(2 * devices)]
    for pod in ("p0", "p1"):
        proxy = f"/api/v1/namespaces/ns/pods/{pod}:{network_check.AGENT_PORT}/proxy"
        script.on("GET", f"{proxy}/", answer(200, {"node": pod, "devices": there, "tools": ["torch"]}))
        script.on("POST", f"{proxy}/serve", answer(200, {}))
        script.on("POST", f"{proxy}/connect", answer(200, [{"gbit": 380.0, "error": ""}] * 2))
    with serve(script) as port:
        api = Api(write_kubeconfig(tmp_path / "kubeconfig", port), outage_s=1)
        check = network.check_network(api, ClusterOptions(namespace="ns"), spec(), say=lambda _: None)
    assert word in check.found
    assert ("DELETE", f"{job}/wideloop-network-x") in [
        (method, path.partition("?")[0]) for method, path in script.asked
    ]


def test_a_deployment_of_one_node_needs_no_network(tmp_path: Path) -> None:
    api = Api(tmp_path / "none")
    assert "not needed" in network.check_network(api, ClusterOptions(), spec("h200-8-aggregated")).found
