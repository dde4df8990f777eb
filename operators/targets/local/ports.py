"""Free TCP ports for the processes of a deployment."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from wideloop.manifests.errors import TargetError

#: Below the ephemeral range of Linux (32768-60999), so that no outgoing connection takes one
#: between the look and the engine's bind.
_RANGE = range(20_000, 32_000)


def free_ports(count: int, taken: Collection[int], host: str = "127.0.0.1") -> list[int]:
    """``count`` ports that nothing listens on and that are not in ``taken``.

    Raises:
        TargetError: there are not that many.
    """
    free: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if len(free) == count:
            return free
        if port not in taken and _is_free(host, port):
            free.append(port)
    raise TargetError(f"fewer than {count} free TCP ports between {_RANGE.start} and {_RANGE.stop}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
