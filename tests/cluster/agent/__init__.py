"""A node agent in Python: what a kubelet, a container runtime, a volume provisioner and a cluster's DNS do, small.

Pods that the scheduler binds to one of its nodes run as processes of this machine, each container in mount, PID,
UTS and IPC namespaces of its own and each pod in a network namespace with an address of its own. A pod's root file
system is this machine's, with a writable layer that is thrown away. It needs root on Linux with iproute2 and
util-linux.
"""

from tests.cluster.agent.agent import NodeAgent as NodeAgent
from tests.cluster.agent.network import CannotRun as CannotRun
