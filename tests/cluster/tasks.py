"""Jobs of tasks that have ended stay a moment for others who follow them."""

from __future__ import annotations

from wideloop.manifests.kubernetes.task_job import TASK

from tests.cluster.cluster import Cluster, wait_for


def wait_for_no_tasks(cluster: Cluster, namespace: str) -> None:
    """Return when the cluster has removed them, and what belongs to them."""

    def gone() -> bool:
        kinds = "jobs,pods,configmaps"
        return cluster.kubectl("get", kinds, "-n", namespace, "-l", TASK, "-o", "name") == ""

    wait_for(gone, 30, "ended tasks are gone")
