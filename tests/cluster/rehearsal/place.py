"""A namespace for rehearsals: its settings, as a user of the real engine would write them, and the mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.airflow_server import SMALL
from tests.cluster.place import DIGEST, environment
from tests.cluster.rehearsal.hub import MODEL

#: The hardware of the published deployments of DeepSeek-R1.
PROFILES = ("h200-16", "h200-32", "gke-b200-32", "h100-104", "gb200-nvl72")
PARAMS: dict[str, Any] = SMALL | {"target": "dynamo", "engine": "dynamo-sglang", "model": MODEL}
#: Of the most redundant experts that the ranks of a profile must divide; others take any.
REDUNDANT = {"h100-104": 32}


def params(hardware: str, **more: Any) -> dict[str, Any]:
    """The parameters of a run on ``hardware``."""
    return PARAMS | {"hardware": hardware, "redundant_experts": REDUNDANT.get(hardware, 0)} | more


def rehearsal_settings(hub_url: str) -> dict[str, str]:
    """What a rehearsal sets beside a user's own settings: the mark, and a hub that is reached from here."""
    return {"WIDELOOP_CLUSTER__HUB_ENDPOINT": hub_url, "WIDELOOP_CLUSTER__SIMULATED": "true"}


def rehearsal_environment(kubeconfig: Path, namespace: str, hub_url: str) -> dict[str, str]:
    """Settings of a process that rehearses in ``namespace``."""
    return environment(kubeconfig, namespace) | {
        "WIDELOOP_CLUSTER__ENGINE_IMAGE": f"nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.6.1@{DIGEST}",
        "WIDELOOP_CLUSTER__CLIENT_IMAGE": f"example.com/benchmark:1@{DIGEST}",
        **rehearsal_settings(hub_url),
    }
