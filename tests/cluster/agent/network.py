"""A network namespace for each pod, with an address that this machine and every other pod can reach."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

#: The range reserved for benchmarks of network devices: nothing real has an address here. One /22 for each agent.
_RANGE = ipaddress.ip_network("198.18.0.0/15")
_PREFIX = 22
_BRIDGE = re.compile(r"wlbr\d+")


class CannotRun(Exception):
    """Pods cannot run on this machine; the text says why."""


@dataclass(frozen=True)
class PodNetwork:
    """A namespace as ``ip netns`` knows it, and the pod's address in it."""

    namespace: str
    address: str


class Network:
    """One bridge and the namespaces of the pods behind it. Its methods call ``ip`` (some 20 ms each).

    Attributes:
        gateway: this machine's address on the bridge.
    """

    def __init__(self) -> None:
        """Take the first free bridge.

        Raises:
            CannotRun: not root, not Linux, or a tool is missing.
        """
        if os.geteuid() != 0:
            raise CannotRun("network namespaces need root")
        if missing := [tool for tool in ("ip", "nsenter", "unshare", "setpriv") if shutil.which(tool) is None]:
            raise CannotRun(f"{', '.join(missing)} not on PATH (packages iproute2 and util-linux)")
        remove_abandoned()
        self._bridge, subnet = self._claim()
        self._hosts = [str(host) for host in subnet.hosts()]
        self.gateway = self._hosts.pop(0)
        self._free = list(reversed(self._hosts))
        _ip(
            f"link set {self._bridge} alias {_alias(os.getpid())}",
            f"addr add {self.gateway}/{_PREFIX} dev {self._bridge}",
            f"link set {self._bridge} up",
        )

    def _claim(self) -> tuple[str, ipaddress.IPv4Network]:
        for number, subnet in enumerate(_RANGE.subnets(new_prefix=_PREFIX)):
            done = subprocess.run(
                ["ip", "link", "add", f"wlbr{number}", "type", "bridge"], capture_output=True, text=True
            )
            if done.returncode == 0:
                return f"wlbr{number}", ipaddress.IPv4Network(subnet)
            if "File exists" not in done.stderr:
                raise CannotRun(f"ip link add type bridge: {done.stderr.strip()}")
        raise CannotRun(f"every part of {_RANGE} is taken")

    def add(self) -> PodNetwork:
        """A new namespace with ``eth0`` up."""
        address = self._free.pop()
        namespace = f"{self._bridge}-{address}"
        end = f"wl{int(ipaddress.ip_address(address)) & 0x1FFFF:x}"
        _ip(
            f"netns add {namespace}",
            f"link add {end} type veth peer name eth0 netns {namespace}",
            f"link set {end} master {self._bridge} up",
        )
        _ip(
            "link set lo up",
            f"addr add {address}/{_PREFIX} dev eth0",
            "link set eth0 up",
            f"route add default via {self.gateway}",
            namespace=namespace,
        )
        return PodNetwork(namespace, address)

    def remove(self, network: PodNetwork) -> None:
        """Delete a namespace; no process may be left in it."""
        _ip(f"netns del {network.namespace}")
        self._free.insert(0, network.address)

    def close(self) -> None:
        """Delete the bridge with every namespace behind it."""
        _remove(self._bridge)


def remove_abandoned() -> None:
    """Delete the bridges whose agents died without closing them."""
    for bridge, alias in _bridges().items():
        pid = alias.removeprefix(_alias(""))
        if pid != alias and not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110 - not a file
            _remove(bridge)


def left_behind(pid: int) -> list[str]:
    """Bridges of a process that are still there."""
    return [bridge for bridge, alias in _bridges().items() if alias == _alias(pid)]


def _alias(pid: int | str) -> str:
    return f"wideloop-tests-{pid}"


def _bridges() -> dict[str, str]:
    done = subprocess.run(["ip", "-json", "link", "show", "type", "bridge"], capture_output=True, check=True)
    links = json.loads(done.stdout or b"[]")
    return {link["ifname"]: link.get("ifalias", "") for link in links if _BRIDGE.fullmatch(link.get("ifname", ""))}


def _remove(bridge: str) -> None:
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(f"{bridge}-")]
    _ip(*(f"netns del {name}" for name in names), f"link del {bridge}")


def _ip(*commands: str, namespace: str = "") -> None:
    """Run commands in one ``ip -batch``."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(commands) + "\n", capture_output=True, text=True
    )
    if done.returncode:
        raise CannotRun(f"ip: {done.stderr.strip()} ({'; '.join(commands)})")
