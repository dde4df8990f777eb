"""Names that Dynamo's operator derives from a deployment's, and how long they may get."""

from __future__ import annotations

from wideloop.manifests.deployment import DeploymentSpec

#: Grove names a pod after deployment, scaling group and clique: together they may have this many characters.
GROVE_LIMIT = 45
#: Suffixes of a clique's name after its component's: the pods' roles in a worker over several nodes.
_CLIQUE_SUFFIX = "-ldr"


def component_name(role: str) -> str:
    """Name of a role's component in a DynamoGraphDeployment; short, because names of pods begin with it."""
    return "worker" if role == "aggregated" else role


def frontend_service(deployment: str) -> str:
    """Name of the Service that the operator makes for the frontend, at port 8000."""
    return f"{deployment}-{component_name('frontend')}"


def grove_length(spec: DeploymentSpec) -> int:
    """Characters of the longest combined name that Grove would check."""
    lengths = [len(component_name("frontend"))]
    for worker in spec.workers:
        name = component_name(worker.role)
        lengths.append(len(name) if worker.layout.nodes == 1 else 2 * len(name) + len(_CLIQUE_SUFFIX))
    return len(spec.name) + max(lengths)
