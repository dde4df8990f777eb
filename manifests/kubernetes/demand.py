"""The resources that the pods of a rendered deployment request from a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from wideloop.manifests.engines.base import Command
from wideloop.manifests.kubernetes.jobs import client_job, files_pod
from wideloop.manifests.kubernetes.options import ClusterOptions


class Demand(NamedTuple):
    """Equal pods and what each of them requests.

    Attributes:
        component: name of their component.
        pods: number of pods.
        requests, limits: amounts of each resource in one pod, as Kubernetes writes them.
        selector: labels that their node must have.
        tolerations: taints that they tolerate.
    """

    component: str
    pods: int
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]

    def devices(self) -> dict[str, int]:
        """Whole devices of one pod: extended resources have a slash in their names."""
        return {name: int(amount) for name, amount in self.limits.items() if "/" in name}


def beside(options: ClusterOptions) -> list[Demand]:
    """The pods beside a deployment while it is measured: the files pod, and one client at a time."""
    job = client_job("d", "client", Command(argv=()), options, "", [])
    return [
        pod_demand("files", 1, files_pod("d", options, "", {})["spec"]),
        pod_demand("client", 1, job["spec"]["template"]["spec"]),
    ]


def pod_demand(name: str, pods: int, pod: Mapping[str, Any]) -> Demand:
    """The demand of ``pods`` pods with the spec ``pod``; ``name`` is their component's."""
    resources = [container.get("resources") or {} for container in pod["containers"]]
    limits = _joined(r.get("limits") or {} for r in resources)
    return Demand(
        component=name,
        pods=pods,
        # Kubernetes uses the limit when a request is not given.
        requests=limits | _joined(r.get("requests") or {} for r in resources),
        limits=limits,
        selector=pod.get("nodeSelector") or {},
        tolerations=tuple(pod.get("tolerations") or ()),
    )


def _joined(amounts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The amounts of a pod's containers; rendered pods have one, so nothing needs to be added up."""
    return {name: amount for one in amounts for name, amount in one.items()}
