"""Airflow's connections, for targets: looked up by entry point, so that no target imports Airflow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from wideloop.manifests.errors import Refused
from wideloop.manifests.findings import Finding

_GROUP = "wideloop.connections"


def from_connection(kind: str, setting: str, conn_id: str) -> Any:
    """What the connection ``conn_id`` holds, as the entry point ``kind`` gives it.

    Args:
        kind: ``kubernetes`` (client and namespace) or ``huggingface`` (token).
        setting: that names the connection, for the message.

    Raises:
        Refused: there is no such connection, it cannot be used, or Airflow is not installed here. The message has no
            text of the cause, which may quote the connection's secrets.
    """
    resolve = _resolver(kind)
    if resolve is None:
        rule = "names a connection of Airflow, which is not installed here"
        raise Refused([_finding(setting, conn_id, rule, "Unset it, and use the settings without a connection")])
    try:
        return resolve(conn_id)
    except Exception as error:
        rule = f"cannot be used as a connection: {type(error).__name__}"
    # Outside of the handler: a traceback of the cause would show what it quotes.
    suggestion = f"Look at it with `airflow connections get {conn_id}`, and at the provider's page of its fields"
    raise Refused([_finding(setting, conn_id, rule, suggestion)])


def _resolver(kind: str) -> Callable[[str], Any] | None:
    for entry_point in entry_points(group=_GROUP, name=kind):
        with contextlib.suppress(ImportError):
            resolve: Callable[[str], Any] = entry_point.load()
            return resolve
    return None


def _finding(setting: str, conn_id: str, rule: str, suggestion: str) -> Finding:
    return Finding(field=setting, value=conn_id, rule=rule, suggestion=suggestion)
