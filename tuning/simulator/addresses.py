"""The address that Dynamo's runtime in this process is reached at, by every plane of it."""

from __future__ import annotations

import os

_VARIABLES = (
    "DYN_SYSTEM_HOST",
    "DYN_TCP_RPC_HOST",
    "DYN_HTTP_RPC_HOST",
    "DYN_TCP_RESPONSE_STREAM_HOST",
    "DYN_EVENT_PLANE_HOST",
)


def set_host(host: str) -> None:
    """Have Dynamo listen at ``host`` and tell others so; to be called before it is loaded.

    Not by the pod's own variables: Kubernetes fills ``$(POD_IP)`` into those only that come after ``POD_IP``, and
    Dynamo's operator sorts them by name.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, host))
