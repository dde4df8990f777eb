"""Labels that select the project's objects, and annotations that name their owners."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Field manager of everything that this project applies, and the value of the label that marks it.
MANAGER = "wideloop"
MANAGED_BY = "app.kubernetes.io/managed-by"
DEPLOYMENT = "wideloop/deployment"
COMPONENT = "wideloop/component"
CLIENT = "wideloop/client"
OWNER_DAG = "wideloop/owner-dag"
OWNER_RUN = "wideloop/owner-run"
KEEP_UNTIL = "wideloop/keep-until"
INSTALLATION = "wideloop/installation"
#: Annotations that name the owner of a deployment.
OWNERSHIP = (OWNER_DAG, OWNER_RUN, KEEP_UNTIL, INSTALLATION)
#: Prefix of the annotations that name the runs which wait for a task's Job, one key each: several may share a Job.
FOLLOWER = "wideloop/follower-"
FINGERPRINT = "wideloop/fingerprint"
#: Annotation with the digest of the mounted ConfigMap: pods are replaced when it changes.
CONFIG_DIGEST = "wideloop/config-digest"
#: Label by which Kueue finds the queue of an object.
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
#: Key of the specification as JSON in the ConfigMap; for some readers it is too long as an annotation.
SPEC_KEY = "spec.json"


def labels(deployment: str, **more: str) -> dict[str, str]:
    """The labels of an object that this project makes; ``more`` by the names of the constants above, in lower case."""
    keys = {"component": COMPONENT, "client": CLIENT}
    return {MANAGED_BY: MANAGER, DEPLOYMENT: deployment} | {keys[key]: value for key, value in more.items()}


def selector(deployment: str | None = None) -> str:
    """A label selector for the objects of this project: all, or those of one deployment."""
    ours = f"{MANAGED_BY}={MANAGER}"
    return ours if deployment is None else f"{ours},{DEPLOYMENT}={deployment}"


def owner_annotations(
    dag_id: str, run_id: str, keep_until: str | None = None, installation: str = ""
) -> dict[str, str]:
    """Annotations that name a deployment's owner: run, installation, and how long (ISO 8601) it may outlive the run."""
    pairs = zip(OWNERSHIP, (dag_id, run_id, keep_until, installation), strict=True)
    return {key: value for key, value in pairs if value}


def follower_annotation(dag_id: str, run_id: str, installation: str = "") -> dict[str, str]:
    """The annotation of one run that waits for a Job; the same for every retry."""
    text = json.dumps({"dag_id": dag_id, "run_id": run_id, "installation": installation}, sort_keys=True)
    return {FOLLOWER + hashlib.sha256(text.encode()).hexdigest()[:12]: text}


def followers(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """The arguments of :func:`follower_annotation` for each run that waits for an object."""
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    return [json.loads(text) for key, text in sorted(annotations.items()) if key.startswith(FOLLOWER)]


def is_ours(document: Mapping[str, Any]) -> bool:
    """Whether an object, as the API server returns it, was made by this project."""
    labels_there = (document.get("metadata") or {}).get("labels") or {}
    return labels_there.get(MANAGED_BY) == MANAGER
