"""The ports of components under Dynamo, and the probes that use them."""

from __future__ import annotations

from typing import Any

from wideloop.manifests.kubernetes.probes import frontend_probes, worker_probes

FRONTEND_PORT = 8000
#: Dynamo's system port: health, metrics and the engine's control routes of a worker.
SYSTEM_PORT = 9090
#: Number of each port name that engines use. "system" is the mocker's own HTTP server, beside the control port.
PORTS = {"http": FRONTEND_PORT, "control": SYSTEM_PORT, "system": 9091, "bootstrap": 30001}


def probes(*, worker: bool, simulated: bool) -> dict[str, Any]:
    """Probes of a worker, or of the frontend."""
    return worker_probes(SYSTEM_PORT, simulated=simulated) if worker else frontend_probes(FRONTEND_PORT)
