"""What a measurement leaves besides its figures: what GPUs, network ports and engines said meanwhile."""

from __future__ import annotations

import logging
from typing import Any

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.targets.base import Target
from wideloop.results.benchmark import LevelResult
from wideloop.results.telemetry import Samples, level_telemetry

log = logging.getLogger(__name__)


def telemetry_sources(target: Target, spec: DeploymentSpec) -> TelemetrySources:
    """What to sample beside a load: nothing of a simulated engine, whose host's GPUs do not serve."""
    engine = get_engine(spec.engine)
    if engine.simulated:
        return TelemetrySources()
    try:
        pages = {
            component: tuple(url + engine.metrics_path for url in urls)
            for component, urls in target.endpoints(spec.name).control.items()
            if engine.metrics
        }
        return target.telemetry(spec.name).changed(pages=pages)
    except TargetError as error:
        log.warning("%s is measured without telemetry: %s", spec.name, error)
        return TelemetrySources()


def telemetry_figures(level: LevelResult, samples: Samples | None, gpus: int) -> dict[str, Any]:
    """The fields of a level's measurement that come from samples; none where nothing was sampled.

    They are of the plateau, as the level's rates are; of the whole level where it has none.
    """
    if samples is None:
        return {}
    begin, seconds = level.started_at, level.duration_s
    if level.plateau_at is not None:
        begin, seconds = level.plateau_at, level.plateau_s
    telemetry = level_telemetry(samples, begin.timestamp(), begin.timestamp() + seconds, gpus)
    power = telemetry.power_w
    return {
        "telemetry": telemetry,
        "gpu_power_w": power,
        "output_tok_per_joule": level.output_tok_s / power if power else None,
    }
