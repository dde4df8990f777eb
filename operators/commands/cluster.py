"""``wideloop rbac`` and ``wideloop preflight``: what a cluster must grant, and what it lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
import yaml
from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding, unknown
from wideloop.manifests.kubernetes import rbac as access_documents
from wideloop.operators.commands.terminal import exit_on_error, note
from wideloop.operators.request import Request
from wideloop.operators.settings import settings
from wideloop.operators.steps import preflight as step
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
    request_file: Annotated[
        Path | None, typer.Argument(metavar="[REQUEST.json]", help="A request file, as `wideloop cycle` takes it.")
    ] = None,
    settings_of_run: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the form, e.g. redundant_experts=32."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="As in the trigger form; default dynamo-sglang.")] = None,
    model: Annotated[str | None, typer.Option(help="As in the trigger form.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Profile or path; default h200-16.")] = None,
    create: Annotated[
        list[str] | None, typer.Option(help="namespace or hub_secret: make it first where it is missing.")
    ] = None,
    target_name: _TargetName = "dynamo",
    network: Annotated[
        bool, typer.Option(help="Also send between all RDMA devices of its nodes: takes its GPUs for minutes.")
    ] = False,
) -> None:
    """Look at the cluster for one deployment and print a table: check, finding, what to do.

    Takes the parameters of a cycle. Makes nothing but what --create names.
    """
    named = {"engine": engine, "model": model, "hardware": hardware, "create": create or None}
    params: dict[str, Any] = {"engine": "dynamo-sglang", "hardware": "h200-16"}
    with exit_on_error():
        chosen = cluster_target(target_name)
        params |= read_request(request_file) if request_file else {}
        params |= dict(map(read_assignment, settings_of_run or ()))
        params |= {name: value for name, value in named.items() if value is not None} | {"target": target_name}
        for done in step.prepare(params):
            note(done)
        findings = step.preflight(params)
        if network:
            findings += chosen(settings()).try_network(Request.from_params(params).spec(step.NAME))
        for finding in findings:
            note(f"wideloop: {finding}")
    raise typer.Exit(any(f.severity != "warning" for f in findings))


def read_request(file: Path) -> dict[str, Any]:
    """The parameters in a request file.

    Raises:
        Refused: it cannot be read, or holds no object.
    """
    try:
        params = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise Refused([_file_finding(file, f"cannot be read as JSON: {error}")]) from error
    if not isinstance(params, dict):
        raise Refused([_file_finding(file, "is no JSON object of parameters")])
    return params


def read_assignment(text: str) -> tuple[str, Any]:
    """Name and value of ``name=value``; a value that is no JSON is a text.

    Raises:
        Refused: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        rule, suggestion = "is no assignment", "Use e.g. --set redundant_experts=32 --set concurrency='[64, 256]'"
        raise Refused([Finding(field="--set", value=text, rule=rule, suggestion=suggestion)])
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _file_finding(file: Path, rule: str) -> Finding:
    suggestion = 'Give a file with e.g. {"model": "DeepSeek-R1", "hardware": "h200-32"}'
    return Finding(field="request", value=str(file), rule=rule, suggestion=suggestion)


def cluster_target(name: str) -> type[KubernetesTarget]:
    from wideloop.operators.targets.kubernetes.target import KubernetesTarget

    cluster_targets = [n for n in target_names() if issubclass(TARGETS.load(n), KubernetesTarget)]
    if name not in cluster_targets:
        raise Refused([unknown("target", name, cluster_targets)])
    return cast("type[KubernetesTarget]", TARGETS.load(name))
