"""Prepare image and weights: verified once, reused afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wideloop.manifests.engines import get_engine
from wideloop.manifests.errors import refuse
from wideloop.operators.request import RunOptions
from wideloop.operators.steps.earlier import request_of
from wideloop.operators.steps.run import Run, open_store, stage
from wideloop.operators.targets import open_target
from wideloop.operators.targets.base import ImageBuild
from wideloop.results.records import Asset


def ensure_image(params: Mapping[str, Any], run: Run) -> str:
    """Build or find the images of engine and load generator on the target; returns the digest of the engine's."""
    request = request_of(params)
    with stage(run, "image"):
        engine, build = get_engine(request.engine), ImageBuild(**RunOptions.from_params(params).build_fields)
        image = open_target(request.target).prepare_image(engine, request.generator, run.owner, build)
        detail = {"versions": image.versions, "engine": request.engine, "target": request.target}
        key = f"{request.target}/{request.engine}"
        with open_store() as store:
            store.put(Asset(kind="image", key=key, value=image.digest, detail=detail, verified_at=datetime.now(UTC)))
        # Before any GPU is taken for workers: their command lines are written for one version.
        refuse(engine.image_findings(image.versions, request.engine_version or engine.default_version))
    return image.digest


def ensure_weights(params: Mapping[str, Any], run: Run) -> str:
    """Make, download or find the model's files on the target; returns their path there."""
    request = request_of(params)
    with stage(run, "weights"):
        weights = open_target(request.target).prepare_weights(get_engine(request.engine), request.model, run.owner)
        key = f"{request.target}/{request.model}"
        detail = weights.model_dump(exclude={"path"}) | {"simulated": request.simulated}
        with open_store() as store:
            store.put(Asset(kind="weights", key=key, value=weights.path, detail=detail, verified_at=datetime.now(UTC)))
    return weights.path
