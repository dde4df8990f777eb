"""A Dynamo deployment on hosts without Kubernetes: what to run on each, with which environment.

What an operator adds on a cluster is said here: the ranks of a worker over several hosts (``--dist-init-addr``,
``--nnodes``, ``--node-rank``), the GPUs of each process, and how components find each other (etcd on the first host,
requests over TCP, events over ZeroMQ; ``DYN_*`` variables of ai-dynamo 1.6).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wideloop.manifests.deployment import DeploymentSpec, WorkerSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Component, Site
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.providers import NONE, with_overlay

_ETCD_PORT = 2379
#: The first worker of a host gets these, each further one there the next.
_PORTS = {"http": 8000, "control": 9090, "system": 9190, "bootstrap": 30001}
_DIST_PORT = 29500
_EVERYWHERE = "0.0.0.0"


class NodeCommand(NamedTuple):
    """One process.

    Attributes:
        host: where it runs. name: what it is, e.g. ``decode-0 rank 3``.
        env: variables beside the host's own.
        argv: command line; expert placements have the paths that the specification names.
    """

    host: str
    name: str
    env: dict[str, str]
    argv: tuple[str, ...]


class _Place(NamedTuple):
    """GPUs of a host: the first of them, and the number of the process there."""

    host: str
    first_gpu: int
    slot: int


def bare_metal_commands(
    spec: DeploymentSpec, hosts: Sequence[str], options: Sequence[str] = (), work_dir: str = "/tmp/wideloop"
) -> list[NodeCommand]:
    """The processes of a deployment in the order in which they should start.

    Args:
        hosts: names or addresses at which the hosts reach each other, as many as :func:`hosts_needed`.
        options: further flags of every worker.
        work_dir: folder of each host for what a worker writes.

    Raises:
        Refused: the engine does not run under Dynamo, or these are not the hosts that it takes.
    """
    _refuse_engine(spec)
    places = _places(spec)
    needed = hosts_needed(spec)
    if len(hosts) != needed or len(set(hosts)) != len(hosts):
        rule = f"the deployment takes {needed} different hosts, and {len(set(hosts))} are named"
        example = ",".join(f"node-{n}" for n in range(needed))
        raise Refused([_finding("hosts", ",".join(hosts), rule, f"Name all of them, e.g. {example}")])
    found_by = discovery(hosts[0])
    urls = {"--listen-client-urls": _EVERYWHERE, "--advertise-client-urls": hosts[0]}
    client = tuple(part for flag, host in urls.items() for part in (flag, f"http://{host}:{_ETCD_PORT}"))
    etcd = ("etcd", "--data-dir", f"{work_dir}/etcd", *client)
    commands = [NodeCommand(hosts[0], "etcd", {}, etcd)]
    engine = get_engine(spec.engine)
    for component in engine.components(spec):
        worker = next((w for w in spec.workers if w.role == component.role), None)
        if worker is None:
            command = engine.command(spec, component, _site(spec, component, _Place(hosts[0], 0, 0), (), work_dir))
            commands.append(NodeCommand(hosts[0], component.name, {**found_by, **command.env}, command.argv))
            continue
        ranks = [place._replace(host=hosts[int(place.host)]) for place in places[component.name]]
        commands += _worker(spec, component, worker, ranks, tuple(options), found_by, work_dir)
    return commands


def discovery(head: str) -> dict[str, str]:
    """How components find and reach each other without Kubernetes."""
    return {
        "DYN_DISCOVERY_BACKEND": "etcd",
        "ETCD_ENDPOINTS": f"http://{head}:{_ETCD_PORT}",
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
    }


def hosts_needed(spec: DeploymentSpec) -> int:
    """Hosts that the workers take, those that share one counted once."""
    return 1 + max(int(place.host) for ranks in _places(spec).values() for place in ranks)


def as_text(commands: Sequence[NodeCommand]) -> str:
    """The commands as a shell would take them, by host in the order of its first command."""
    lines = []
    for host in dict.fromkeys(c.host for c in commands):
        lines.append(f"### {host}")
        for command in (c for c in commands if c.host == host):
            exports = [f"{name}={shlex.quote(value)}" for name, value in sorted(command.env.items())]
            lines += [f"# {command.name}", " \\\n  ".join([*exports, shlex.join(command.argv)]), ""]
    return "\n".join(lines)


def _places(spec: DeploymentSpec) -> dict[str, list[_Place]]:
    """Number of the host and GPUs of each rank, by component; workers of less than a host share one."""
    places: dict[str, list[_Place]] = {}
    host, used, slot = 0, 0, 0
    for worker in spec.workers:
        size = worker.layout.gpus_per_node
        for ordinal in range(worker.replicas):
            ranks = []
            for _ in range(worker.layout.nodes):
                if used + size > spec.hardware.gpus_per_node:
                    host, used, slot = host + 1, 0, 0
                ranks.append(_Place(str(host), used, slot))
                used, slot = used + size, slot + 1
            places[f"{worker.role}-{ordinal}"] = ranks
    return places


def _worker(
    spec: DeploymentSpec,
    component: Component,
    worker: WorkerSpec,
    ranks: Sequence[_Place],
    options: tuple[str, ...],
    found_by: dict[str, str],
    work_dir: str,
) -> Iterator[NodeCommand]:
    overlay = with_overlay(ClusterOptions(), spec.hardware.provider or NONE).worker_env
    port = _DIST_PORT + ranks[0].slot
    for number, place in enumerate(ranks):
        command = get_engine(spec.engine).command(spec, component, _site(spec, component, place, options, work_dir))
        together = ("--dist-init-addr", f"{ranks[0].host}:{port}", "--nnodes", str(len(ranks)))
        group = (*together, "--node-rank", str(number)) if len(ranks) > 1 else ()
        gpus = range(place.first_gpu, place.first_gpu + worker.layout.gpus_per_node)
        chosen = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
        name = f"{component.name} rank {number} of {len(ranks)}" if len(ranks) > 1 else component.name
        yield NodeCommand(place.host, name, {**found_by, **command.env, **overlay, **chosen}, (*command.argv, *group))


def _site(spec: DeploymentSpec, component: Component, place: _Place, options: tuple[str, ...], work_dir: str) -> Site:
    return Site(
        python="python3",
        host=place.host,
        ports={port: _PORTS[port] + (0 if port == "http" else place.slot) for port in component.ports},
        spec_file=f"{work_dir}/{spec.name}/spec.json",
        work_dir=f"{work_dir}/{spec.name}/{component.name}",
        shared_dir=f"{work_dir}/{spec.name}/shared",
        model_path=spec.model_path,
        options=options,
    )


def _refuse_engine(spec: DeploymentSpec) -> None:
    engine = get_engine(spec.engine)
    if engine.runtime != "dynamo" or engine.simulated:
        rule = "hosts without Kubernetes run what Dynamo serves on GPUs"
        raise Refused([_finding("engine", spec.engine, rule, "Use 'dynamo-sglang'")])


def _finding(field: str, value: str, rule: str, suggestion: str) -> Finding:
    return Finding(field=field, value=value, rule=rule, suggestion=suggestion)
