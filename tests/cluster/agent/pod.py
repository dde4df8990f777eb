"""The life of one pod on this machine, from its volumes to its last status."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.agent import environment, faults, volumes
from tests.cluster.agent.api import Api, ApiError
from tests.cluster.agent.container import Run
from tests.cluster.agent.environment import ConfigError
from tests.cluster.agent.health import Health, Record
from tests.cluster.agent.images import CannotPull, Images
from tests.cluster.agent.network import Network, PodNetwork
from tests.cluster.agent.status import ContainerState, conditions, now, phase
from tests.cluster.agent.volumes import CannotMount, Mount

Document = dict[str, Any]
HOST_IP = "127.0.0.1"


@dataclass
class Node:
    """What the pods of an agent share.

    Attributes:
        folder: of pods' volumes and logs.
        backoff_s: wait before the first restart of a container that failed; it doubles up to 30 times that.
        event: ``await event(pod, type, reason, message)`` records an event.
        write_hosts: writes the file of a pod's names.
        faults: what tests want to fail.
        variables: environment of every container, where the API server is.
    """

    api: Api
    network: Network
    images: Images
    folder: Path
    backoff_s: float
    event: Record
    write_hosts: Callable[[PodRun], None]
    faults: list[faults.Fault] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


class PodRun:
    """One pod; :meth:`run` is its life. ``hosts`` is the file its containers see as ``/etc/hosts``."""

    def __init__(self, node: Node, pod: Document) -> None:
        self.node = node
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self.folder: Path = node.folder / self.uid
        self.hosts = self.folder / "hosts"
        self.network: PodNetwork | None = None
        self.states = [ContainerState(c["name"], c["image"]) for c in pod["spec"]["containers"]]
        self.init_states = [ContainerState(c["name"], c["image"]) for c in pod["spec"].get("initContainers", ())]
        self.runs: dict[str, Run] = {}
        self._initialised = not self.init_states
        self._stopping = asyncio.Event()
        self._deadline = float("inf")
        self._dirty = asyncio.Event()
        self._folders: dict[str, Path] = {}
        self._sources: dict[tuple[str, str], dict[str, str]] = {}

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @property
    def address(self) -> str:
        return self.network.address if self.network else ""

    def log(self, container: str, restarts: int) -> Path:
        """Log of a container's run after that many restarts."""
        return self.folder / f"{container}.{restarts}.log"

    # ---- from beginning to end

    async def run(self) -> None:
        """Until every container has ended for good."""
        self.folder.mkdir(parents=True, exist_ok=True)
        publisher = asyncio.create_task(self._publish())
        try:
            await self._prepare()
            await self._containers()
        finally:
            publisher.cancel()
            await self._free()
            await self._send_status()

    async def _containers(self) -> None:
        for spec, state in zip(self.pod["spec"].get("initContainers", ()), self.init_states, strict=True):
            await self._keep(spec, state, restart=self._restart_policy != "Never", until_success=True)
            if state.exit_code != 0:
                return
        self._initialised = True
        self._changed()
        specs = zip(self.pod["spec"]["containers"], self.states, strict=True)
        await asyncio.gather(*(self._keep(s, c, self._restart_policy != "Never", self._on_failure) for s, c in specs))

    async def stop(self, grace_s: float) -> None:
        """SIGTERM to every container, and SIGKILL to those that still run after ``grace_s``."""
        self._stopping.set()
        self.hurry(grace_s)
        running = list(self.runs.values())
        for run in running:
            run.kill(signal.SIGTERM)
        while self.runs and asyncio.get_running_loop().time() < self._deadline:
            await asyncio.sleep(0.05)
        while self.runs:  # a container that had just been started has no process to kill yet
            for run in list(self.runs.values()):
                run.kill()
            await asyncio.sleep(0.05)

    def hurry(self, grace_s: float) -> None:
        """Give a pod that is being stopped at most this long from now."""
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + grace_s)

    @property
    def _restart_policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy", "Always"))

    @property
    def _on_failure(self) -> bool:
        return self._restart_policy == "OnFailure"

    async def _prepare(self) -> None:
        """Network and volumes, tried again until they can be made."""
        self.network = await asyncio.to_thread(self.node.network.add)
        self.node.write_hosts(self)
        self.pod["status"] |= {"podIP": self.address, "hostIP": HOST_IP, "startTime": now()}
        while not self._stopping.is_set():
            wanted = environment.references(self.pod) | volumes.references(self.pod)
            self._sources = await volumes.read_sources(self.node.api, self.namespace, wanted)
            try:
                made = volumes.Volumes(self.node.api, self.pod, self.folder / "volumes", self._sources)
                self._folders = await made.make()
                self._changed()
                return
            except CannotMount as error:
                await self.node.event(self.pod, "Warning", "FailedMount", str(error))
                self._changed()
                await self._sleep(1)

    async def _free(self) -> None:
        if self.network:
            await asyncio.to_thread(self.node.network.remove, self.network)
            self.network = None
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)

    # ---- one container

    async def _keep(self, spec: Document, state: ContainerState, restart: bool, until_success: bool) -> None:
        """Run a container, again and again if its pod wants that."""
        delay = self.node.backoff_s
        while not self._stopping.is_set():
            if await self._once(spec, state) is False:
                await self._sleep(1)  # not started: tried again at the pace of the kubelet
                continue
            if self._stopping.is_set() or not restart or (until_success and state.exit_code == 0):
                return
            name = f"{self.name}_{self.namespace}({self.uid})"
            text = f"back-off {delay:.0f}s restarting failed container={spec['name']} pod={name}"
            await self.node.event(
                self.pod, "Warning", "BackOff", f"Back-off restarting failed container {spec['name']}"
            )
            state.wait("CrashLoopBackOff", text)
            self._changed()
            await self._sleep(delay)
            state.restarts += 1
            delay = min(2 * delay, 30 * self.node.backoff_s)

    async def _once(self, spec: Document, state: ContainerState) -> bool:
        """One run to its end; False when the container could not be started."""
        try:
            path = await self._pull(spec)
            values = await self._variables(spec, path)
            command = environment.command(spec, values)
            mounts = volumes.mounts(spec, self.pod, self._folders)
        except CannotPull as error:
            pulling = state.state.get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff")
            back_off = f'Back-off pulling image "{spec["image"]}": ErrImagePull: {error}'
            state.wait("ImagePullBackOff" if pulling else "ErrImagePull", back_off if pulling else str(error))
            self._changed()
            return False
        except (ConfigError, CannotMount) as error:
            state.wait("CreateContainerConfigError", str(error))
            await self.node.event(self.pod, "Warning", "Failed", f"Error: {error}")
            self._changed()
            return False
        await self._one_run(spec, state, command, values, mounts)
        return True

    async def _one_run(
        self, spec: Document, state: ContainerState, command: list[str], values: dict[str, str], mounts: list[Mount]
    ) -> None:
        if fault := faults.find(self.node.faults, self.pod, "exit", "hang"):
            command = fault.command
        run = Run(self.folder / f"{spec['name']}-{state.restarts}", self.log(spec["name"], state.restarts))
        assert self.network is not None
        self.runs[spec["name"]] = run
        every = [*mounts, Mount(self.hosts, "/etc/hosts", True)]
        hostname = self.pod["spec"].get("hostname") or self.name
        await run.start(
            command,
            values,
            every,
            namespace=self.network.namespace,
            hostname=hostname,
            workdir=spec.get("workingDir") or "/",
        )
        state.run(f"wideloop://{uuid.uuid4().hex}", run.started_at)
        await self.node.event(self.pod, "Normal", "Started", f"Started container {spec['name']}")
        health = Health(self.pod, self.node.event, self._changed)
        probing = asyncio.create_task(health.watch(spec, state, run, self.address))
        self._changed()
        code = await run.wait()
        probing.cancel()
        del self.runs[spec["name"]]
        reason = "OOMKilled" if run.oom_killed else "Completed" if code == 0 else "Error"
        message = run.message(spec.get("terminationMessagePolicy") == "FallbackToLogsOnError")
        assert run.finished_at is not None
        state.terminate(code, reason, message, run.started_at, run.finished_at)
        self._changed()

    async def _pull(self, spec: Document) -> str:
        """``PATH`` of the image.

        Raises:
            CannotPull: it is unknown, or a test wants it so.
        """
        image = spec["image"]
        try:
            if faults.find(self.node.faults, self.pod, "pull"):
                raise CannotPull(f'failed to pull and unpack image "{image}": not found')
            return self.node.images.path(image)
        except CannotPull as error:
            text = f'Failed to pull image "{image}": {error}'
            await self.node.event(self.pod, "Warning", "Failed", text)
            raise

    async def _variables(self, spec: Document, path: str) -> dict[str, str]:
        wanted = environment.references(self.pod)
        self._sources |= await volumes.read_sources(self.node.api, self.namespace, wanted)
        base = {"PATH": path, "HOME": "/root", "HOSTNAME": self.pod["spec"].get("hostname") or self.name}
        given = base | environment.devices(spec) | self.node.variables
        return environment.variables(spec, self.pod, self._sources, given)

    # ---- status

    def status(self) -> Document:
        """The pod's status document as it is now."""
        current = phase(self.states, self.init_states, self._initialised, self._restart_policy)
        ready = current == "Running" and all(state.ready for state in self.states)
        before = self.pod["status"]
        before["conditions"] = conditions(self.pod, current, ready, self._initialised)
        return {
            "phase": current,
            "hostIP": HOST_IP,
            "startTime": before.get("startTime"),
            "conditions": before["conditions"],
            "containerStatuses": [state.document() for state in self.states],
        } | self._optional(before)

    def _optional(self, before: Document) -> Document:
        address = before.get("podIP")
        found: Document = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
        if self.init_states:
            found["initContainerStatuses"] = [state.document() for state in self.init_states]
        return found

    def _changed(self) -> None:
        self._dirty.set()

    async def _publish(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._send_status()

    async def _send_status(self) -> None:
        with contextlib.suppress(ApiError):  # it was deleted meanwhile
            await self.node.api.patch(f"{self.path}/status", {"metadata": {"uid": self.uid}, "status": self.status()})

    async def _sleep(self, seconds: float) -> None:
        """Less when the pod is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
