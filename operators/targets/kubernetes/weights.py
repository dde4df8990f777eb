"""Models on a cluster's shared claim: downloaded or made there by a Job, verified every time, never deleted."""

from __future__ import annotations

import json
from collections.abc import Callable

from wideloop.manifests import profiles
from wideloop.manifests.engines.base import Engine
from wideloop.manifests.errors import refuse
from wideloop.manifests.hub import hub_model
from wideloop.manifests.kubernetes import model_cache
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.operators.targets.base import Owner, Weights
from wideloop.operators.targets.kubernetes.api import Api, Json
from wideloop.operators.targets.kubernetes.claims import find_claim, judge_claim
from wideloop.operators.targets.kubernetes.job_run import run_to_end
from wideloop.operators.targets.kubernetes.objects import apply


def prepare_weights(
    api: Api,
    options: ClusterOptions,
    engine: Engine,
    model: str,
    owner: Owner | None = None,
    *,
    say: Callable[[str], None] = print,
) -> Weights:
    """Make sure that the claims are there and ``model`` is in its folder, complete.

    Args:
        model: a profile's name, a hub id, or the path of a folder of the claim or of the nodes.
        owner: the run that waits for it.

    Raises:
        Refused: the claim is there and too small, or cannot be mounted by several nodes.
        TargetError: the download or the making failed; what is whole is kept for the next try.
    """
    spec = profiles.model(model)
    # What is there already needs no room.
    needed = spec.total_bytes if engine.needs_weights and not model.startswith("/") else 0
    _ensure_claims(api, options, needed, say)
    folder, documents = _documents(options, engine, model)
    where = "the nodes" if model_cache.is_on_host(options, folder) else f"claim {options.model_claim}"
    say(f"{model} in {folder} on {where}")
    result = json.loads(run_to_end(api, documents, owner, say=say))
    return Weights(
        path=folder,
        files=result["files"],
        bytes=result["bytes"],
        has_weights=result["has_weights"],
        reused=result["reused"],
    )


def _ensure_claims(api: Api, options: ClusterOptions, needed: int, say: Callable[[str], None]) -> None:
    """Make the claims that are missing; those that are there are judged and left as they are."""
    wanted = [
        ("model_claim", model_cache.model_claim(options, needed), needed),
        ("files_claim", model_cache.files_claim(options), 0),
    ]
    for field, document, needed_bytes in wanted:
        name = document["metadata"]["name"]
        claim = find_claim(api, options.namespace, name)
        if claim is None:
            apply(api, document)
            say(f"made claim {name}: {document['spec']['resources']['requests']['storage']}, ReadWriteMany")
        else:
            refuse(judge_claim(field, claim, needed_bytes))


def model_folder(options: ClusterOptions, engine: Engine, model: str) -> str:
    """Where pods find the files of ``model``, once they were prepared.

    Raises:
        Refused: the model cannot be prepared for pods.
    """
    return _documents(options, engine, model)[0]


def _documents(options: ClusterOptions, engine: Engine, model: str) -> tuple[str, list[Json]]:
    folder = f"{options.model_mount}/{engine.name}/{model.strip('/').replace('/', '--')}"
    made = engine.make_model("python3", model_cache.CONFIG_PATH, model_cache.partial(folder))
    if made is None and model.startswith("/"):
        path = model.rstrip("/").removesuffix("/config.json")
        return model_cache.verify_documents(options, path, needs_weights=engine.needs_weights)
    if made is None:
        return model_cache.download_documents(options, hub_model(model, options.model_revisions))
    config = profiles.model_config_path(model).read_bytes()
    return folder, model_cache.make_documents(options, folder, made.argv, made.env, config)
