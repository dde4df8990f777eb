"""What makes a bare control plane the cluster that the tests want."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

from wideloop.operators.settings import Settings

from tests.cluster import compute_domain, dynamo_crd, orchestrators
from tests.cluster.agent import NodeAgent, claims, compute_domains
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.control_plane import ControlPlane
from tests.cluster.dynamo_operator import DynamoOperator
from tests.cluster.rehearsal.image import make_image
from tests.cluster.rehearsal.parsers import ParserService


def prepare(cluster: Cluster) -> None:
    """Dynamo's resources served in both versions, and a default class for claims of any access mode.

    ``DYNAMO_CRDS`` names a file or folder with the definitions of Dynamo's operator to use in place of ours.
    """
    if crds := os.environ.get("DYNAMO_CRDS"):
        cluster.kubectl("apply", "--server-side", "-f", crds)
    else:
        openapi = json.loads(cluster.kubectl("get", "--raw", dynamo_crd.OPENAPI))
        cluster.apply(dynamo_crd.definitions(openapi))
    cluster.apply([claims.storage_class("folders", default=True)])
    cluster.apply([compute_domain.definition(), compute_domains.device_class(), *orchestrators.definitions()])
    for version in dynamo_crd.VERSIONS:
        path = f"/apis/{dynamo_crd.GROUP}/{version}/{dynamo_crd.PLURAL}"
        wait_for(partial(_answers, cluster, path), 30, f"{path} is served")


def _answers(cluster: Cluster, path: str) -> bool:
    try:
        return bool(cluster.kubectl("get", "--raw", path))
    except subprocess.CalledProcessError:
        return False


def dynamo_operator(plane: ControlPlane) -> DynamoOperator:
    """The stand-in for Dynamo's operator in the cluster of ``plane``."""
    return DynamoOperator(plane.kubeconfig, plane.ca, plane.ca.with_suffix(".key"))


def node_agent(cluster: Cluster, plane: ControlPlane, folder: Path) -> NodeAgent:
    """An agent whose images are this project's environments, and any Python.

    Raises:
        CannotRun: this machine cannot run pods.
    """
    environments = Settings().environments
    images: dict[str, Path | None] = {
        "simulated": environments / "simulated" / "bin",
        "benchmark": environments / "benchmark" / "bin",
        "python": None,
    }
    return NodeAgent(cluster.kubeconfig, folder, images, plane.ca, plane.ca.with_suffix(".key"))


#: SGLang in the image of Dynamo that is the product's default.
IMAGE_SGLANG = "0.5.21"


def rehearsal_image(agent: NodeAgent, folder: Path) -> ParserService:
    """Let images called ``sglang-runtime`` be pulled: a rehearsal of the real engine. Stop what is returned."""
    folder.mkdir(parents=True)
    parsers = ParserService(IMAGE_SGLANG, agent.network.gateway, folder / "parsers.log")
    agent.images.known["sglang-runtime"] = make_image(folder / "image", IMAGE_SGLANG, parsers.address)
    return parsers
