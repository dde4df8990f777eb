"""Look at a target for one request without making anything of a deployment: the same checks as before every start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wideloop.manifests.findings import Finding
from wideloop.operators.request import UNKNOWN, Request, RunOptions
from wideloop.operators.steps.configurations import check
from wideloop.operators.targets import open_target

#: Name of the deployment that is judged; none of that name is made.
NAME = "preflight"


def prepare(params: Mapping[str, Any]) -> list[str]:
    """Make what ``create`` names: namespace, secret of the hub's token. Returns what was done.

    Raises:
        Refused: the target makes no such thing, or something for it is missing.
        TargetError: it could not be made.
    """
    request, options = Request.from_params(params), RunOptions.from_params(params)
    target = open_target(request.target)
    return [target.create(thing) for thing in options.create]


def preflight(params: Mapping[str, Any]) -> list[Finding]:
    """All findings about the deployment that ``params`` ask for, each once; a target on a cluster prints its table.

    Raises:
        Refused: the parameters themselves cannot be read.
    """
    request = Request.from_params(params)
    target = open_target(request.target)
    spec = request.spec(NAME)
    findings = [*target.preflight(spec, request.generator), *check(spec)]
    return list({str(f): f for f in map(_of_unprepared, findings)}.values())


def _of_unprepared(finding: Finding) -> Finding:
    """What says only that image or weights were not prepared yet is no error here: every run prepares them first."""
    return finding.changed(severity="warning") if finding.value == UNKNOWN else finding
