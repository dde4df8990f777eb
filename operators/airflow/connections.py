"""Airflow's connections for the cluster and for the Hugging Face hub.

The entry points of the group ``wideloop.connections`` lead here, so that targets do not import Airflow. Provider and
hook are imported when a connection is used: that costs seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


def kubernetes_client(conn_id: str) -> tuple[ApiClient, str | None]:
    """The authenticated client of a Kubernetes connection, and the namespace that it names, if any.

    The provider's hook reads the connection: in-cluster, path or content of a kubeconfig, context, TLS verification.

    Raises:
        AirflowNotFoundException: there is no connection ``conn_id``.
    """
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client import Configuration

    hook = KubernetesHook(conn_id=conn_id)
    if not hook.conn_extras.get("in_cluster"):
        # A configuration of its own: the hook would change the default of every other client in this process. With
        # in_cluster the hook fills in that default only.
        hook.client_configuration = Configuration()
    client: ApiClient = hook.get_conn()
    return client, hook.get_namespace()


def hub_token(conn_id: str) -> str:
    """The token of a Hugging Face connection: its password.

    Raises:
        AirflowNotFoundException: there is no connection ``conn_id``.
    """
    from airflow.sdk import BaseHook

    return str(BaseHook.get_connection(conn_id).password or "")
