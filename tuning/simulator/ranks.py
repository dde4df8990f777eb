"""The ranks of a simulated worker over several nodes: all connect before serving, and all end together.

The mocker has no mode for several nodes: rank 0 stands for the whole worker, and the others only keep their
pods running. Start and end are as in a real worker: rank 0 waits for all before it serves, as ``torch.distributed``
does, and a rank that loses its peer ends with Gloo's message.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import NoReturn

_RETRY_S = 0.2
_LOST = "Connection closed by peer"


def gather(host: str, port: int, count: int) -> None:
    """As rank 0: return once ``count - 1`` others have connected. The process ends when one of them disconnects."""
    end_when_asked()
    with socket.create_server((host, port)) as server:
        for met in range(1, count):
            print(f"SIMULATED rank 0 of {count}: {met} there, waits for the others", flush=True)
            peer, address = server.accept()
            threading.Thread(target=_guard, args=(peer, f"rank at {address[0]}"), daemon=True).start()
    print(f"SIMULATED all {count} ranks are there; rank 0 stands for the whole worker", flush=True)


def follow(address: str, rank: int, count: int) -> NoReturn:
    """As any other rank: connect to rank 0 at ``address`` (``host:port``), and end when it disconnects."""
    end_when_asked()
    host, _, port = address.rpartition(":")
    while True:
        try:
            # The name of rank 0 does not resolve before its pod has an address.
            leader = socket.create_connection((host, int(port)))
            break
        except OSError:
            time.sleep(_RETRY_S)
    print(f"SIMULATED rank {rank} of {count}: rank 0 is there and stands for the whole worker", flush=True)
    _guard(leader, "rank 0")


def end_when_asked() -> None:
    """End at SIGTERM, which the first process of a container ignores without a handler."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _guard(peer: socket.socket, who: str) -> NoReturn:
    try:
        while peer.recv(1):
            pass
    except OSError:
        pass
    print(f"SIMULATED {_LOST}: {who} is gone", flush=True)
    os._exit(1)
