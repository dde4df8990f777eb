from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wideloop.manifests.kubernetes.jobs import FILES_PORT, files_pod
from wideloop.manifests.kubernetes.options import ClusterOptions

KEY = "5c0f8a1e-uid-of-the-pod"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files" / "d"


@pytest.fixture
def port(root: Path) -> Iterator[int]:
    """The very command of the pod, run here on a folder of the test's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    pod = files_pod("d", ClusterOptions(files_mount=str(root.parent)), "image", {})
    _, *command = pod["spec"]["containers"][0]["command"]
    arguments = [str(number) if argument == str(FILES_PORT) else argument for argument in command]
    (variable,) = pod["spec"]["containers"][0]["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    server = subprocess.Popen([sys.executable, *arguments], env={**os.environ, variable["name"]: KEY})
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", number)).close()
                break
            except ConnectionRefusedError:
                continue
        yield number
    finally:
        server.kill()
        server.wait()


def ask(port: int, method: str, path: str, key: str = KEY) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, f"{path}?key={key}")
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_lists_and_hands_out_what_lies_below_a_folder(port: int, root: Path) -> None:
    (root / "decode" / "pod-1").mkdir(parents=True)
    content = os.urandom(5_000_000)
    (root / "decode" / "pod-1" / "a b.pt").write_bytes(content)
    status, listed = ask(port, "GET", "/list/decode")
    (entry,) = json.loads(listed)["files"]
    assert (status, entry["path"], entry["bytes"]) == (200, "pod-1/a b.pt", len(content))
    assert ask(port, "GET", "/file/decode/pod-1/a%20b.pt") == (200, content)


def test_a_folder_that_nobody_has_made_is_empty(port: int) -> None:
    assert ask(port, "GET", "/list/clients/x") == (200, b'{"files": []}')


def test_it_forgets_a_folder_and_all_of_them(port: int, root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "f").write_text("x")
    assert ask(port, "POST", "/remove/a")[0] == 200
    assert [p.name for p in root.iterdir()] == ["b"]
    assert ask(port, "POST", "/remove/")[0] == 200
    assert ask(port, "GET", "/list/") == (200, b'{"files": []}')


@pytest.mark.parametrize("path", ["/file/../../secret", "/file/%2e%2e/%2e%2e/secret", "/file/link"])
def test_nothing_beside_the_folder_is_handed_out(port: int, root: Path, path: str) -> None:
    secret = root.parent.parent / "secret"
    secret.write_text("no")
    (root / "link").symlink_to(secret)
    status, text = ask(port, "GET", path)
    assert status == 403
    assert text != b"no"


def test_links_are_not_listed_and_other_paths_are_not_there(port: int, root: Path) -> None:
    (root / "link").symlink_to("/etc")
    assert ask(port, "GET", "/list/")[1] == b'{"files": []}'
    assert ask(port, "GET", "/file/nope")[0] == 404
    assert ask(port, "POST", "/other/")[0] == 404
    assert ask(port, "POST", "/remove/../..")[0] == 403


def test_engines_of_another_user_may_write_beside_it(port: int, root: Path) -> None:
    for folder in (root, root.parent / "kernel-cache"):
        assert folder.stat().st_mode & 0o7777 == 0o1777
    make = "import os, pathlib, sys; os.setuid(1000); [pathlib.Path(p).mkdir(parents=True) for p in sys.argv[1:]]"
    if os.getuid() == 0:
        for folder in root.parents:
            folder.chmod(folder.stat().st_mode | 0o011)
        made = [str(root / "decode" / "pod-1"), str(root.parent / "kernel-cache" / "0123")]
        subprocess.run([sys.executable, "-c", make, *made], check=True)
        assert ask(port, "POST", "/remove/decode")[0] == 200


@pytest.mark.parametrize("key", ["", "another", KEY[:-1], KEY + "0", "%C3%A4"])
def test_without_its_key_it_shows_and_removes_nothing(port: int, root: Path, key: str) -> None:
    (root / "decode").mkdir(parents=True, exist_ok=True)
    (root / "decode" / "a").write_text("recording")
    for method, path in (
        ("GET", "/list/decode"),
        ("GET", "/file/decode/a"),
        ("POST", "/remove/"),
        ("POST", "/remove/decode"),
    ):
        assert ask(port, method, path, key)[0] == 403
    assert (root / "decode" / "a").read_text() == "recording"
