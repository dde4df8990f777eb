"""The agent: its thread, its nodes and the pods they run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.agent import claims, compute_domains, names
from tests.cluster.agent.api import Api
from tests.cluster.agent.events import Events
from tests.cluster.agent.faults import Fault
from tests.cluster.agent.images import Images
from tests.cluster.agent.network import Network
from tests.cluster.agent.pod import HOST_IP, Node, PodRun
from tests.cluster.agent.server import LogServer

Document = dict[str, Any]
T = TypeVar("T")

_START_S = 30.0
#: So many requests at once when many nodes are made.
_AT_ONCE = 32


class NodeAgent:
    """Runs the pods of its nodes below ``folder``. Its methods may be called from any thread.

    ``images`` is what can be pulled, see :class:`Images`; ``certificate`` and ``key`` are what its HTTPS endpoint
    shows (the API server does not verify a kubelet's). ``backoff_s`` is the first wait before a failed container is
    restarted: 10 s in a real cluster.

    Raises:
        CannotRun: this machine cannot run pods.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        images: Mapping[str, Path | None],
        certificate: Path,
        key: Path,
        backoff_s: float = 2.0,
    ) -> None:
        self.network = Network()
        self.images = Images(images)
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._certificate, self._key = certificate, key
        self._backoff_s = backoff_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="node agent", daemon=True)
        self._mine: set[str] = set()
        self._pods: dict[str, tuple[PodRun, asyncio.Task[None]]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._ending: set[str] = set()
        self._slices: dict[str, Document] = {}

    # ---- its life

    def start(self) -> None:
        """Start; ready to be given nodes when this returns."""
        self._thread.start()
        self._call(self._start()).result(_START_S)

    def stop(self) -> None:
        """Kill every pod's processes and remove every network; what the API server knows stays as it is."""
        self._call(self._stop()).result(_START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.network.close()

    # ---- nodes

    def add_nodes(self, nodes: Iterable[Document]) -> list[str]:
        """Register nodes (see :mod:`tests.cluster.nodes`) whose pods this agent runs; their names."""
        return self._call(self._add_nodes(list(nodes))).result()

    def remove_nodes(self, nodes: Iterable[str]) -> None:
        """Delete nodes. Their pods' processes are killed first; the cluster forgets the pods by itself."""
        self._call(self._remove_nodes(list(nodes))).result()

    # ---- what tests make go wrong

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Any:
        """Pods that ``fault`` hits fail while this is entered."""
        self._node.faults.append(fault)
        try:
            yield fault
        finally:
            self._node.faults.remove(fault)

    def kill(self, namespace: str, pod: str, *, out_of_memory: bool = False) -> None:
        """``kill -9`` the first process of every container of a pod, as the kernel does when memory runs out.

        Raises:
            KeyError: the pod does not run here.
        """
        run = self._find(namespace, pod)
        if run is None or not run.runs:
            raise KeyError(f"pod {namespace}/{pod} does not run here")
        for one in list(run.runs.values()):
            one.kill(out_of_memory=out_of_memory)

    def processes(self, namespace: str) -> dict[str, int]:
        """The first process of each running container, by ``pod/container``."""
        runs = [run for run, _ in list(self._pods.values()) if run.namespace == namespace]
        found = {f"{run.name}/{name}": one.pid() for run in runs for name, one in list(run.runs.items())}
        return {name: pid for name, pid in found.items() if pid is not None}

    # ---- in its own thread

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _start(self) -> None:
        self._api = await Api(self._kubeconfig).__aenter__()
        self._logs = LogServer(self._certificate, self._key, self._find)
        self._port = await self._logs.start()
        gate = await asyncio.start_server(self._forward, self.network.gateway, 443)
        self._gate = gate
        self._node = Node(
            api=self._api,
            network=self.network,
            images=self.images,
            folder=self._folder / "pods",
            backoff_s=self._backoff_s,
            event=Events(self._api).record,
            write_hosts=self._write_hosts,
            variables=_WHERE,
        )
        provisioner = claims.Provisioner(self._api, self._folder / "claims")
        for work in (
            self._watch_pods(),
            self._watch_slices(),
            provisioner.claims(),
            provisioner.volumes(),
            compute_domains.make_templates(self._api),
        ):
            self._tasks.append(asyncio.create_task(work))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(run.stop(0) for run, _ in self._pods.values()))
        ended = [task for _, task in self._pods.values()]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, *self._tasks, return_exceptions=True)
        self._gate.close()
        await self._logs.stop()
        await self._api.__aexit__()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a pod to the API server, which listens on this machine's loopback only."""
        try:
            there, back = await asyncio.open_connection(*self._api.address)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    async def _add_nodes(self, nodes: list[Document]) -> list[str]:
        slots = asyncio.Semaphore(_AT_ONCE)
        found = [node["metadata"]["name"] for node in nodes]
        self._mine.update(found)

        async def add(node: Document) -> None:
            async with slots:
                made = await self._api.create("/api/v1/nodes", node)
                await self._api.patch(f"/api/v1/nodes/{node['metadata']['name']}", {"spec": {"taints": None}})
                await compute_domains.offer_channel(self._api, made)

        extra = {
            "addresses": [{"type": "InternalIP", "address": HOST_IP}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
        }
        await asyncio.gather(*(add({**node, "status": node["status"] | extra}) for node in nodes))
        return found

    async def _remove_nodes(self, nodes: list[str]) -> None:
        gone = set(nodes)
        runs = [run for run, _ in self._pods.values() if run.pod["spec"]["nodeName"] in gone]
        await asyncio.gather(*(run.stop(0) for run in runs))
        self._mine -= gone
        slots = asyncio.Semaphore(_AT_ONCE)

        async def remove(node: str) -> None:
            async with slots:
                await self._api.delete(f"/api/v1/nodes/{node}")

        await asyncio.gather(*(remove(node) for node in nodes))

    # ---- pods

    def _find(self, namespace: str, name: str) -> PodRun | None:
        runs = [run for run, _ in list(self._pods.values())]
        return next((run for run in runs if (run.namespace, run.name) == (namespace, name)), None)

    async def _watch_pods(self) -> None:
        async for kind, found in self._api.watch("/api/v1/pods"):
            if kind == "LIST":
                there = {pod["metadata"]["uid"] for pod in found}
                for uid in set(self._pods) - there:
                    self._spawn(self._end(uid, 0))
            for pod in found if kind == "LIST" else [found]:
                self._heard("MODIFIED" if kind == "LIST" else kind, pod)

    def _heard(self, kind: str, pod: Document) -> None:
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if pod["spec"].get("nodeName") not in self._mine:
            return
        if kind == "DELETED":
            self._spawn(self._end(uid, 0))
        elif "deletionTimestamp" in metadata:
            self._spawn(self._end(uid, metadata.get("deletionGracePeriodSeconds", 0), pod))
        elif uid not in self._pods and pod["status"]["phase"] in ("Pending", "Running"):
            run = PodRun(self._node, pod)
            self._pods[uid] = run, asyncio.create_task(run.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(work))

    async def _end(self, uid: str, grace_s: float, pod: Document | None = None) -> None:
        """End a pod's processes; with ``pod`` also tell the API server that it is gone."""
        if uid in self._ending:
            if uid in self._pods:
                self._pods[uid][0].hurry(grace_s)
            return
        self._ending.add(uid)
        if uid in self._pods:
            run, task = self._pods[uid]
            await run.stop(grace_s)
            await asyncio.gather(task, return_exceptions=True)
            self._pods.pop(uid, None)
        if pod is not None:
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            await self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})

    # ---- names

    async def _watch_slices(self) -> None:
        async for kind, found in self._api.watch("/apis/discovery.k8s.io/v1/endpointslices"):
            if kind == "LIST":
                self._slices = {one["metadata"]["uid"]: one for one in found}
            elif kind == "DELETED":
                self._slices.pop(found["metadata"]["uid"], None)
            else:
                self._slices[found["metadata"]["uid"]] = found
            for run, _ in self._pods.values():
                if run.network:
                    self._write_hosts(run)

    def _write_hosts(self, run: PodRun) -> None:
        """In place: the file is mounted into the pod's containers."""
        hostname = run.pod["spec"].get("hostname") or run.name
        known = names.names(self._slices.values())
        run.hosts.write_text(names.hosts(known, run.namespace, hostname, run.address, self.network.gateway))


#: Where the API server is, for clients that look for it as pods do.
_WHERE = {"KUBERNETES_SERVICE_HOST": "kubernetes.default.svc", "KUBERNETES_SERVICE_PORT": "443"}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
