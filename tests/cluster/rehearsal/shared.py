"""What frontend and workers of a deployment share: its specification, its folders, and how they find each other."""

from __future__ import annotations

import os
from pathlib import Path

from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.kubernetes.config import MOUNT, POD_SPEC_KEY
from wideloop.manifests.kubernetes.options import ClusterOptions

SPEC_FILE = Path(MOUNT) / POD_SPEC_KEY


def deployment_spec() -> DeploymentSpec:
    """The deployment of this pod."""
    return DeploymentSpec.model_validate_json(SPEC_FILE.read_text())


def files_folder(*parts: str) -> Path:
    """A folder of this deployment on the files claim."""
    return Path(ClusterOptions().files_dir(deployment_spec().name, *parts))


def use_shared_folder() -> Path:
    """Have Dynamo's components find each other by files instead of by the API server; the folder."""
    shared = files_folder("shared")
    shared.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": f"{shared}/kv",
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_LOG": "warn",
            "OMP_NUM_THREADS": "1",
        }
    )
    return shared
