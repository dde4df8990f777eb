"""``wideloop render``: the documents of a configuration, to be kept, compared or applied by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml
from wideloop.manifests import bare_metal
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import Refused, refuse
from wideloop.manifests.findings import Finding
from wideloop.operators.commands.cluster import cluster_target
from wideloop.operators.commands.terminal import exit_on_error, note
from wideloop.operators.request import UNKNOWN, Request
from wideloop.operators.settings import settings
from wideloop.operators.steps.configurations import check
from wideloop.operators.steps.earlier import earlier_trial


def render(
    cycle: Annotated[str | None, typer.Option(help="Id of a cycle: what it recommends, or --trial of it.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Number of the cycle's trial.")] = None,
    request: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON object of the form's parameters instead.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the deployment.")] = "wideloop",
    target: Annotated[str | None, typer.Option(help="A target on Kubernetes; by default the configuration's.")] = None,
    on_hosts: Annotated[
        bool, typer.Option("--bare-metal", help="Commands and environment of each host instead, without Kubernetes.")
    ] = False,
    hosts: Annotated[
        str | None, typer.Option(help="With --bare-metal: the hosts by commas, in order; default node-0, node-1, ...")
    ] = None,
    model_path: Annotated[str, typer.Option(help="With --bare-metal: the model's folder on every host.")] = "/model",
) -> None:
    """Print the documents of exactly that configuration, with its expert placement, for kubectl apply -f -."""
    with exit_on_error():
        if on_hosts:
            typer.echo(_for_hosts(_spec(cycle, trial, request, name, "dynamo").changed(model_path=model_path), hosts))
            return
        spec = _spec(cycle, trial, request, name, target)
        platform = cluster_target(spec.target).platform
        findings = check(spec)
        refuse(f.changed(severity="error") for f in findings if f.severity != "warning")
        for finding in findings:
            note(str(finding))
        documents = platform.render(spec, settings().cluster)
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False), nl=False)


def _for_hosts(spec: DeploymentSpec, hosts: str | None) -> str:
    """The commands of each host."""
    findings = check(spec)
    refuse(f.changed(severity="error") for f in findings if f.severity != "warning")
    for finding in findings:
        note(str(finding))
    named = [host.strip() for host in hosts.split(",")] if hosts else None
    names = named or [f"node-{number}" for number in range(bare_metal.hosts_needed(spec))]
    options = settings().cluster.engine_options
    return bare_metal.as_text(bare_metal.bare_metal_commands(spec, names, options))


def _spec(cycle: str | None, trial: int | None, request: Path | None, name: str, target: str | None) -> DeploymentSpec:
    """The deployment of the earlier trial, or of the request file."""
    if (cycle is None) == (request is None):
        rule = "exactly one of --cycle and --request says what to render"
        raise Refused([Finding(field="cycle", value=cycle, rule=rule, suggestion="Use e.g. --cycle cycle-0123abcdef")])
    if cycle is not None:
        earlier = earlier_trial(cycle, trial)
        source, spec = earlier.request, earlier.spec(name)
    else:
        assert request is not None
        source = Request.from_file(json.loads(request.read_text()))
        spec = source.spec(name)
    return _in_cluster(spec if target is None else spec.changed(target=target), source.model)


def _in_cluster(spec: DeploymentSpec, model: str) -> DeploymentSpec:
    """``spec`` with the path at which pods find the model, where it was not prepared from here."""
    from wideloop.operators.targets.kubernetes.weights import model_folder

    if spec.model_path != UNKNOWN:
        return spec
    return spec.changed(model_path=model_folder(settings().cluster, get_engine(spec.engine), model))
