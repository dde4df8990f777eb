"""Read what online rebalancing did while a deployment was measured: rebalances, their cost, balancedness over time."""

from __future__ import annotations

import logging

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.steps.run import Run, artefacts
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Target
from wideloop.results.engine_metrics import balancedness
from wideloop.results.experts import rebalances
from wideloop.results.experts.rebalances import Rebalances

log = logging.getLogger(__name__)

#: A log of a day of rebalances and a balancedness line per pass.
_LOG_LINES = 500_000


def read_rebalances(target: Target, spec: DeploymentSpec) -> dict[str, Rebalances]:
    """The rebalances of each worker that rebalances online, by component; empty where none does."""
    online = {w.role for w in spec.workers if w.knobs.eplb == "online"}
    if not online:
        return {}
    components = [c for c in target.endpoints(spec.name).control if c.split("-")[0] in online]
    return {
        c: rebalances.read(target.logs(spec.name, c, _LOG_LINES), _balancedness(target, spec, c)) for c in components
    }


def keep_rebalances(target_name: str, deployment: str, run: Run) -> None:
    """Keep them as an artefact of the cycle; what cannot be read is logged and loses nothing else."""
    target = open_target(target_name)
    try:
        by_component = read_rebalances(target, target.spec(deployment))
    except TargetError as error:
        log.warning("the rebalances of %s cannot be read: %s", deployment, error)
        return
    for component, read in by_component.items():
        log.info("%s of %s: %s", component, deployment, read)
    if by_component:
        document = {component: read.model_dump(mode="json") for component, read in by_component.items()}
        artefacts().put_json(document, "cycles", run.cycle_id, "rebalances", f"{deployment}.json")


def _balancedness(target: Target, spec: DeploymentSpec, component: str) -> dict[str, float]:
    """By forward mode, from the metrics page; empty where it cannot be read: the log holds most of the facts."""
    engine = get_engine(spec.engine)
    if engine.balancedness_series is None:
        return {}
    try:
        page = "\n".join(target.call_all(spec.name, component, engine.metrics_path, method="GET"))
    except TargetError as error:
        log.warning("the metrics of %s of %s cannot be read: %s", component, spec.name, error)
        return {}
    return balancedness(page, engine.balancedness_series)
