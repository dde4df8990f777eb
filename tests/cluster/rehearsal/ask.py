"""Ask the parsers of the image's version, from inside of a pod."""

from __future__ import annotations

import json
import socket
from typing import Any


def ask(address: tuple[str, int], arguments: list[str]) -> dict[str, Any]:
    """What the parsers make of ``arguments``: ``{"parsed": {...}}`` or ``{"error": "..."}``."""
    with socket.create_connection(address) as connection, connection.makefile("rw") as stream:
        stream.write(json.dumps(arguments) + "\n")
        stream.flush()
        answer: dict[str, Any] = json.loads(stream.readline())
    return answer
