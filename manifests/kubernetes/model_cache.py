"""The claims of models and files, where a model's files are, and the Jobs that fill or verify a folder of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wideloop.manifests.hub import HubModel
from wideloop.manifests.kubernetes.labels import MANAGED_BY, MANAGER
from wideloop.manifests.kubernetes.options import ClusterOptions
from wideloop.manifests.kubernetes.task_job import Task, task_documents

_MANIFESTS = Path(__file__).parents[1]
_FILES = "/wideloop/files"
CONFIG = "config.json"
#: Path of a task's config.json in its pod.
CONFIG_PATH = f"{_FILES}/{CONFIG}"
_TRIES = 4
_GIB = 1024**3
#: Factor for what a claim holds beside one model's weights: tokenizer, notes, file-system overhead.
_SPARE = 1.1


def claim(options: ClusterOptions, name: str, size: str) -> dict[str, Any]:
    """A claim that many nodes can mount at once."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}
    if options.storage_class:
        spec["storageClassName"] = options.storage_class
    metadata = {"name": name, "namespace": options.namespace, "labels": {MANAGED_BY: MANAGER}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def model_claim(options: ClusterOptions, model_bytes: int) -> dict[str, Any]:
    """The claim for models; ``model_bytes`` of one decide its size where the options do not."""
    needed = f"{max(1, -(-int(model_bytes * _SPARE) // _GIB))}Gi"
    return claim(options, options.model_claim, options.model_claim_size or needed)


def files_claim(options: ClusterOptions) -> dict[str, Any]:
    """The claim for files that engines and clients write."""
    return claim(options, options.files_claim, options.files_claim_size)


def is_on_host(options: ClusterOptions, path: str) -> bool:
    """Whether ``path`` is a folder of the nodes' own: an absolute one outside of the model claim's mount."""
    return path.startswith("/") and not f"{path}/".startswith(f"{options.model_mount}/")


def model_volume(options: ClusterOptions, path: str) -> tuple[dict[str, Any], str]:
    """The volume with the model at ``path``, without a name, and where it is mounted.

    A folder of the nodes' own (a disk or a network file system that each of them mounts) keeps its path.
    """
    if is_on_host(options, path):
        return {"hostPath": {"path": path, "type": "Directory"}}, path
    return {"persistentVolumeClaim": {"claimName": options.model_claim}}, options.model_mount


def folder_name(source: HubModel) -> str:
    """The folder of a downloaded model: another commit is another folder."""
    name = source.repository.replace("/", "--")
    return f"{name}-{source.revision[:12]}" if source.revision else name


def download_documents(options: ClusterOptions, source: HubModel) -> tuple[str, list[dict[str, Any]]]:
    """The model's folder as pods see it, and the documents of the Job that downloads it: Job and files."""
    folder = f"{options.model_mount}/{folder_name(source)}"
    arguments = ["--repository", source.repository]
    arguments += ["--revision", source.revision] if source.revision else []
    env = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": "/tmp/hub"}
    env |= {"HF_ENDPOINT": options.hub_endpoint} if options.hub_endpoint else {}
    secret = options.hf_token_secret
    tokens = (("HF_TOKEN", secret, "HF_TOKEN"),) if secret else ()
    return folder, _documents(options, options.client_image, folder, arguments, env=env, secrets=tokens)


def verify_documents(options: ClusterOptions, path: str, *, needs_weights: bool) -> tuple[str, list[dict[str, Any]]]:
    """The folder, and the documents of the Job that verifies a model that is there already, without changing it."""
    arguments = ["--verify", *([] if needs_weights else ["--without-weights"])]
    return path, _documents(options, options.client_image, path, arguments, env={}, read_only=True)


def make_documents(
    options: ClusterOptions, folder: str, command: Sequence[str], env: dict[str, str], config: bytes
) -> list[dict[str, Any]]:
    """The Job that has an engine make a model at ``folder`` from its ``config.json``, and its files.

    ``command`` writes to :func:`partial` of ``folder`` and reads ``CONFIG_PATH``.
    """
    files = {CONFIG: config}
    return _documents(options, options.engine_image, folder, ["--make", *command], env=env, files=files)


def partial(folder: str) -> str:
    """Folder of a model's files until all of them are complete."""
    return f"{folder}.partial"


def _documents(
    options: ClusterOptions,
    image: str,
    folder: str,
    arguments: Sequence[str],
    *,
    env: dict[str, str],
    secrets: tuple[tuple[str, str, str], ...] = (),
    files: dict[str, bytes] | None = None,
    read_only: bool = False,
) -> list[dict[str, Any]]:
    volume, mount = model_volume(options, folder)
    program = (_MANIFESTS / "images" / "fill_model_cache.py").read_bytes()
    checks = (_MANIFESTS / "model_files.py").read_bytes()
    of = hashlib.sha256(repr([folder, image, *arguments]).encode()).hexdigest()[:12]
    task = Task(
        kind="weights",
        name=f"wideloop-weights-{of}",
        image=image,
        command=("python3", "-u", f"{_FILES}/fill_model_cache.py", "--folder", folder, *arguments),
        env=env,
        limit_s=options.download_timeout_s,
        tries=_TRIES,
        files={"fill_model_cache.py": program, "model_files.py": checks, **(files or {})},
        files_at=_FILES,
        files_variable="WIDELOOP_FILES",
        secrets=secrets,
        resources={"requests": {"cpu": "1", "memory": "4Gi"}},
        volumes=({"name": "models", **volume},),
        mounts=({"name": "models", "mountPath": mount, **({"readOnly": True} if read_only else {})},),
    )
    return task_documents(options, task)
