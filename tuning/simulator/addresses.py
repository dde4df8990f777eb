"""The address at which other processes reach Dynamo's runtime in this process, on all of its planes."""

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
    """Set ``host`` as Dynamo's address for listening and for others; call it before Dynamo is imported.

    The pod's variables cannot do that: Kubernetes expands ``$(POD_IP)`` only in variables after ``POD_IP``, and
    Dynamo's operator sorts variables by name.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, host))
