"""Names of services in the ``hosts`` files of pods: what a cluster's DNS answers, without a server.

A name leads to the pods behind the service, not to its virtual address: there is no proxy, so a port of a service
that differs from the port of its pods is not translated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]
#: (name of the service, or of a pod below it; namespace) -> addresses.
Names = dict[tuple[str, str], list[str]]


def names(slices: Iterable[Document]) -> Names:
    """Services and the named pods below them, of every EndpointSlice that is ready to serve."""
    found: Names = {}
    for one in slices:
        namespace = one["metadata"]["namespace"]
        service = one["metadata"].get("labels", {}).get("kubernetes.io/service-name")
        for endpoint in one.get("endpoints") or ():
            if not service or not endpoint["conditions"].get("ready", True):
                continue
            found.setdefault((service, namespace), []).extend(endpoint["addresses"])
            if "hostname" in endpoint:
                found.setdefault((f"{endpoint['hostname']}.{service}", namespace), []).extend(endpoint["addresses"])
    return found


def hosts(names: Names, namespace: str, hostname: str, address: str, gateway: str) -> str:
    """The ``hosts`` file of a pod in ``namespace``; the API server is found at ``gateway``."""
    lines = ["127.0.0.1 localhost", f"{address} {hostname}"]
    lines.append(f"{gateway} kubernetes.default.svc kubernetes.default.svc.cluster.local kubernetes.default kubernetes")
    for (name, home), addresses in sorted(names.items()):
        full = [f"{name}.{home}.svc.cluster.local", f"{name}.{home}.svc", f"{name}.{home}"]
        known = " ".join([*full, name] if home == namespace else full)
        lines += [f"{one} {known}" for one in addresses]
    return "\n".join(lines) + "\n"
