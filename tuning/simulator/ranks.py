"""The ranks of a simulated worker over several nodes: they meet before they serve, and none outlives the others.

The mocker has no mode for several nodes: rank 0 stands for the whole worker, and the others do nothing but hold their
place. What they copy of a real worker is how it comes up and goes down: rank 0 waits for all before it serves, as
``torch.distributed`` does, and a rank that loses its peer ends with what Gloo says then.
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
    """As rank 0: return once ``count - 1`` others are there. The process ends when one of them is gone later."""
    end_when_asked()
    with socket.create_server((host, port)) as server:
        for met in range(1, count):
            print(f"SIMULATED rank 0 of {count}: {met} there, waits for the others", flush=True)
            peer, address = server.accept()
            threading.Thread(target=_guard, args=(peer, f"rank at {address[0]}"), daemon=True).start()
    print(f"SIMULATED all {count} ranks are there; rank 0 stands for the whole worker", flush=True)


def follow(address: str, rank: int, count: int) -> NoReturn:
    """As any other rank: find rank 0 at ``address`` (``host:port``), and end when it is gone."""
    end_when_asked()
    host, _, port = address.rpartition(":")
    while True:
        try:
            # Its name is not known before its pod has an address.
            leader = socket.create_connection((host, int(port)))
            break
        except OSError:
            time.sleep(_RETRY_S)
    print(f"SIMULATED rank {rank} of {count}: rank 0 is there and stands for the whole worker", flush=True)
    _guard(leader, "rank 0")


def end_when_asked() -> None:
    """End at SIGTERM: the first process of a container ignores it unless it says what to do."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _guard(peer: socket.socket, who: str) -> NoReturn:
    try:
        while peer.recv(1):
            pass
    except OSError:
        pass
    print(f"SIMULATED {_LOST}: {who} is gone", flush=True)
    os._exit(1)
