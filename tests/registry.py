"""Debian's container registry as a process of the tests, and images that exist nowhere else."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER, PASSWORD = "builder", "secret"
#: bcrypt of PASSWORD, as htpasswd -B makes it.
_HASH = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
_START_S = 20.0


class Registry:
    """One registry.

    Attributes:
        host: with its port, as the first part of an image's name.
        docker_config: content of a ``.dockerconfigjson`` with the login.
    """

    def __init__(self, host: str, folder: Path) -> None:
        self.host = host
        self.folder = folder
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.docker_config = json.dumps({"auths": {host: {"auth": login}}})

    def push(self, folder: Path, name: str) -> str:
        """Build the Dockerfile in ``folder`` with buildah and push it; the image's reference."""
        image = f"{self.host}/{name}"
        authentication = self.folder / "login.json"
        authentication.write_text(self.docker_config)
        buildah = ["buildah", "--storage-driver=vfs", f"--root={self.folder / 'b'}", f"--runroot={self.folder / 'r'}"]
        _run([*buildah, "bud", "--isolation=chroot", f"--tag={image}", str(folder)])
        _run([*buildah, "push", "--tls-verify=false", f"--authfile={authentication}", image])
        return image

    def inspect(self, image: str, *what: str) -> dict:
        """What skopeo, a reader that is not ours, says of an image."""
        login = f"--creds={USER}:{PASSWORD}"
        done = _run(["skopeo", "inspect", "--tls-verify=false", login, *what, f"docker://{image}"])
        return json.loads(done)

    def extract(self, image: str, to: Path) -> Path:
        """The files of all layers of an image, one layer over the other."""
        login = f"--src-creds={USER}:{PASSWORD}"
        _run(["skopeo", "copy", "--src-tls-verify=false", login, f"docker://{image}", f"dir:{to}/layers"])
        manifest = json.loads((to / "layers" / "manifest.json").read_text())
        (to / "files").mkdir()
        for layer in manifest["layers"]:
            _run(["tar", "-xf", str(to / "layers" / layer["digest"].partition(":")[2]), "-C", str(to / "files")])
        return to / "files"


def missing() -> list[str]:
    """The programs that are needed and not here."""
    return [name for name in ("docker-registry", "buildah", "skopeo", "busybox") if shutil.which(name) is None]


@contextmanager
def serving(
    folder: Path, address: str = "127.0.0.1", *, login: bool = False, read_only: bool = False
) -> Iterator[Registry]:
    """A registry at ``address``; with ``login`` it takes only USER's, ``read_only`` it takes no push."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "http": {"addr": f"{address}:{port}"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "maintenance": {"readonly": {"enabled": read_only}},
        },
    }
    if login:
        (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "settings.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "settings.yml")], stdout=log, stderr=log)
    try:
        _wait(f"http://{address}:{port}/v2/", process, folder / "log")
        yield Registry(f"{address}:{port}", folder)
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"the registry did not start: {log.read_text()[-1000:]}")


def python_image(folder: Path) -> Path:
    """A Dockerfile for an image of busybox in which ``python3`` only writes down how it was called."""
    folder.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", folder / "busybox")
    (folder / "python3").write_text('#!/bin/sh\necho "$*" >> /calls\n')
    (folder / "python3").chmod(0o755)
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\n"
        'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin"]\n'
        "COPY python3 /bin/python3\n"
    )
    return folder


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout
