"""A cluster that tests talk to: a control plane of their own, or one that its user named."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from tests.cluster.control_plane import ControlPlane, kubeconfig
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

T = TypeVar("T")


class Cluster:
    """How to reach a cluster as its administrator.

    Attributes:
        kubeconfig: of the administrator.
        program: kubectl.
        own: the control plane when the tests started it, None for a cluster that exists without them.
    """

    def __init__(self, kubeconfig: Path, kubectl: str, own: ControlPlane | None = None) -> None:
        self.kubeconfig = kubeconfig
        self.own = own
        self.program = Path(kubectl)

    def client(self) -> ApiClient:
        """A new client of the official library, as the administrator."""
        from kubernetes import config

        return config.new_client_from_config(str(self.kubeconfig))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl as the administrator.

        Raises:
            subprocess.CalledProcessError: it failed; the message has its standard error.
        """
        command = [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def apply(self, documents: Iterable[dict[str, Any]], namespace: str | None = None) -> str:
        """Server-side apply with strict validation: unknown and duplicate fields are errors.

        Raises:
            subprocess.CalledProcessError: the API server refused one.
        """
        text = yaml.safe_dump_all(documents)
        where = ["--namespace", namespace] if namespace else []
        return self.kubectl("apply", "--server-side", "--validate=strict", *where, "-f", "-", stdin=text)

    def account_kubeconfig(self, namespace: str, account: str, path: Path) -> Path:
        """Write ``path``: a kubeconfig with a fresh token (one hour) of a service account."""
        token = self.kubectl("create", "token", account, "--namespace", namespace, "--duration=24h").strip()
        admin = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        path.write_text(
            yaml.safe_dump(kubeconfig(admin["server"], Path(admin["certificate-authority"]), token, namespace))
        )
        return path


def wait_for(probe: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """The first truthy result of ``probe``, called every 100 ms.

    Raises:
        TimeoutError: none within ``timeout_s`` (times ``PATIENCE``); names ``what`` and the last result.
    """
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not (result := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or probe}: not within {timeout_s * PATIENCE:.0f} s, last {result!r}")
        time.sleep(0.1)
    return result
