"""A Kubernetes control plane as child processes: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

RBAC and every admission plugin of a default cluster are on. Off is what needs machines: node life-cycle (a node
stays ready without a heartbeat), node address management, cloud parts.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import processes

_HOST = "127.0.0.1"
_START_S = 90.0
_STOP_S = 10.0
#: Go collects garbage when the heap has doubled; on two cores that costs more than the memory is worth.
_MEMORY_FOR_CPU = {"GOGC": "400"}
_OFF = (
    "nodeipam",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "node-route-controller",
    "service-lb-controller",
    "cloud-node-lifecycle",
)


class DidNotStart(Exception):
    """A process ended or never became ready; the text has the end of its log."""


class ControlPlane:
    """One control plane with its data, logs and administrator's kubeconfig below ``folder``.

    Attributes:
        kubeconfig: of a member of ``system:masters``.
        url: of the API server, ``https://127.0.0.1:<port>``, the same after a restart.
        token: the administrator's bearer token.
        ca: file with the certificate authority of the API server.
    """

    def __init__(self, binaries: Mapping[str, Path], folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "admin.kubeconfig"
        self.ca = folder / "certs" / "apiserver.crt"
        self.token = secrets.token_hex(16)
        self._binaries = binaries
        self._etcd, self._peer, self.port, self._manager, self._scheduler = _free_ports(5)
        self.url = f"https://{_HOST}:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    # ---- its life

    def start(self, before_controllers: Callable[[], None] = lambda: None) -> None:
        """Start everything and wait until it works (about 4 s).

        ``before_controllers`` is called when the API server answers: resources defined there are known to the
        garbage collector from the beginning, which looks for new ones every 30 s only.

        Raises:
            DidNotStart: a process ended, or was not ready in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        _signing_key(self.folder)
        self._start_etcd()
        self.start_apiserver()
        self.kubeconfig.write_text(yaml.safe_dump(kubeconfig(self.url, self.ca, self.token)))
        before_controllers()
        self._start("kube-controller-manager", *self._manager_arguments())
        self._start("kube-scheduler", *self._client_arguments(self._scheduler), "--leader-elect=false")
        self._wait_for_controllers()

    def stop(self) -> None:
        """End everything, clients before servers. The folder stays."""
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            if process := self._running.pop(name, None):
                processes.end(process, _STOP_S)

    def kill_apiserver(self) -> None:
        """``kill -9`` of the API server: every connection and watch breaks."""
        process = self._running.pop("kube-apiserver")
        process.kill()
        process.wait()

    def start_apiserver(self) -> None:
        """Start the API server, on its old port and data when it ran before, and wait until it is ready."""
        self._start("kube-apiserver", *self._apiserver_arguments())
        self._wait(lambda: self._request("/readyz"), "kube-apiserver")

    def restart_apiserver(self, down_s: float = 0.0) -> None:
        """Kill the API server and start it again after ``down_s`` seconds of silence.

        Returns when the controllers have found it again: before that pods are bound to nodes that are gone.
        """
        self.kill_apiserver()
        time.sleep(down_s)
        self.start_apiserver()
        self._wait_for_controllers()

    # ---- how to use it

    def log(self, name: str) -> Path:
        """Log of a process, by the name of its binary."""
        return self.folder / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """The processes that run, by the names of their binaries."""
        return {name: process.pid for name, process in self._running.items() if process.poll() is None}

    # ---- the processes

    def _start_etcd(self) -> None:
        client, peer = f"http://{_HOST}:{self._etcd}", f"http://{_HOST}:{self._peer}"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def _apiserver_arguments(self) -> list[str]:
        return [
            f"--etcd-servers=http://{_HOST}:{self._etcd}",
            f"--bind-address={_HOST}",
            f"--advertise-address={_HOST}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.ca.parent}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _manager_arguments(self) -> list[str]:
        return [
            *self._client_arguments(self._manager),
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.ca}",
            "--leader-elect=false",
            f"--controllers=*,{','.join('-' + name for name in _OFF)}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    def _client_arguments(self, port: int) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--bind-address={_HOST}",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / f'certs-{port}'}",
        ]

    def _start(self, name: str, *arguments: str) -> None:
        command = [str(self._binaries[name]), *arguments]
        self._running[name] = processes.start(command, self.log(name), env={**os.environ, **_MEMORY_FOR_CPU})

    def _wait(self, done: Any, name: str) -> None:
        """Until ``done()`` is true; an error of the connection means not yet."""
        deadline = time.monotonic() + _START_S
        while True:
            self._check()
            try:
                if done():
                    return
            except (OSError, urllib.error.URLError):
                pass
            if time.monotonic() > deadline:
                raise DidNotStart(f"{name} was not ready after {_START_S:.0f} s: {self._tail(name)}")
            time.sleep(0.1)

    def _check(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DidNotStart(f"{name} ended with {process.returncode}: {self._tail(name)}")

    def _tail(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")[-2000:]

    def _wait_for_controllers(self) -> None:
        """Until a pod may be made (it has a service account) and is bound to a node that is new."""
        name = f"probe-{secrets.token_hex(4)}"
        node, pods = "/api/v1/nodes", "/api/v1/namespaces/default/pods"
        labels = {"kubernetes.io/hostname": name}
        room = {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "1"}}
        container = {"name": "main", "image": "none"}
        spec = {"containers": [container], "nodeSelector": labels, "tolerations": [{"operator": "Exists"}]}
        pod = {"metadata": {"name": name}, "spec": spec}
        self._request(node, {"metadata": {"name": name, "labels": labels}, "status": room})
        try:
            self._wait(lambda: self._request(pods, pod), "kube-controller-manager")
            self._wait(lambda: "nodeName" in self._request(f"{pods}/{name}")["spec"], "kube-scheduler")
        finally:
            self._request(f"{pods}/{name}?gracePeriodSeconds=0", method="DELETE")
            self._request(f"{node}/{name}", method="DELETE")

    def _request(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        """The answer's document; ``{"text": ...}`` when it is none. A body is created."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        context = ssl.create_default_context(cafile=self.ca)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            text = answer.read().decode()
        document: dict[str, Any] = json.loads(text) if text.startswith("{") else {"text": text}
        return document


def kubeconfig(url: str, ca: Path, token: str, namespace: str = "default") -> dict[str, Any]:
    """A kubeconfig document for a bearer token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": url, "certificate-authority": str(ca)}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user", "namespace": namespace}}],
        "current-context": "tests",
    }


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((_HOST, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _signing_key(folder: Path) -> None:
    """``sa.key`` and ``sa.pub``: what signs and verifies the tokens of service accounts."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "sa.key").write_bytes(private)
    (folder / "sa.key").chmod(0o600)
    (folder / "sa.pub").write_bytes(public)
