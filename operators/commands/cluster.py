"""``wideloop rbac`` and ``wideloop preflight``: what a cluster must grant, and what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer
import yaml
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import unknown
from wideloop.manifests.kubernetes import rbac as access_documents
from wideloop.operators.commands.terminal import exit_on_error
from wideloop.operators.request import DEFAULTS, Request
from wideloop.operators.settings import settings
from wideloop.operators.targets import TARGETS, target_names

if TYPE_CHECKING:
    from wideloop.operators.targets.kubernetes.target import KubernetesTarget

_TargetName = Annotated[str, typer.Option("--target", help="A target that runs on Kubernetes.")]


def rbac(
    namespace: Annotated[str, typer.Option(help="Namespace of deployments.")],
    target_name: _TargetName = "dynamo",
) -> None:
    """Print the account and the least roles that a cluster target needs, for kubectl apply -f -."""
    with exit_on_error():
        grants = cluster_target(target_name).platform.grants
    documents = access_documents.documents(namespace, settings().cluster.secrets, grants)
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


def preflight(
    engine: Annotated[str, typer.Option(help="As in the trigger form.")] = "dynamo-sglang",
    model: Annotated[str, typer.Option(help="Profile or hub id.")] = str(DEFAULTS["model"]),
    hardware: Annotated[str, typer.Option(help="Hardware profile.")] = "h200-16",
    target_name: _TargetName = "dynamo",
    network: Annotated[
        bool, typer.Option(help="Also send between all RDMA devices of its nodes: takes its GPUs for minutes.")
    ] = False,
) -> None:
    """Look at the cluster for one deployment and print a table: check, finding, what to do. Makes nothing."""
    with exit_on_error():
        chosen = cluster_target(target_name)
        params = {"target": target_name, "engine": engine, "model": model, "hardware": hardware}
        request = Request.from_params(params)
        target = chosen(settings())
        findings = target.preflight(request.spec("preflight"), request.generator)
        if network:
            findings += target.try_network(request.spec("preflight"))
    raise typer.Exit(any(f.severity != "warning" for f in findings))


def cluster_target(name: str) -> type[KubernetesTarget]:
    from wideloop.operators.targets.kubernetes.target import KubernetesTarget

    cluster_targets = [n for n in target_names() if issubclass(TARGETS.load(n), KubernetesTarget)]
    if name not in cluster_targets:
        raise Refused([unknown("target", name, cluster_targets)])
    return cast("type[KubernetesTarget]", TARGETS.load(name))
