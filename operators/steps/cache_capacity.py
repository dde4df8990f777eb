"""How many tokens the KV cache of a running worker holds, as its engine says."""

from __future__ import annotations

import logging

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.operators.targets.base import Target
from wideloop.results.engine_metrics import read_metrics
from wideloop.tuning.memory import worker_memory

log = logging.getLogger(__name__)


def cache_tokens(target: Target, spec: DeploymentSpec) -> dict[str, int]:
    """Tokens of KV cache by worker; a worker whose engine does not say is left out.

    The memory model is asked only of simulated engines, whose caches are its own: an engine that started knows better
    than arithmetic about a config that may have been misread.
    """
    engine = get_engine(spec.engine)
    if engine.simulated:
        return {worker.role: worker_memory(spec, worker).kv_tokens for worker in spec.workers}
    tokens = {}
    for component in target.endpoints(spec.name).control if engine.metrics else ():
        try:
            page = "\n".join(target.call_all(spec.name, component, engine.metrics_path, method="GET"))
        except TargetError as error:
            log.warning("the metrics of %s cannot be read: %s", component, error)
            continue
        stated = read_metrics(page, engine.metrics).kv_tokens
        if stated is not None:
            tokens[component] = int(stated)
    return tokens
