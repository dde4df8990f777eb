"""``wideloop rbac`` and ``wideloop preflight``: what a cluster must grant, and what it lacks."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml
from rich.console import Console
from wideloop.manifests.errors import WideloopError
from wideloop.manifests.kubernetes import rbac as roles
from wideloop.operators.request import DEFAULTS, Request
from wideloop.operators.settings import settings
from wideloop.operators.targets import open_target


def rbac(
    namespace: Annotated[str, typer.Option(help="Namespace of deployments.")],
) -> None:
    """Print the account and the least roles that the dynamo target needs, for kubectl apply -f -."""
    typer.echo(yaml.safe_dump_all(roles.documents(namespace, settings().cluster.secrets), sort_keys=False), nl=False)


def preflight(
    engine: Annotated[str, typer.Option(help="As in the trigger form.")] = "dynamo-sglang",
    model: Annotated[str, typer.Option(help="Profile or hub id.")] = str(DEFAULTS["model"]),
    hardware: Annotated[str, typer.Option(help="Hardware profile.")] = "h200-16",
) -> None:
    """Look at the cluster for one deployment and print a table: check, finding, what to do. Makes nothing."""
    try:
        params = {"target": "dynamo", "engine": engine, "model": model, "hardware": hardware}
        spec = Request.from_params(params).spec("preflight")
        findings = open_target("dynamo").preflight(spec)
    except WideloopError as error:
        Console(stderr=True).print(f"wideloop: {error}", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(2) from error
    raise typer.Exit(any(f.severity == "error" for f in findings))
