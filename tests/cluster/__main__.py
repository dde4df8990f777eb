"""Keep a control plane, its agent and nodes running for a trial by hand: ``python -m tests.cluster h200-16``.

Prints how to reach it and runs until it is interrupted; nothing is left then.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from wideloop.manifests import profiles

from tests.cluster import local, nodes
from tests.cluster.binaries import find
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ControlPlane


def main() -> None:
    """The hosts of each hardware profile named on the command line; of h200-16 when none is."""
    wanted = sys.argv[1:] or ["h200-16"]
    binaries = find()
    with tempfile.TemporaryDirectory(prefix="wideloop-cluster-") as folder:
        plane = ControlPlane(binaries, Path(folder) / "controlplane")
        cluster = Cluster(plane.kubeconfig, str(binaries["kubectl"]), plane)
        try:
            plane.start(lambda: local.prepare(cluster))
            agent = local.node_agent(cluster, plane, Path(folder) / "agent")
            agent.start()
            try:
                for name in wanted:
                    agent.add_nodes(nodes.gpu_nodes(profiles.hardware(name), name))
                parsers = local.rehearsal_image(agent, Path(folder) / "rehearsal")
                operator = local.dynamo_operator(plane)
                operator.start()
                print(f"export KUBECONFIG={plane.kubeconfig}\nalias kubectl={binaries['kubectl']}", flush=True)
                print("Ctrl-C ends it", file=sys.stderr, flush=True)
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
                operator.stop()
                parsers.stop()
            finally:
                agent.stop()
        finally:
            plane.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
