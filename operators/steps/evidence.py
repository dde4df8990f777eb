"""What a deployment and its measurements leave besides figures, in the artefact store.

::

    cycles/<cycle>/deployments/<deployment>/
        deployment.json     specification, image, versions, and every rank with its node
        manifest.yaml       what was applied: documents of a cluster, command lines of a host
        logs/<rank>.log.gz  first and last 256 KiB of every rank
        metrics/<client>-level<i>-c<concurrency>.json.gz   the engines' metrics pages before and after each level

Nothing here raises: evidence is no reason to lose a measurement, or to keep GPUs.
"""

from __future__ import annotations

import gzip
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wideloop
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import TargetError
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.request import is_simulated
from wideloop.operators.steps.run import Run, artefacts, open_store
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import Rank, Target
from wideloop.results.benchmark import LevelResult
from wideloop.results.telemetry import Page, Samples, level_telemetry, pages_around, read_pages

log = logging.getLogger(__name__)

#: Bytes that are kept of a log's beginning, and of its end.
LOG_BYTES = 256 * 1024
#: Logs that are read at the same time: a silent node takes 10 s to give none.
_READERS = 8


def keep_deployment(target_name: str, name: str, run: Run, start: str = "") -> None:
    """Keep what describes a deployment and the logs of its ranks; again, when more has happened.

    ``start`` sets the logs of an earlier start apart, whose deployment had the same name.
    """
    with _only_warning(f"what {name} leaves"):
        target, store = open_target(target_name), artefacts()
        try:
            spec = target.spec(name)
        except TargetError:
            return  # Nothing was applied.
        ranks = target.ranks(name)
        folder = ("cycles", run.cycle_id, "deployments", f"{name}.{start}" if start else name)
        store.put_json(_description(spec, ranks), *folder, "deployment.json")
        store.put_bytes(target.manifest(name).encode(), *folder, "manifest.yaml")
        with ThreadPoolExecutor(_READERS) as readers:
            logs = readers.map(lambda rank: target.whole_log(name, rank, LOG_BYTES), ranks)
            for rank, text in zip(ranks, logs, strict=True):
                file = f"{rank.name}{'.previous' if rank.previous else ''}.log.gz"
                store.put_bytes(gzip.compress(text, mtime=0), *folder, "logs", file)


def keep_pages(target: Target, name: str, client: str, levels: Sequence[LevelResult], folder: Path, run: Run) -> None:
    """Keep the engines' metrics pages from before and after each level; the last is read now."""
    with _only_warning(f"the metrics pages of {name}"):
        pages = read_pages(folder) + _pages_now(target, name)
        for index, level in enumerate(levels):
            around = pages_around(pages, level.started_at.timestamp(), level.ended_at.timestamp())
            if around:
                file = f"{client}-level{index}-c{level.concurrency}.json.gz"
                content = gzip.compress(json.dumps(around, indent=1).encode(), mtime=0)
                artefacts().put_bytes(content, "cycles", run.cycle_id, "deployments", name, "metrics", file)


def _pages_now(target: Target, name: str) -> list[Page]:
    """What the engines say now; nothing of a worker that does not answer."""
    engine = get_engine(target.spec(name).engine)
    pages: list[Page] = []
    if engine.simulated or not engine.metrics:
        return pages
    for component in target.endpoints(name).control:
        try:
            answers = target.call_all(name, component, engine.metrics_path, method="GET")
        except TargetError as error:
            log.warning("the metrics of %s of %s cannot be read: %s", component, name, error)
            continue
        pages += [Page(time.time(), component, server, text) for server, text in enumerate(answers)]
    return pages


def _description(spec: DeploymentSpec, ranks: Sequence[Rank]) -> dict[str, Any]:
    with open_store() as store:
        asset = store.asset("image", f"{spec.target}/{spec.engine}")
    verified = asset is not None and asset.value == spec.image
    return {
        "deployment": spec.name,
        "target": spec.target,
        "engine": spec.engine,
        "engine_version": spec.engine_version,
        "simulated": is_simulated(spec.engine),
        "image": spec.image,
        "versions": asset.detail.get("versions", {}) if asset is not None and verified else {},
        "fingerprint": spec.fingerprint,
        "wideloop": wideloop.__version__,
        "ranks": [rank.model_dump() for rank in ranks if not rank.previous],
        "spec": spec.model_dump(mode="json"),
        "written_at": datetime.now(UTC).isoformat(),
    }


@contextmanager
def _only_warning(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # An object store's client has errors of its own.
        log.warning("%s could not be kept: %s", what, error)


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
