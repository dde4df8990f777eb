"""Which RDMA devices of which nodes reach each other: measured lane by lane, and put into words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

_NAMED = 4
#: Share of the median below which a lane is slow.
_SLOW = 0.5

Lane = dict[str, object]


class Agent(Protocol):
    """One node's end, see :mod:`wideloop.manifests.kubernetes.network_agent`."""

    #: Where its servers are reached from other nodes.
    address: str

    def node(self) -> Mapping[str, object]:
        """Name of the node, its devices, the tools of its image."""

    def serve(self, tool: str, lanes: Sequence[Lane]) -> None:
        """Start the serving ends of lanes."""

    def connect(self, tool: str, lanes: Sequence[Lane]) -> Sequence[Mapping[str, object]]:
        """Send over all lanes at once; ``gbit`` and ``error`` of each."""


@dataclass(frozen=True)
class Device:
    """An RDMA device; ``number`` is its place on its node, the rail that it lies on."""

    node: str
    name: str
    number: int
    active: bool = True

    def __str__(self) -> str:
        return f"{self.node}:{self.name}"


Ends = tuple[Device, Device]
Lanes = Mapping[Ends, float]


@dataclass
class Fabric:
    """What was measured: Gbit/s by the two ends of each lane, 0 where nothing arrived; the last reason of a failure."""

    devices: list[Device]
    tool: str = ""
    gbit: dict[tuple[Device, Device], float] = field(default_factory=dict)
    error: str = ""


def measure(agents: Sequence[Agent], first_port: int, say: Callable[[str], None] = print) -> Fabric:
    """Send between every device of a node and every device of every other node.

    Nodes meet in pairs, as many at once as share no node; the devices of a pair are used at once as well, each in one
    lane at a time: with n nodes of d devices that are (n - 1) x d steps of about two seconds.
    """
    with ThreadPoolExecutor(max(1, len(agents))) as pool:
        facts = list(pool.map(lambda agent: agent.node(), agents))
        by_node = [_devices(fact, index) for index, fact in enumerate(facts)]
        fabric = Fabric([device for devices in by_node for device in devices])
        tools = [tool for tool in _listed(facts[0], "tools") if all(tool in _listed(f, "tools") for f in facts)]
        if not tools or not all(by_node):
            return fabric
        fabric.tool = str(tools[0])
        for number, meetings in enumerate(rounds(len(agents)), 1):
            say(f"network: round {number} of {len(agents) - 1 + len(agents) % 2}, {len(meetings)} pairs of nodes")
            met = [
                pool.submit(_meet, agents[a], agents[b], by_node[a], by_node[b], fabric.tool, first_port)
                for a, b in meetings
            ]
            for lanes, error in (future.result() for future in met):
                fabric.gbit |= lanes
                fabric.error = error or fabric.error
    return fabric


def rounds(nodes: int) -> Iterator[list[tuple[int, int]]]:
    """Pairs of nodes, every two once, in rounds in which no node is in two pairs (a round-robin tournament)."""
    places = [*range(nodes), *([-1] if nodes % 2 else [])]
    for _ in range(len(places) - 1):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        yield [(min(a, b), max(a, b)) for a, b in pairs if -1 not in (a, b)]
        places = [places[0], places[-1], *places[1:-1]]


def _devices(fact: Mapping[str, object], index: int) -> list[Device]:
    name = str(fact.get("node") or f"node-{index}")
    return [
        Device(name, str(device["name"]), number, bool(device["active"]))
        for number, device in enumerate(_listed(fact, "devices"))
    ]


def _listed(fact: Mapping[str, object], key: str) -> list:  # type: ignore[type-arg]
    value = fact.get(key)
    return value if isinstance(value, list) else []


def _meet(
    here: Agent, there: Agent, ours: list[Device], theirs: list[Device], tool: str, first_port: int
) -> tuple[dict[tuple[Device, Device], float], str]:
    """Every lane between two nodes, a shift of the other's devices at a time; the last reason of a failure."""
    gbit: dict[tuple[Device, Device], float] = {}
    error = ""
    for shift in range(len(theirs)):
        pairs = [(a, theirs[(a.number + shift) % len(theirs)]) for a in ours]
        there.serve(tool, [_lane(b, first_port + i, "") for i, (_, b) in enumerate(pairs)])
        sent = here.connect(tool, [_lane(a, first_port + i, there.address) for i, (a, _) in enumerate(pairs)])
        for pair, result in zip(pairs, sent, strict=True):
            gbit[pair] = float(str(result["gbit"]))
            error = str(result["error"]) or error
    return gbit, error


def _lane(device: Device, port: int, peer: str) -> Lane:
    return {"device": device.name, "gpu": device.number, "port": port, "peer": peer}


def problems(fabric: Fabric) -> list[tuple[str, str]]:
    """What is wrong with a fabric, and what to do; the causes that explain most come first and stand alone."""
    down = [str(device) for device in fabric.devices if not device.active]
    texts = [(f"ports are down: {_some(down)}", "Look at cables and switches (`ibstat`), or cordon the nodes")] * bool(
        down
    )
    lanes = {ends: gbit for ends, gbit in fabric.gbit.items() if ends[0].active and ends[1].active}
    failed = {ends for ends, gbit in lanes.items() if not gbit}
    if failed and failed == {(a, b) for a, b in lanes if a.number != b.number}:
        return [*texts, _RAIL_ONLY]
    why = f" ({fabric.error})" if fabric.error else ""
    for kind, name in _ENDS:
        bad = _without_lane(lanes, failed, name)
        if bad:
            texts.append((f"no lane works of {kind} {_some(sorted(bad))}{why}", f"Cordon or repair the {kind}"))
            failed = {ends for ends in failed if not {name(ends[0]), name(ends[1])} & bad}
    if failed:
        named = _some(sorted(f"{a} to {b}" for a, b in failed))
        rule = f"{len(failed)} of {len(lanes)} lanes do not work: {named}{why}"
        texts.append((rule, "Check switches, partition keys and NCCL_IB_GID_INDEX between these ports"))
    return [*texts, *_slow(lanes)]


_RAIL_ONLY = (
    "the fabric is rail-only: each device reaches only those of its own number on other nodes",
    "DeepEP's low-latency mode (decode) needs every pair: have the rails joined by the network's administrator, keep a "
    "decode worker within one node, or use deepep_mode normal",
)
_ENDS: tuple[tuple[str, Callable[[Device], str]], ...] = (("node", lambda device: device.node), ("device", str))


def _without_lane(lanes: Lanes, failed: Collection[Ends], name: Callable[[Device], str]) -> set[str]:
    """The ends of which no lane works, where others do."""
    working = {name(device) for ends in lanes if ends not in failed for device in ends}
    return {name(device) for ends in failed for device in ends} - working if working else set()


def _slow(lanes: Lanes) -> list[tuple[str, str]]:
    usual = median(gbit for gbit in lanes.values() if gbit) if any(lanes.values()) else 0.0
    slow = [f"{a} to {b} ({gbit:.0f})" for (a, b), gbit in lanes.items() if 0 < gbit < _SLOW * usual]
    if not slow:
        return []
    rule = f"{len(slow)} lanes are slower than half of the others' {usual:.0f} Gbit/s: {_some(slow)}"
    return [(rule, "Look for a link that was negotiated down (`ibstat`, Rate), or for congestion")]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
